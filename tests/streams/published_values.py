"""What was published: the values of every shipped supervised config that carries a published method's name.

Sources. Dohare: the configs, launch defaults and nets of github.com/shibhansh/loss-of-plasticity (Dohare et al.
2024). Kumar: config/, environments/, nets/ and utils/commands/train/ of github.com/skumar9876/L2_Init (Kumar et al.
2023). Where their scripts sweep a value, the table holds the whole sweep and ours has to be in it, or the value that
the paper names as the best of the sweep (Kumar's tables 3 and 4). What the table leaves out of a config has no
published value; the READMEs say so. Here stand Dohare's; Kumar's: `published_l2_init`.
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
