"""What was published: the values of every shipped supervised config that carries a published method's name.

Sources. Dohare: the configs, launch defaults and nets of github.com/shibhansh/loss-of-plasticity (Dohare et al.
2024). Kumar: config/, environments/, nets/ and utils/commands/train/ of github.com/skumar9876/L2_Init (Kumar et al.
2023). Where their scripts sweep a value, the table holds the whole sweep and ours has to be in it, or the value that
the paper names as the best of the sweep (Kumar's tables 3 and 4). What the table leaves out of a config has no
published value; the READMEs say so.
"""


class Sweep(tuple):
    """Values of which the authors' script tries each."""


def sgd(lr, momentum=0):
    return {"optimizer.name": "sgd", "optimizer.lr": lr, "optimizer.momentum": momentum, "optimizer.weight_decay": 0}


# Dohare, permuted_mnist: cfg/*.json, nets/deep_ffnn.py, online_expr.py (batch 1, 60,000 examples, ranks of 2,000)
PERMUTED = {
    "benchmark.batch_size": 1,
    "benchmark.examples_per_task": None,
    "benchmark.epochs": 1,
    "benchmark.permute_first": True,
    "benchmark.mean": None,
    "net.name": "mlp",
    "net.activation": "relu",
    "net.init": "kaiming_uniform",
    "metrics.reference_size": 2000,
}
WIDE = PERMUTED | {"net.hidden": [2000] * 3, "benchmark.num_tasks": 800}
CBP_MNIST = {"maturity_threshold": 100, "decay": 0.99, "util_type": "adaptable_contribution", "accumulate": True}


def algo(name, **options):
    return {f"algos.{name}.{key}": value for key, value in options.items()}


TABLE = {
    "permuted_mnist/cfg/bp": WIDE | sgd(0.003),
    "permuted_mnist/cfg/bp_step_size_0.01": WIDE | sgd(0.01),
    "permuted_mnist/cfg/bp_step_size_0.001": WIDE | sgd(0.001),
    "permuted_mnist/cfg/bp_small_net": PERMUTED | sgd(Sweep((0.01, 0.003, 0.001))) | {"net.hidden": [100] * 3},
    "permuted_mnist/cfg/bp_width_1000": PERMUTED | sgd(0.003) | {"net.hidden": [1000] * 3},
    "permuted_mnist/cfg/bp_width_10000": PERMUTED | sgd(0.003) | {"net.hidden": [10000] * 3},
    "permuted_mnist/cfg/adam": WIDE
    | {"optimizer.name": "adam", "optimizer.lr": Sweep((1e-4, 3e-5, 5e-5)), "optimizer.betas": (0.9, 0.999)},
    "permuted_mnist/cfg/l2": WIDE | sgd(0.003) | algo("l2", weight=Sweep((1e-3, 1e-4, 1e-5))),
    "permuted_mnist/cfg/snp": WIDE
    | sgd(0.003)
    | algo("l2", weight=1e-4)
    | algo("shrink_and_perturb", form="noise", shrink=0.0, noise_std=Sweep((1e-4, 1e-5, 1e-6)), every="step"),
    "permuted_mnist/cfg/cbp": WIDE | sgd(0.003) | algo("cbp", replacement_rate=Sweep((1e-4, 1e-5, 1e-6)), **CBP_MNIST),
}

# Dohare, imagenet: cfg/*.json, single_expr.py, nets/conv_net.py (torch's own initial weights); convGnT.py accumulates
IMAGENET = {
    "benchmark.classes_per_task": 2,
    "benchmark.epochs": 250,
    "benchmark.batch_size": 100,
    "benchmark.train_per_class": None,
    "net.name": "convnet",
    "net.channels": (32, 64, 128),
    "net.kernel_sizes": (5, 3, 3),
    "net.hidden": (128, 128),
    "net.init": "torch_default",
    "algos.head_reset.zero": True,
}
TABLE |= {
    "imagenet/cfg/bp": IMAGENET | sgd(0.01, 0.9) | {"benchmark.num_tasks": 2000},
    "imagenet/cfg/bp_step_size_0.001": IMAGENET | sgd(0.001, 0.9) | {"benchmark.num_tasks": 2000},
    "imagenet/cfg/bp_step_size_0.0001": IMAGENET | sgd(0.0001, 0.9) | {"benchmark.num_tasks": 2000},
    "imagenet/cfg/l2": IMAGENET | sgd(0.03, 0.9) | {"benchmark.num_tasks": 5000} | algo("l2", weight=3e-6),
    "imagenet/cfg/snp": IMAGENET
    | sgd(0.01, 0.9)
    | {"benchmark.num_tasks": 5000}
    | algo("l2", weight=1e-5)
    | algo("shrink_and_perturb", form="noise", shrink=0.0, noise_std=1e-5, every="step"),
    "imagenet/cfg/cbp": IMAGENET
    | sgd(0.01, 0.9)
    | {"benchmark.num_tasks": 5000}
    | algo("cbp", replacement_rate=3e-4, **CBP_MNIST),
}

# Dohare, incremental_cifar: cfg/*.json, incremental_cifar_experiment.py, res_gnt.py, post_run_analysis.py (of 1,000)
CIFAR = {
    "benchmark.classes_per_increment": 5,
    "benchmark.num_tasks": None,
    "benchmark.epochs": 200,
    "benchmark.batch_size": 90,
    "benchmark.train_per_class": 450,
    "benchmark.validation_per_class": 50,
    "benchmark.augment": True,
    "net.name": "resnet18",
    "net.width": 64,
    "net.blocks": (2, 2, 2, 2),
    "net.init": "kaiming_normal",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "metrics.reference_size": 1000,
} | algo("step_schedule", milestones=[60, 120, 160], factor=0.2)
CIFAR |= {"algos.early_stopping.metric": "accuracy"}
TABLE |= {
    "incremental_cifar/cfg/base_deep_learning_system": CIFAR,
    "incremental_cifar/cfg/head_resetting": CIFAR | {"algos.head_reset.zero": False},
    "incremental_cifar/cfg/retrained_network": CIFAR | {"algos.network_reset.name": "network_reset"},
    "incremental_cifar/cfg/shrink_and_perturb": CIFAR
    | algo("shrink_and_perturb", form="noise", shrink=0.0, noise_std=1e-5, every="step"),
    "incremental_cifar/cfg/continual_backpropagation": CIFAR
    | {"net.residual_readers": "next"}
    | algo(
        "cbp", replacement_rate=1e-5, maturity_threshold=1000, util_type="contribution", decay=0.99, accumulate=True
    ),
}

# Dohare, slowly_changing_regression: cfg/sgd, cfg/adam, cfg/flip_one and expr.py, whose maturity is 10 unless a config
# has `mt` (none has: `maturity_threshold` is not read) and which does not accumulate
REGRESSION = {
    "benchmark.num_tasks": 100,
    "benchmark.flip_every": 10_000,
    "benchmark.flip": "all",
    "benchmark.num_inputs": 20,
    "benchmark.slow_bits": 15,
    "benchmark.target_units": 100,
    "benchmark.beta": 0.7,
    "benchmark.batch_size": 1,
    "net.name": "mlp",
    "net.hidden": [5],
    "net.init": "kaiming_uniform",
}
STEPS = Sweep((0.01, 0.003, 0.001))
RELU = REGRESSION | {"net.activation": "relu"}
TABLE |= {
    f"slowly_changing_regression/cfg/{name}": REGRESSION | sgd(STEPS) | {"net.activation": name}
    for name in ("relu", "tanh", "sigmoid", "elu", "leaky_relu", "swish")
}
TABLE |= {
    "slowly_changing_regression/cfg/linear": REGRESSION | sgd(STEPS) | {"net.hidden": []},
    "slowly_changing_regression/cfg/relu_step_size_0.003": RELU | sgd(0.003),
    "slowly_changing_regression/cfg/relu_step_size_0.001": RELU | sgd(0.001),
    "slowly_changing_regression/cfg/tanh_step_size_0.003": REGRESSION | sgd(0.003) | {"net.activation": "tanh"},
    "slowly_changing_regression/cfg/relu_flip_one": RELU
    | sgd(STEPS)
    | {"benchmark.num_tasks": 300, "benchmark.flip": "one"},
    "slowly_changing_regression/cfg/relu_adam": RELU | {"optimizer.name": "adam", "optimizer.lr": STEPS},
    "slowly_changing_regression/cfg/relu_l2": RELU
    | sgd(0.01)
    | algo("l2", weight=Sweep((1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0))),
    "slowly_changing_regression/cfg/relu_snp": RELU
    | sgd(0.01)
    | algo("l2", weight=1e-2)
    | algo("shrink_and_perturb", form="noise", shrink=0.0, noise_std=Sweep((1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1))),
    "slowly_changing_regression/cfg/relu_cbp": RELU
    | sgd(0.01)
    | algo("cbp", replacement_rate=Sweep((1e-6, 1e-5, 1e-4, 1e-3, 1e-2)), maturity_threshold=10, decay=0.99)
    | algo("cbp", util_type="adaptable_contribution", accumulate=False),
}

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
