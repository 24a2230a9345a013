"""Policy and value nets for discrete actions: on vectors and on small images."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lop.nets.actor_critic import PolicyAndValue
from lop.nets.base import net
from lop.nets.convnet import ConvNet
from lop.nets.mlp import MLP
from lop.nets.policies import Categorical


class CategoricalPolicyAndValue(PolicyAndValue):
    """The policy's outputs are the logits of a categorical policy over num_outputs actions."""

    policy_kind, actions = Categorical, "discrete"

    def distribution(self, outputs: Tensor) -> Categorical:
        return Categorical.of_logits(outputs)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Gumbel: the largest of the sums is a draw from the categorical policy."""
        return -torch.empty(shape).exponential_(generator=generator).log_()

    @staticmethod
    def chosen(outputs: Tensor) -> Tensor:
        """Numbers (batch,), int64."""
        return outputs.argmax(1)


@net("discrete_actor_critic")
class DiscreteActorCritic(CategoricalPolicyAndValue):
    """Two MLPs: the logits of a categorical policy, and the value. hidden: widths, of both nets; biases start at 0.

    Source: the nets of Muppidi et al. 2024 (TRAC), whose weights are torch's default; orthogonal is a choice of ours.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "leaky_relu_0.1",
        layer_norm: bool = False,
        init: str = "orthogonal",
    ):
        make = partial(MLP, hidden=hidden, activation=activation, layer_norm=layer_norm, init=init)
        super().__init__(make, input_shape, num_outputs, init)


class UnpooledConvNet(ConvNet):
    """A ConvNet whose convolutions follow each other without pooling: images of 10 x 10 pixels have none to spare."""

    pooled = False


@net("conv_actor_critic")
class ConvActorCritic(CategoricalPolicyAndValue):
    """Two small convolutional nets: the logits of a categorical policy, and the value.

    channels, kernel_sizes: of the convolutions, without pooling. hidden: widths of the layers after them.
    Source: the net of MinAtar (Young & Tian 2019), 16 filters of 3 x 3 and 128 ReLU units; here the policy and the
    value have one each, with orthogonal weights.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Sequence[int] = (16,),
        kernel_sizes: Sequence[int] = (3,),
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        layer_norm: bool = False,
        init: str = "orthogonal",
    ):
        make = partial(
            UnpooledConvNet,
            channels=channels,
            kernel_sizes=kernel_sizes,
            hidden=hidden,
            activation=activation,
            layer_norm=layer_norm,
            init=init,
        )
        super().__init__(make, input_shape, num_outputs, init)
