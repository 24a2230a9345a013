"""`python tests/gpu/check.py` as tests: on a GPU whole, without one as far as a pretended one goes."""

import importlib
from functools import partial

import pytest
import torch
from agreement import metrics, streams
from behaviour import resume
from cases import PRETENDED, Check
from check import CHECKS, main


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("name", CHECKS)
def test_on_a_gpu(name):
    assert [line for check in CHECKS[name]("cuda") for line in check.failed] == []


@pytest.mark.parametrize("check", [metrics, streams, partial(resume, names=["adam", "sassha", "kfac"])])
def test_on_a_pretended_gpu(check):
    found = list(check(PRETENDED))
    assert [line for check in found for line in check.failed] == []
    assert all(check.cases for check in found)


def test_a_check_tells_what_failed_and_how():
    check = Check("a check", tolerance=0.5)
    check.add("near", lambda: 0.25)
    check.add("far", lambda: 0.75)
    check.add("not a number", lambda: float("nan"))
    check.add("broken", lambda: 1 // 0)
    assert (check.cases, check.worst, check.worst_case) == (4, 0.75, "far")
    assert [line.split(":")[0] for line in check.failed] == ["far", "not a number", "broken"]
    assert "ZeroDivisionError" in check.failed[-1]


def test_the_command_says_where_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert main() == 2
    assert "--device pretended" in capsys.readouterr().err


def test_the_benchmark_prints_its_table_on_the_cpu(monkeypatch, capsys):
    gpu = importlib.import_module("gpu")
    small = "--device cpu --nets mlp100 --optimizers sgd --members 1,2 --rounds 1 --repeats 1 --side 64 --bf16"
    monkeypatch.setattr("sys.argv", ["gpu.py", *small.split()])
    gpu.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [line[:4] for line in lines] == [
        ["mlp100", "float32", "bare", "1"],
        ["mlp100", "float32", "sgd", "1"],
        ["mlp100", "float32", "sgd", "2"],
        ["mlp100", "bf16", "bare", "1"],
        ["mlp100", "bf16", "sgd", "1"],
    ]
    assert all(float(line[4]) > 0 for line in lines)
    net, x, _ = gpu.PROBLEMS["mlp100"].make(torch.device("cpu"))
    operations, moved = gpu.counted(gpu.PROBLEMS["mlp100"], torch.device("cpu"))
    weights = [p.numel() for p in net.parameters() if p.dim() == 2]
    assert operations == 2 * 32 * (3 * sum(weights) - max(weights))  # nothing is passed back to the inputs
    assert moved == 4 * (6 * sum(p.numel() for p in net.parameters()) + x.numel())
