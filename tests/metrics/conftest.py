"""Nets and tasks for the tests of the diagnostics."""

import pytest
import torch
from dashboards import SHAPE
from metrics_small import SmallLearner

from lop.data.image_task import ImageTask
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.utils.seeding import make_generator


@pytest.fixture
def generator():
    return make_generator(0, "test")


@pytest.fixture
def drawn():
    """drawn(net, dtype): the net with parameters drawn, BatchNorm statistics off their defaults, float64."""

    def draw(net, dtype=torch.float64):
        generator = make_generator(1, "net")
        initialise_(net, generator)
        for module in net.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                with torch.no_grad():
                    for p in module.parameters():
                        p.add_(0.3 * torch.randn(p.shape, generator=generator))
        return net.to(dtype).eval()

    return draw


@pytest.fixture
def images():
    """A classification task over 60 random 3x8x8 images of 4 classes, 20 of them as a test split."""
    generator = make_generator(2, "images")
    x = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    y = torch.randint(0, 4, (60,), generator=generator)
    splits = {"train": (x[:40], y[:40]), "test": (x[40:], y[40:])}
    return ImageTask(0, None, 2, 4, 10, 0, splits, lambda images: images.float() / 255 - 0.5)


@pytest.fixture
def mlp(drawn):
    return SmallLearner(drawn(MLP(SHAPE, 4, hidden=[9, 8]), torch.float32))
