"""Policy and value nets for control, as one net that describes its hidden layers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lop.nets.base import HiddenLayer, Net, net
from lop.nets.convnet import ConvNet
from lop.nets.init import Init, remember
from lop.nets.layer_io import WeightLayer
from lop.nets.mlp import MLP
from lop.nets.policies import Gaussian, Policy
from lop.utils.ranges import FINITE, require

Actions = Literal["continuous", "discrete"]

POLICY_HEAD_GAIN = 0.01  # of orthogonal initialisation


class LogStd(nn.Module):
    """The logarithm of a Gaussian policy's standard deviation, one per action, the same in every state."""

    def __init__(self, num_actions: int, initial: float):
        super().__init__()
        self.initial = initial
        self.value = nn.Parameter(torch.full((num_actions,), float(initial)))

    def fresh_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Its initial distribution is a constant."""
        return {"value": torch.full_like(self.value, self.initial)}


class PolicyAndValue(Net):
    """Two separate nets on the observation: the parameters of a policy, and the value of the state.

    forward(observations (batch, ...)) -> (batch, num_outputs + 1): the policy's outputs, then the value; `split` takes
    them apart. make: called as make(input_shape, outputs), for either net; each has a `body` and a `head`.
    The hidden layers are value0, value1, ..., policy0, policy1, ...: what the diagnostics call the last hidden
    layer is the policy's representation.
    init: that of `make`; `orthogonal` has gain sqrt(2) in the hidden layers, 0.01 in the policy's head (so that the
    first policy is nearly the same in every state) and 1 in the value's, as the implementations of PPO have it
    (Engstrom 2020; Andrychowicz 2021, "What matters in on-policy RL").
    """

    policy_kind: ClassVar[type[Any]]
    """What `distribution` returns."""

    actions: ClassVar[Actions]
    """Whether an action is one of `num_outputs` ("discrete"), or a vector of so many real numbers ("continuous")."""

    def __init__(self, make: Callable[..., MLP | ConvNet], input_shape: tuple[int, ...], num_outputs: int, init: str):
        super().__init__()
        self.policy = make(input_shape, num_outputs)
        self.value = make(input_shape, 1)
        if init == "orthogonal":
            remember(self.policy.head, Init(init, "linear", gain=POLICY_HEAD_GAIN))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.policy(x), self.value(x)), dim=1)

    @staticmethod
    def split(outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(the policy's outputs (batch, num_outputs), values (batch,)) of what forward returned."""
        return outputs[:, :-1], outputs[:, -1]

    def distribution(self, outputs: Tensor) -> Policy:
        """The policy that the policy's outputs (batch, num_outputs) stand for."""
        raise NotImplementedError

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """What added to the policy's outputs of that shape (..., num_outputs) makes `chosen` a draw; on the CPU."""
        raise NotImplementedError

    @staticmethod
    def chosen(outputs: Tensor) -> Tensor:
        """The actions that outputs (batch, num_outputs) stand for: with noise a draw, else the policy's best."""
        raise NotImplementedError

    def hidden_layers(self) -> list[HiddenLayer]:
        return [
            HiddenLayer(
                f"{name}{i}",
                layer.incoming,
                layer.norm,
                layer.activation,
                layer.outgoing,
                layer.expansion,
                layer.pooling,
            )
            for name, net in (("value", self.value), ("policy", self.policy))
            for i, layer in enumerate(net.hidden_layers())
        ]

    def input_layers(self) -> list[WeightLayer]:
        return [*self.value.input_layers(), *self.policy.input_layers()]

    def output_layer(self) -> nn.Linear:
        """The policy's head."""
        return self.policy.head

    def output_layers(self) -> list[nn.Linear]:
        return [self.value.head, self.policy.head]


@net("actor_critic")
class ActorCritic(PolicyAndValue):
    """Two MLPs: the mean action of a Gaussian policy, and the value. num_outputs: number of actions.

    hidden: widths, of both nets. init: of the weights, as in `lop.nets.init.Init`; biases are 0. log_std: initial,
    state-independent.
    Source: the nets and defaults of Dohare et al. 2024 (LeCun-uniform weights, biases 0, log-std 0).
    """

    policy_kind, actions = Gaussian, "continuous"

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        layer_norm: bool = False,
        init: str = "lecun_uniform",
        log_std: float = 0.0,
    ):
        require(FINITE, log_std=log_std)
        make = partial(MLP, hidden=hidden, activation=activation, layer_norm=layer_norm, init=init)
        super().__init__(make, input_shape, num_outputs, init)
        self.log_std = LogStd(num_outputs, log_std)

    def distribution(self, outputs: Tensor) -> Gaussian:
        return Gaussian(outputs, self.log_std.value)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator) * self.log_std.value.exp().cpu()

    @staticmethod
    def chosen(outputs: Tensor) -> Tensor:
        """Vectors (batch, num_outputs)."""
        return outputs
