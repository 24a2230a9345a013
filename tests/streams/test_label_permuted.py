"""Label permutation: classes change their names, images and their number per class stay."""

import pytest
import torch
from generated_data import write_cifar

from lop.experiment import make_stream
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError


def make(seed=0, **options):
    return make_stream("label_permuted", options, seed, None, "cpu")


def split_of(task, split="train"):
    return tuple(torch.cat(parts) for parts in zip(*task.evaluation(split), strict=True))


def test_every_class_gets_one_name_and_all_splits_the_same():
    stream = make()
    digits = make_stream("permuted_digits", {"permute_first": False}, 0, None, "cpu").task(0)
    for k in (0, 1, 7):
        names = stream.names(k)
        assert sorted(names.tolist()) == list(range(10))
        for split in ("train", "test"):
            x, y = split_of(stream.task(k), split)
            original, true = split_of(digits, split)
            assert torch.equal(x, original)
            assert torch.equal(y, names[true])
    assert not torch.equal(stream.names(0), torch.arange(10))  # published: the first task's labels are permuted, too
    assert len({tuple(stream.names(k).tolist()) for k in range(40)}) == 40


def test_a_task_longer_than_the_data_sees_all_images_before_one_comes_again():
    task = make(steps_per_task=3000).task(2)
    images, labels = task.splits["train"]
    known = {image.numpy().tobytes(): i for i, image in enumerate(images.float().div(255))}
    assert len(known) == len(images) == 1437
    batches = list(task.batches(0))
    rows = [known[x[0].numpy().tobytes()] for x, _ in batches]
    assert len(rows) == 3000
    assert sorted(rows[:1437]) == sorted(rows[1437:2874]) == list(range(1437))
    assert rows[:1437] != rows[1437:2874]
    assert len(set(rows[2874:])) == 126
    assert all(int(y) == int(labels[row]) for row, (_, y) in zip(rows, batches, strict=True))
    later = list(task.batches(0, 2000))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(later, batches[2000:], strict=True))


def test_the_published_form_on_cifar_runs_and_its_convolutions_have_no_nonlinearity(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", classes=10, train=10)
    small = {
        "benchmark.num_tasks": 2,
        "benchmark.steps_per_task": 4,
        "benchmark.verify": False,
        "run.diagnostics": False,
    }
    overrides = small | {"run.data_dir": str(tmp_path), "run.results_dir": str(tmp_path / "r")}
    config = make_config("lop-src/lop/label_permuted/cfg/cifar/bp.json", overrides=overrides)
    assert run(config, summaries=False).status == "finished"
    from lop.experiment import build

    net = build(config).learner.net
    kinds = [type(layer.activation).__name__ for layer in net.hidden_layers()]
    assert kinds == ["Identity", "Identity", "ReLU", "ReLU"]
    assert sum(p.numel() for p in net.parameters()) == 62_006  # LeNet-5's count on three channels


def test_what_cannot_be_is_refused_in_one_line():
    for options, message in (
        ({"steps_per_task": 0}, "steps_per_task must be"),
        ({"batch_size": 2000}, "batch_size must be <= the 1437"),
        ({"transition": {"kind": "inputs"}}, r"transition\.kind must be labels or sampling"),
        ({"transition": {"kind": "labels", "share": 2}}, r"transition\.share must be in \[0, 1\]"),
        ({"transition": {"kind": "labels", "shar": 1}}, r"transition\.shar: unknown key; did you mean 'share'"),
        ({"transition": {"share": 1.0}}, r"transition\.kind: missing"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            make(**options)
