"""Initial distributions of weights, kept with each layer so that it can be drawn from again at any time."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lop.utils.ranges import require_choice

SCHEMES = ("kaiming_uniform", "kaiming_normal", "lecun_uniform", "xavier_uniform", "orthogonal", "torch_default")


@dataclass(frozen=True)
class Init:
    """How one layer's parameters are distributed at the start.

    `kaiming_*` (He 2015) and `xavier_uniform` (Glorot 2010) scale with the gain of `nonlinearity`;
    `lecun_uniform` (LeCun 1998) has variance 1/fan_in; `orthogonal` (Saxe 2014) has orthonormal rows or columns,
    whichever are fewer, times `gain` (None: sqrt(2) before a nonlinearity, 1 at a linear head, whatever the
    nonlinearity is: the habit of PPO's implementations); biases are 0. `torch_default` is what torch's layers do by
    themselves: weights and biases uniform in +-1/sqrt(fan_in). gain: of `orthogonal` alone.
    """

    scheme: str = "kaiming_uniform"
    nonlinearity: str = "relu"
    gain: float | None = None

    def __post_init__(self):
        require_choice(tuple(SCHEMES), init=self.scheme)

    def std(self, fan_in: int, fan_out: int) -> float:
        """Standard deviation of a weight whose entries are drawn independently of each other."""
        gain = _gain(self.nonlinearity)
        if self.scheme in ("kaiming_uniform", "kaiming_normal"):
            return gain / math.sqrt(fan_in)
        if self.scheme == "lecun_uniform":
            return 1 / math.sqrt(fan_in)
        if self.scheme == "xavier_uniform":
            return gain * math.sqrt(2 / (fan_in + fan_out))
        return 1 / math.sqrt(3 * fan_in)

    def bias_bound(self, fan_in: int) -> float:
        return 1 / math.sqrt(fan_in) if self.scheme == "torch_default" else 0.0


def _gain(nonlinearity: str) -> float:
    # ELU, swish and GELU have no agreed gain; ReLU's is the field's habit. CReLU keeps both signs, so nothing is lost;
    # nor is it of a sine and a cosine together. The others begin near ReLU, or as tanh.
    if nonlinearity == "leaky_relu_0.1":
        return nn.init.calculate_gain("leaky_relu", 0.1)
    names = dict.fromkeys(("elu", "swish", "gelu", "smooth_leaky", "prelu", "adalin_relu"), "relu")
    names |= {"crelu": "linear", "fourier": "linear", "adalin": "tanh"}
    known: Any = names.get(nonlinearity, nonlinearity)  # torch lists its names, and refuses others
    return nn.init.calculate_gain(known)


def _fans(weight: Tensor) -> tuple[int, int]:
    positions = weight[0, 0].numel()
    return weight.shape[1] * positions, weight.shape[0] * positions


def linear(in_features: int, out_features: int, init: Init, bias: bool = True) -> nn.Linear:
    """An nn.Linear that remembers its Init; its values are undefined until `initialise_` is called."""
    return remember(_undefined(nn.Linear(in_features, out_features, bias=bias, device="meta")), init)


def conv2d(in_channels: int, out_channels: int, kernel_size: int, init: Init, **options) -> nn.Conv2d:
    """An nn.Conv2d that remembers its Init; its values are undefined until `initialise_` is called."""
    return remember(_undefined(nn.Conv2d(in_channels, out_channels, kernel_size, device="meta", **options)), init)


def _undefined(layer: Any) -> Any:
    """The layer, built on the meta device, with memory for its parameters: nothing was drawn.

    As `nn.utils.skip_init` does it, but for its half a second at the first layer: torch's symbolic shapes are imported.
    """
    for name, p in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device="cpu")))
    return layer


def remember(module: Any, init: Init) -> Any:
    """The module, whose parameters are from now on drawn as `init` says."""
    module.init = init
    return module


@torch.no_grad()
def fresh_parameters(module: nn.Module, generator: torch.Generator, units: int | None = None) -> dict[str, Tensor]:
    """New values for a layer's own parameters, drawn from its initial distribution, on their device.

    units: only for so many units (rows of the weight); None: for all.
    Normalisation layers give weight 1, bias 0; a layer of another kind may bring a `fresh_parameters(generator)`
    of its own. Raises TypeError for a layer that does not know its distribution.
    """
    draw = getattr(module, "fresh_parameters", None)
    if draw is not None:
        return draw(generator)
    own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    init = getattr(module, "init", None)
    if init is None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm):
            return {name: torch.full_like(p, 1.0 if name == "weight" else 0.0) for name, p in own.items()}
        raise TypeError(f"{type(module).__name__} does not know its initial distribution")
    whole = own["weight"]
    fan_in, fan_out = _fans(whole)
    if units is not None:
        own = {name: p.new_empty(units, *p.shape[1:]) for name, p in own.items()}
    if init.scheme == "orthogonal":
        # rows of a whole matrix, so that a few units are distributed as those of a new layer are
        fresh = {"weight": _orthogonal(whole, init, generator)[:units]}
    else:
        fresh = {"weight": _draw(own["weight"], init.scheme, init.std(fan_in, fan_out), generator)}
    if "bias" in own:
        bound = init.bias_bound(fan_in)
        bias = own["bias"]
        fresh["bias"] = _uniform(bias, bound, generator) if bound else torch.zeros_like(bias)
    return fresh


def _draw(like: Tensor, scheme: str, std: float, generator: torch.Generator) -> Tensor:
    if scheme.endswith("normal"):
        out = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
        return out.normal_(0.0, std, generator=generator).to(like.device)
    return _uniform(like, math.sqrt(3.0) * std, generator)


def _orthogonal(like: Tensor, init: Init, generator: torch.Generator) -> Tensor:
    gain = init.gain
    if gain is None:
        gain = 1.0 if init.nonlinearity == "linear" else math.sqrt(2.0)
    out = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
    return nn.init.orthogonal_(out, gain, generator=generator).to(like.device)


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    out = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
    return out.uniform_(-bound, bound, generator=generator).to(like.device)


@torch.no_grad()
def initialise_(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all parameters below `module` afresh, in place, and reset BatchNorm's running statistics."""
    for layer in module.modules():
        own = dict(layer.named_parameters(recurse=False))
        if own:
            for name, value in fresh_parameters(layer, generator).items():
                own[name].copy_(value)
        reset = getattr(layer, "reset_running_stats", None)
        if reset is not None:
            reset()
