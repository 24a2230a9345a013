"""The error curves of many seeds at once: `python -m lop.slowly_changing_regression.many_seeds relu 0.01 --seeds 30`.

Plain SGD only; each seed's curve is that of a run of its own with `run.seed`, within float32 rounding.
"""

import argparse
import sys
from functools import partial

import numpy as np
import pandas as pd

from lop.nets import MLP
from lop.nets.init import initialise_
from lop.slowly_changing_regression.fast import ACTIVATIONS, StackedNets, online_lms, online_sgd, with_bias
from lop.slowly_changing_regression.stream import SlowlyChangingRegression
from lop.utils.errors import UserError, lookup
from lop.utils.seeding import make_generator


def error_curves(
    activation: str, lr: float, seeds: list[int], *, num_tasks: int = 100, bin_steps: int = 20_000, **options
) -> pd.DataFrame:
    """Columns seed, step (the bin's last), loss (mean squared error of the bin); one row per seed and full bin.

    activation: of the five hidden units; "linear" is the linear learner, which has none. options: of
    SlowlyChangingRegression. Raises UserError for an unknown activation and bad options.
    """
    lookup(ACTIVATIONS, activation, "activation")
    streams = [SlowlyChangingRegression(seed, None, "cpu", num_tasks=num_tasks, **options) for seed in seeds]
    hidden = [] if activation == "linear" else [5]
    nets = [MLP(streams[0].input_shape, 1, hidden=hidden, activation=activation) for _ in seeds]
    for net, seed in zip(nets, seeds, strict=True):
        initialise_(net, make_generator(seed, "net"))
    if hidden:
        learn = partial(online_sgd, StackedNets.of(nets))
    else:
        learn = partial(online_lms, np.concatenate([with_bias(net.output_layer()) for net in nets]))
    errors = []
    for k in range(num_tasks):
        tasks = [stream.task(k) for stream in streams]
        x = np.stack([task.x.numpy() for task in tasks])
        y = np.stack([task.y[:, 0].numpy() for task in tasks])
        errors.append(learn(x, y, lr))
    losses = np.concatenate(errors, axis=1).astype(np.float64)
    bins = losses.shape[1] // bin_steps
    means = losses[:, : bins * bin_steps].reshape(len(seeds), bins, bin_steps).mean(2)
    return pd.DataFrame(
        {
            "seed": np.repeat(seeds, bins),
            "step": np.tile(np.arange(1, bins + 1) * bin_steps, len(seeds)),
            "loss": means.reshape(-1),
        }
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("activation", help=", ".join(ACTIVATIONS))
    parser.add_argument("lr", type=float, help="step size")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 .. n-1")
    parser.add_argument("--tasks", type=int, default=100, help="of 10,000 examples each")
    parser.add_argument("--flip", choices=["all", "one"], default="all")
    parser.add_argument("--no-half-bias", action="store_true", help="thresholds as in the paper's text")
    parser.add_argument("--csv", help="write all curves to this file")
    given = parser.parse_args(arguments)
    try:
        curves = error_curves(
            given.activation,
            given.lr,
            list(range(given.seeds)),
            num_tasks=given.tasks,
            flip=given.flip,
            half_bias=not given.no_half_bias,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.csv:
        curves.to_csv(given.csv, index=False)
    by_step = curves.groupby("step")["loss"]
    print(pd.DataFrame({"mean": by_step.mean(), "standard error": by_step.sem()}).round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
