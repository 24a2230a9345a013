"""Policy and value nets for continuous control, as one net that describes its hidden layers."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lop.nets.base import HiddenLayer, Net, net
from lop.nets.init import Init, remember
from lop.nets.layer_io import WeightLayer
from lop.nets.mlp import MLP
from lop.utils.ranges import FINITE, require

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


@net("actor_critic")
class ActorCritic(Net):
    """Two separate MLPs on the observation: the mean action of a Gaussian policy, and the value of the state.

    forward(observations (batch, d)) -> (batch, num_actions + 1): the mean action, then the value; `split` takes
    them apart. num_outputs: number of actions. hidden: widths, of both nets. log_std: initial, state-independent.
    The hidden layers are value0, value1, ..., policy0, policy1, ...: what the diagnostics call the last hidden
    layer is the policy's representation.
    init: of the weights, as in `lop.nets.init.Init`; biases are 0. `orthogonal` has gain sqrt(2) in the hidden layers,
    0.01 in the policy's head (so that the first policy is nearly the same in every state) and 1 in the value's, as the
    implementations of PPO have it (Engstrom 2020; Andrychowicz 2021, "What matters in on-policy RL").
    Source: the nets and defaults of Dohare et al. 2024 (LeCun-uniform weights, biases 0, log-std 0).
    """

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
        super().__init__()
        require(FINITE, log_std=log_std)
        mlp = partial(MLP, hidden=hidden, activation=activation, layer_norm=layer_norm, init=init)
        self.policy = mlp(input_shape, num_outputs)
        self.value = mlp(input_shape, 1)
        if init == "orthogonal":
            remember(self.policy.head, Init(init, "linear", gain=POLICY_HEAD_GAIN))
        self.log_std = LogStd(num_outputs, log_std)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.policy(x), self.value(x)), dim=1)

    @staticmethod
    def split(outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(mean actions (batch, num_actions), values (batch,)) of what forward returned."""
        return outputs[:, :-1], outputs[:, -1]

    def hidden_layers(self) -> list[HiddenLayer]:
        return [
            HiddenLayer(f"{name}{i}", layer.incoming, layer.norm, layer.activation, layer.outgoing, layer.expansion)
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
