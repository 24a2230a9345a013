"""Nets by name: registered with `@net`."""

from lop.nets.actor_critic import ActorCritic, PolicyAndValue
from lop.nets.base import NETS, FeatureRecorder, HiddenLayer, Net, net
from lop.nets.convnet import CNN, ConvNet
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "CNN",
    "MLP",
    "NETS",
    "ActorCritic",
    "ConvNet",
    "FeatureRecorder",
    "HiddenLayer",
    "Net",
    "PolicyAndValue",
    "ResNet18",
    "net",
]
