"""Every supervised stream in a small form."""

import plugged
import torch

from lop.plan import BENCHMARKS

NAMES = [name for name, benchmark in BENCHMARKS.items() if benchmark.kind == "supervised"]
SMALL = {
    "permuted_mnist": {"batch_size": 7, "num_tasks": 5},
    "permuted_digits": {},
    "growing": {"num_tasks": 6, "examples": 120, "batch_size": 7, "epochs": 2},
    "warm_start": {"num_tasks": 6, "examples": 120, "batch_size": 7, "epochs": 2, "first_epochs": 3},
    "label_permuted": {"steps_per_task": 9, "batch_size": 7, "num_tasks": 6},
    "incremental_cifar": {"train_per_class": 4, "validation_per_class": 2, "batch_size": 7, "epochs": 2},
    "imagenet": {"batch_size": 5, "num_tasks": 12},
    "tiny_imagenet": {"classes_per_task": 3, "batch_size": 5, "num_tasks": 12},
    "slowly_changing_regression": {"flip_every": 50, "num_tasks": 6},
    "random_label_mnist": {"num_examples": 40, "num_tasks": 6},
    "random_label_cifar": {"num_examples": 40, "num_tasks": 6},
    "five_plus_one_cifar": {"batch_size": 4, "steps_per_task": 14},
} | {name: plugged.options.get(name, {}) for name in plugged.names}
EMBEDDED = ("permuted_digits", "label_permuted", "growing", "warm_start", "slowly_changing_regression", *plugged.names)
OWN_DATA = {name: {} if name in EMBEDDED else {"verify": False} for name in NAMES}


def content(task):
    """Everything a task can be asked for, as one flat list of tensors."""
    batches = [task.batches(e) for e in range(min(2, task.epochs))]
    batches += [task.evaluation(split) for split in ("train", "validation", "test")]
    return [*task.reference(6), *(t for group in batches for pair in group for t in pair)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
