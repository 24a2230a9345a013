"""Nets and diagnostics in the forms that the tests of the dashboard measure."""

import torch

from lop.metrics import METRICS
from lop.nets.actor_critic import ActorCritic
from lop.nets.convnet import ConvNet
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18

SHAPE = (3, 8, 8)
NETS = {
    "mlp": lambda: MLP(SHAPE, 4, hidden=[9, 8], activation="crelu"),
    "convnet": lambda: ConvNet(SHAPE, 4, channels=[3, 4], kernel_sizes=[3, 2], hidden=[5]),
    "resnet": lambda: ResNet18(SHAPE, 4, width=3, blocks=[1, 1]),
    "policy and value": lambda: ActorCritic(SHAPE, 3, hidden=[6, 5]),
}
LONG = ("trainability", "hessian_eps_rank", "hessian_eps_ranks")
ALL = [{"name": name, "steps": 2} if name in LONG else name for name in METRICS]


def perturb(net, amount=0.1):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in net.parameters():
            p += amount * torch.randn(p.shape, generator=generator)
