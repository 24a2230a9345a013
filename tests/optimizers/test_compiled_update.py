"""`compile=True`: the same steps as without, from kernels that are made once."""

import pytest
import torch
from optimizer_problems import Problem

from lop.optimizers import compiled
from lop.utils.errors import UserError


@pytest.fixture
def uncached_kernels():
    """Kernels of another test must not serve, nor stay."""
    compiled._kernel.cache_clear()
    torch._dynamo.reset()
    yield
    compiled._kernel.cache_clear()
    torch._dynamo.reset()


@pytest.fixture
def only_traced(monkeypatch, uncached_kernels):
    """The graph is made and guarded as ever, but run operation by operation: no time for the C++ compiler."""

    compile_with = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic, options: compile_with(function, dynamic=dynamic, backend="eager")
    )


def compare(name: str, **options) -> None:
    """Twelve steps with a step size that changes in each, plain and compiled."""
    problems = [Problem(name, compile=on, **options) for on in (False, True)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(p.optimizer, 0.9) for p in problems]
    start = problems[0].values()
    for _ in range(12):
        for problem, scheduler in zip(problems, schedulers, strict=True):
            problem.run(1)
            scheduler.step()
    plain, fused = (problem.values() for problem in problems)
    for a, b, before in zip(plain, fused, start, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
        assert not torch.equal(b, before)


def test_compiled_once_and_equal(uncached_kernels):
    with torch._dynamo.config.patch(error_on_recompile=True):
        compare("sophiah", lazy_hessian=5, lr=0.01, weight_decay=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adahessian", {"hessian_power": 0.5, "weight_decay": 0.1}),
        ("sophiag", {"clip_threshold": 0.5}),
        ("sassha", {"hessian_power": 0.7, "weight_decay": 0.1}),
        ("msassha", {}),
    ],
)
def test_traced_once_and_equal(name, options, only_traced):
    with torch._dynamo.config.patch(error_on_recompile=True):
        compare(name, lazy_hessian=5, lr=0.01, **options)


@pytest.mark.parametrize("name", ["adahessian", "sassha"])
def test_reset_entries_of_a_compiled_update(name, only_traced):
    problems = [Problem(name, compile=on, lazy_hessian=3, lr=0.01) for on in (False, True)]
    unit = torch.zeros(8, 1, dtype=torch.bool)
    unit[2] = True
    for problem in problems:
        problem.run(4)
        problem.optimizer.reset_entries(problem.net[0].weight, unit)
        problem.run(6)
    for a, b in zip(problems[0].values(), problems[1].values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)


def test_no_compiler_is_one_line(monkeypatch, uncached_kernels):
    def broken(*args, **options):
        raise RuntimeError("no C++ compiler found\n\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    problem = Problem("sophiah", compile=True)
    before = problem.values()
    with pytest.raises(UserError, match=r"^compile does not work .*: no C\+\+ compiler found$"):
        problem.run(1)
    assert all(torch.equal(a, b) for a, b in zip(problem.values(), before, strict=True))


def test_a_power_that_changes_is_no_constant():
    with pytest.raises(UserError, match=r"^compile needs hessian_power_schedule constant"):
        Problem("sassha", compile=True, hessian_power_schedule="linear", hessian_power_end=1.0, schedule_steps=10)
