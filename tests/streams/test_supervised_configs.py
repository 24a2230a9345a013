"""Every config that the supervised benchmarks ship, run in a small form on generated data in the real formats."""

from pathlib import Path

import pytest
from generated_data import write_data

import lop
from lop.plan import BENCHMARKS, make_config
from lop.runner import run

PACKAGE = Path(lop.__file__).parent
OURS = [b.stream.__module__.split(".") for b in BENCHMARKS.values() if b.kind == "supervised"]
FOLDERS = sorted({module[1] for module in OURS if module[0] == "lop"})  # a plugin's are its own
CONFIGS = sorted(p for folder in FOLDERS for p in (PACKAGE / folder / "cfg").rglob("*.json"))
SMALL_STREAM = {
    "permuted_mnist": {"batch_size": 10, "examples_per_task": 30, "num_tasks": 2},
    "permuted_digits": {"examples_per_task": 48, "num_tasks": 2},
    "incremental_cifar": {
        "train_per_class": 4,
        "validation_per_class": 2,
        "batch_size": 10,
        "epochs": 2,
        "num_tasks": 2,
    },
    "imagenet": {"batch_size": 8, "epochs": 2, "num_tasks": 2},
    "tiny_imagenet": {"classes_per_task": 3, "batch_size": 9, "epochs": 2, "num_tasks": 2},
    "slowly_changing_regression": {"flip_every": 6, "num_tasks": 2},
    "growing": {"examples": 60, "epochs": 1, "batch_size": 5, "num_tasks": 2},
    "warm_start": {"examples": 100, "epochs": 1, "first_epochs": 2, "batch_size": 5, "num_tasks": 2},
    "label_permuted": {"steps_per_task": 3, "batch_size": 2, "num_tasks": 2},
    "random_label_mnist": {"num_examples": 32, "epochs": 2, "num_tasks": 2},
    "random_label_cifar": {"num_examples": 32, "epochs": 2, "num_tasks": 2},
    "five_plus_one_cifar": {"batch_size": 3, "steps_per_task": 5, "num_tasks": 2},
}
GENERATED = ("permuted_digits", "slowly_changing_regression")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_data(folder)


def small(path: Path, data_dir: Path, results: Path) -> dict:
    """Overrides that keep the method and shrink everything else."""
    config = make_config(path)
    options = dict(SMALL_STREAM[config.benchmark.name])
    if config.benchmark.name not in GENERATED:
        options["verify"] = False
    overrides = {f"benchmark.{key}": value for key, value in options.items()}
    net = config.net
    if net.name == "mlp":
        overrides["net.hidden"] = [min(width, 8) for width in net.options["hidden"]]
    elif net.name == "resnet18":
        overrides |= {"net.width": 2, "net.blocks": [1, 1]}
    else:
        overrides |= {
            "net.channels": [4] * len(net.options["channels"]),
            "net.hidden": [6] * len(net.options["hidden"]),
        }
    overrides |= {"run.data_dir": str(data_dir), "run.results_dir": str(results), "run.diagnostics": False}
    return overrides


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_config_runs(path, data_dir, tmp_path):
    result = run(make_config(path, overrides=small(path, data_dir, tmp_path)), summaries=False)
    assert result.status == "finished"
    assert len(result.tasks) == 2
    assert result.tasks["online_loss"].notna().all()


def test_the_methods_of_the_specification_are_there():
    names = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/cfg", "") for path in CONFIGS}
    second_order = ("adahessian", "sophiah", "sassha", "kfac", "shampoo")
    wanted = {
        f"permuted_mnist/{m}" for m in ("bp", "bp_step_size_0.001", "bp_step_size_0.01", "adam", "l2", "snp", "cbp")
    }
    wanted |= {f"permuted_mnist/secondorder_{o}{sdp}" for o in second_order for sdp in ("", "_sdp")}
    wanted |= {
        f"incremental_cifar/{m}"
        for m in (
            "base_deep_learning_system",
            "continual_backpropagation",
            "shrink_and_perturb",
            "head_resetting",
            "retrained_network",
        )
    }
    wanted |= {
        f"incremental_cifar/{o}_{sdp}"
        for o in ("adahessian", "sophia", "sassha", "kfac", "shampoo")
        for sdp in ("sdp", "nosdp")
    }
    wanted |= {f"imagenet/{m}" for m in ("bp", "l2", "snp", "cbp", *(f"secondorder_{o}" for o in second_order))}
    activations = ("relu", "tanh", "sigmoid", "elu", "leaky_relu", "swish", "linear")
    wanted |= {f"slowly_changing_regression/{a}" for a in activations}
    methods = ("bp", "l2", "l2_init", "l2_init_resample", "l1_init", "huber_init", "hybrid_init", "shrink_and_perturb")
    methods += ("cbp", "redo", "layer_norm", "crelu", "ewc", "l2_init_ewc")
    for folder in ("random_labels/mnist", "random_labels/cifar", "five_plus_one"):
        wanted |= {f"{folder}/{m}" for m in methods}
    assert wanted <= names
