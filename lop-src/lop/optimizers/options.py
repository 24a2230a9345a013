"""The ranges of optimizer options, by name: of this package's optimizers, torch's and other libraries' alike."""

import math
from collections.abc import Sequence
from typing import Any

from lop.utils.errors import UserError, near_matches, shown
from lop.utils.ranges import AMOUNT, COUNT, COUNT_OR_ZERO, DECAY, POSITIVE, SHARE, STEP_SIZE, Range, require

# Keys of a parameter group that are no options: what torch and its schedulers add.
_GROUP_KEYS = {"params", "name", "param_names", "initial_lr"}

# What the name means in every library.
SHARED: dict[str, Range] = {
    **dict.fromkeys(("lr", "weight_decay"), STEP_SIZE),
    **dict.fromkeys(("momentum", "precond_decay"), DECAY),
    **dict.fromkeys(("dampening",), SHARE),
    **dict.fromkeys(("eps", "epsilon", "rho", "rho_end", "hessian_power", "hessian_power_end", "eta"), AMOUNT),
    **dict.fromkeys(("lr_decay", "initial_accumulator_value", "lambd", "t0", "momentum_decay"), AMOUNT),
    **dict.fromkeys(("tolerance_grad", "tolerance_change"), AMOUNT),
    **dict.fromkeys(("max_grad_norm", "clip_threshold", "damping"), POSITIVE),
    **dict.fromkeys(("n_samples", "lazy_hessian", "T_inv", "T_cov", "update_freq", "schedule_steps"), COUNT),
    **dict.fromkeys(("max_iter", "max_eval", "history_size", "ns_steps"), COUNT),
    **dict.fromkeys(("max_precond_dim",), COUNT_OR_ZERO),
}

# What it means here and in torch, but not everywhere: AdEMAMix's alpha is 5.
OWN_AND_TORCH: dict[str, Range] = {
    **SHARED,
    **dict.fromkeys(("alpha", "beta_utility"), DECAY),
    **dict.fromkeys(("sigma", "adam_lr"), AMOUNT),
    **dict.fromkeys(("step_factor",), POSITIVE),
}


def check_values(options: dict[str, Any], *, foreign: bool = False) -> None:
    """Raises UserError, with the option's name, for the first value that makes no sense. None is not set.

    foreign: of another library, where an option may be a list (betas of three, eps of two) that it checks itself.
    """
    for name, allowed in (SHARED if foreign else OWN_AND_TORCH).items():
        value = options.get(name)
        if not isinstance(value, list | tuple):  # Adafactor's eps
            require(allowed, **{name: value})
    if options.get("maximize"):
        raise UserError("must be false: what is learned here is to make a loss small", option="maximize")
    if "betas" in options and not foreign:
        check_betas(options["betas"])
    elif "betas" in options and isinstance(options["betas"], list | tuple):
        _check_decays(options["betas"], SHARE)


def check_betas(value: Any) -> None:
    """Two decays of running averages, of gradients and of squares (or curvature), that fit each other.

    As in Adam's analysis (Kingma & Ba, 2015), beta1^2 <= sqrt(beta2): where squares are forgotten faster than
    gradients, a step is divided by what has nothing to do with it any more.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise UserError(f"must be two numbers, got {shown(value)}", option="betas")
    _check_decays(value, DECAY)
    if value[0] ** 2 > math.sqrt(value[1]):
        advice = "the second, of the squares, must not be much smaller than the first (reversed?)"
        raise UserError(f"must have betas[0]^2 <= sqrt(betas[1]), got {shown(list(value))}: {advice}", option="betas")


def _check_decays(values: Sequence[Any], allowed: Range) -> None:
    for i, beta in enumerate(values):
        require(allowed, **{f"betas[{i}]": beta})


def check_group(group: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Check a parameter group's own options and the defaults it falls back to."""
    known = set(defaults) | _GROUP_KEYS
    for name in group:
        if name not in known:
            raise UserError(f"is not an option of a parameter group: {near_matches(name, defaults)}", option=name)
    check_values({**defaults, **group})
