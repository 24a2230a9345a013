"""Nets by name. A new net is one file and one line here."""

from lop.nets.actor_critic import ActorCritic
from lop.nets.base import FeatureRecorder, HiddenLayer, Net
from lop.nets.convnet import CNN, ConvNet
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18

NETS: dict[str, type[Net]] = {
    "mlp": MLP,
    "actor_critic": ActorCritic,
    "convnet": ConvNet,
    "cnn": CNN,
    "resnet18": ResNet18,
}

__all__ = ["CNN", "MLP", "NETS", "ActorCritic", "ConvNet", "FeatureRecorder", "HiddenLayer", "Net", "ResNet18"]
