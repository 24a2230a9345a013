"""What Kumar et al. (2023) published; see `published_values`."""

from published_values import Sweep, algo, sgd

TABLE = {}

# Kumar: the family of L2 Init. load_data.py: MNIST to [-1, 1], CIFAR by mean and std; nets: torch's own initial weights
ADAM, SGD = {"optimizer.name": "adam", "optimizer.lr": Sweep((1e-3, 1e-4))}, sgd(Sweep((1e-2, 1e-3)))
MNIST_INPUTS = {"benchmark.mean": [0.5], "benchmark.std": [0.5]}
CIFAR_INPUTS = {"benchmark.mean": [0.4914, 0.4822, 0.4465], "benchmark.std": [0.247, 0.243, 0.261]}
SMALL_MLP = {"net.name": "mlp", "net.hidden": [100, 100], "net.activation": "relu", "net.init": "torch_default"}
SMALL_CNN = {
    "net.name": "cnn",
    "net.channels": (16, 16),
    "net.kernel_sizes": (5, 5),
    "net.hidden": (100, 100),
    "net.activation": "relu",
    "net.init": "torch_default",
}
KUMAR_PERMUTED = MNIST_INPUTS | {
    "benchmark.num_tasks": 500,
    "benchmark.examples_per_task": 10_000,
    "benchmark.redraw": True,
    "benchmark.permute_first": False,
    "benchmark.epochs": 1,
    "benchmark.batch_size": 16,
    "metrics.reference_size": 1000,  # environments/permuted_mnist.py: 1,000 test images
}
LABELS = {
    "benchmark.num_tasks": 50,
    "benchmark.num_examples": 1200,
    "benchmark.epochs": 400,
    "benchmark.batch_size": 16,
    "benchmark.labels": "permuted",
    "metrics.reference_size": 1200,  # all images
}
FIVE = CIFAR_INPUTS | {  # the paper's 780 steps of 32; the code's default is 625 steps of 16
    "benchmark.num_tasks": 30,
    "benchmark.hard_classes": 5,
    "benchmark.easy_classes": 1,
    "benchmark.steps_per_task": 780,
    "benchmark.batch_size": 32,
    "metrics.reference_size": 500,  # the test images of a hard task
}
DECADES = Sweep((1e-2, 1e-3, 1e-4, 1e-5))
CBP_KUMAR = {"maturity_threshold": 100, "decay": 0.99, "util_type": "adaptable_contribution"}
RATES = Sweep((0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6))


def family(stream, net, crelu, *, accumulate, redo, l1=DECADES, shrink=DECADES, scale=DECADES, l2=DECADES):
    """The ten methods of one problem. accumulate: convGnT.py accumulates replacements, gnt.py is told not to."""
    common = stream | net
    if redo is not None:
        redo = {"period": redo, "threshold": Sweep((0.0, 0.01, 0.1))}
    return {
        "baseline": common,
        "l2": common | algo("l2", weight=l2),
        "l2_init": common | algo("l2_init", weight=DECADES, resample=False),
        "l2_init_resample": common | algo("l2_init", weight=DECADES, resample=True),
        "l1_init": common | algo("l1_init", weight=l1),
        "layer_norm": common | {"net.layer_norm": True},
        "crelu": common | {"net.activation": "crelu"} | crelu,
        "shrink_and_perturb": common
        | algo("shrink_and_perturb", form="init", shrink=shrink, scale=scale, every="step"),
        "redo": common | algo("redo", weights="original", **(redo or {})),
        "cbp": common | algo("cbp", replacement_rate=RATES, accumulate=accumulate, **CBP_KUMAR),
    }


def kumar(folder, methods, optimizers, rename=None):
    return {
        f"{folder}/{prefix}{(rename or {}).get(name, name)}": values | optimizer
        for prefix, optimizer in optimizers.items()
        for name, values in methods.items()
    }


# parallel_runs_permuted_mnist.py: fraction_to_remove 0.18 of CReLU's 100 units
permuted = family(
    KUMAR_PERMUTED,
    SMALL_MLP,
    {"net.hidden": [82, 82]},
    accumulate=False,
    redo=Sweep((625, 3125)),
    l2=Sweep((0.1, *DECADES)),
)
TABLE |= kumar("permuted_mnist/cfg/l2_init", permuted, {"": ADAM, "sgd_": SGD})
# parallel_runs_random_label_mnist.py: 0.09 of 100 units; shrink 1e-4 and scale 1e-2, L1 Init 1e-3
labels_mnist = family(
    LABELS | MNIST_INPUTS,
    SMALL_MLP,
    {"net.hidden": [91, 91]},
    accumulate=False,
    redo=Sweep((780, 30_000)),  # the script's, and the paper's best
    l1=1e-3,
    shrink=1e-4,
    scale=1e-2,
)
TABLE |= kumar("random_labels/cfg/mnist", labels_mnist, {"": ADAM}, {"baseline": "bp"})
# parallel_runs_random_label_cifar.py: 0.28 of 16 channels and 100 units
labels_cifar = family(
    LABELS | CIFAR_INPUTS,
    SMALL_CNN,
    {"net.channels": [11, 11], "net.hidden": [72, 72]},
    accumulate=True,
    redo=Sweep((30_000, 60_000)),
)
TABLE |= kumar("random_labels/cfg/cifar", labels_cifar, {"": ADAM}, {"baseline": "bp"})
# 5+1 CIFAR has no script: CReLU by the rule of concat_relu_network_calculation.py, the sweeps of the others
five = family(FIVE, SMALL_CNN, {"net.channels": [11, 11], "net.hidden": [69, 69]}, accumulate=True, redo=None)
TABLE |= kumar("five_plus_one/cfg", five, {"": ADAM}, {"baseline": "bp"})
TABLE |= {
    "random_labels/cfg/mnist/bp_sgd": LABELS | MNIST_INPUTS | SMALL_MLP | SGD,
    "random_labels/cfg/cifar/bp_sgd": LABELS | CIFAR_INPUTS | SMALL_CNN | SGD,
    "five_plus_one/cfg/bp_sgd": FIVE | SMALL_CNN | SGD,
}
# parallel_runs_continual_imagenet.py: 120 steps of 100 of 1,200 images; 200 test images
KUMAR_IMAGENET = {
    "benchmark.num_tasks": 500,
    "benchmark.classes_per_task": 2,
    "benchmark.epochs": 10,
    "benchmark.batch_size": 100,
    "metrics.reference_size": 200,
}
TABLE |= {
    "imagenet/cfg/l2_init_baseline": KUMAR_IMAGENET | SMALL_CNN | ADAM,
    "imagenet/cfg/l2_init": KUMAR_IMAGENET | SMALL_CNN | ADAM | algo("l2_init", weight=DECADES),
}

# Kumar's tables 3 and 4: the best of each sweep over three seeds: step size, then (in TUNED's order) its own options
TUNED = {
    "baseline": (),
    "layer_norm": (),
    "l2_init": ("weight",),
    "l2": ("weight",),
    "shrink_and_perturb": ("shrink", "scale"),
    "cbp": ("replacement_rate",),
    "crelu": (),
    "redo": ("period", "threshold"),
}
BEST = {
    "permuted_mnist/cfg/l2_init/sgd_": (
        [1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2],
        [(), (), (1e-2,), (1e-2,), (1e-4, 1e-2), (1e-3,), (), (625, 0.0)],
    ),
    "permuted_mnist/cfg/l2_init/": (
        [1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3],
        [(), (), (1e-2,), (1e-2,), (1e-3, 1e-2), (1e-3,), (), (625, 0.0)],
    ),
    "random_labels/cfg/mnist/": (
        [1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3],
        [(), (), (1e-2,), (1e-2,), (1e-4, 1e-2), (1e-3,), (), (30_000, 0.1)],
    ),
    "random_labels/cfg/cifar/": (
        [1e-3, 1e-3, 1e-3, 1e-4, 1e-3, 1e-3, 1e-3, 1e-4],
        [(), (), (1e-2,), (1e-2,), (1e-4, 1e-2), (1e-4,), (), (30_000, 0.1)],
    ),
    "five_plus_one/cfg/": (
        [1e-4, 1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3],
        [(), (), (1e-2,), (1e-3,), (1e-4, 1e-2), (1e-4,), (), (1560, 0.0)],
    ),
}
for prefix, (step_sizes, options) in BEST.items():
    for (name, keys), lr, values in zip(TUNED.items(), step_sizes, options, strict=True):
        config = prefix + (name if "permuted" in prefix or name != "baseline" else "bp")
        TABLE[config] |= {"optimizer.lr": lr} | algo(name, **dict(zip(keys, values, strict=True)))
SGD_BEST = {"random_labels/cfg/mnist": 1e-3, "random_labels/cfg/cifar": 1e-2, "five_plus_one/cfg": 1e-2}
for folder, lr in SGD_BEST.items():
    TABLE[f"{folder}/bp_sgd"]["optimizer.lr"] = lr
TABLE["imagenet/cfg/l2_init_baseline"]["optimizer.lr"] = 1e-4
TABLE["imagenet/cfg/l2_init"] |= {"optimizer.lr": 1e-3} | algo("l2_init", weight=1e-3)
# Kumar's table 2: Adam 1e-3, not tuned
for name, options in (("ewc", {}), ("l2_init_ewc", {"l2_weight": 1e-3})):
    TABLE[f"permuted_mnist/cfg/l2_init/{name}"] = (
        KUMAR_PERMUTED | SMALL_MLP | ADAM | {"optimizer.lr": 1e-3} | algo(name, weight=10.0, fisher=True, **options)
    )
