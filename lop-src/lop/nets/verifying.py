"""Hidden layers put to the test: does a reset of units show in the outputs, past the readers that were found?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from lop.nets.base import HiddenLayer
from lop.nets.values import tensors_in

NOISE = 3.0  # of the weights' own root mean square: large, so that what shows is no rounding
SMALLEST = 0.1  # of what the noise is a multiple: biases may all be 0
TOLERANCE = 16  # of the outputs' largest, in units of their dtype's precision


@torch.no_grad()
def showing(model: nn.Module, arguments: tuple, layers: Sequence[HiddenLayer]) -> list[HiddenLayer]:
    """Those of the layers whose units cannot be reset unseen.

    The outgoing weights of every other unit become 0, then their incoming ones become others: the outputs must stay.
    What a normalisation carries from unit to unit (`HiddenLayer.is_coupled`) is held fast. All layers at once, and by
    halves where something shows. A model whose outputs differ from pass to pass by themselves shows nothing.

    The parameters are as before when it ends; buffers, modes and random numbers are the caller's affair (`probing`).
    """
    if not layers:
        return []
    with _Norms(layers) as norms:
        before = _outputs(model, arguments, _values(layers, new=False))
        norms.held = True
        if not _differ(before, _outputs(model, arguments, _values(layers, new=True))):
            return []
        if _differ(before, _outputs(model, arguments, _values(layers, new=False))):
            return []
    if len(layers) == 1:
        return list(layers)
    half = len(layers) // 2
    found = [*showing(model, arguments, layers[:half]), *showing(model, arguments, layers[half:])]
    return found or list(layers)


class _Norms:
    """Keeps what the coupling normalisations give in one pass; `held`, the unchosen units are given it again."""

    def __init__(self, layers: Sequence[HiddenLayer]):
        self.held = False
        self._kept: dict[HiddenLayer, Tensor] = {}
        coupled = [(layer, layer.norm) for layer in layers if layer.norm is not None and layer.is_coupled]
        self._handles = [norm.register_forward_hook(partial(self._hook, layer)) for layer, norm in coupled]

    def _hook(self, layer: HiddenLayer, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if not self.held:
            self._kept[layer] = output.clone()
            return None
        after = 0 if layer.units_last else output.dim() - 2
        return torch.where(_chosen(layer).view(-1, *[1] * after), output, self._kept[layer])

    def __enter__(self) -> _Norms:
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()


def _chosen(layer: HiddenLayer) -> Tensor:
    """bool (units,): every other one."""
    return torch.arange(layer.units, device=layer.incoming.weight.device) % 2 == 0


def _values(layers: Sequence[HiddenLayer], *, new: bool) -> dict[Tensor, Tensor]:
    """The layers' parameters with outgoing weights 0 at the chosen units and, if `new`, other incoming ones."""
    own = {p for layer in layers for p in layer.incoming.parameters()}
    read = {reader.weight for layer in layers for reader in layer.outgoing}
    values: dict[Tensor, Tensor] = {p: p.detach().clone() for p in own | read}
    if new:
        generator = torch.Generator().manual_seed(0)
        for layer in layers:
            for p in layer.incoming.parameters():
                scale = max(p.detach().double().square().mean().sqrt().item(), SMALLEST)
                noise = NOISE * scale * torch.randn(p.shape, generator=generator)
                values[p][_chosen(layer)] += noise.to(p)[_chosen(layer)]
    for layer in layers:
        for reader in layer.outgoing:
            layer.by_unit(values[reader.weight])[:, :, _chosen(layer)] = 0
    return values


def _outputs(model: nn.Module, arguments: tuple, values: dict[Tensor, Tensor]) -> list[Tensor]:
    """Of one forward pass with those parameters, from the same random state every time."""
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with _holding(values), torch.random.fork_rng(devices=devices):
        given = [tensor.clone() if isinstance(tensor, Tensor) else tensor for tensor in arguments]
        return [tensor.clone() for tensor in tensors_in(model(*given))]


@contextmanager
def _holding(values: dict[Tensor, Tensor]) -> Iterator[None]:
    """The parameters hold these values inside. They are written into their memory, so that whoever has a view of it
    sees them, and behind autograd's back, so that a graph that is waiting for its backward pass stays good."""
    before = [(p, p.detach().clone()) for p in values]
    try:
        for p, value in values.items():
            p.data.copy_(value)
        yield
    finally:
        for p, value in before:
            p.data.copy_(value)


def _differ(before: list[Tensor], after: list[Tensor]) -> bool:
    if len(before) != len(after):
        return True
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape:
            return True
        precision = torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0
        a, b = a.double(), b.double()
        largest = a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=TOLERANCE * precision * largest, equal_nan=True):
            return True
    return False
