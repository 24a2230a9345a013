"""Resetting hidden units through the description of their layer, whatever the net and the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop.algos.base import Intervention
from lop.nets import HiddenLayer
from lop.nets.activations import PerUnit


@dataclass(frozen=True)
class UnitReset:
    """What is to happen to some units of one layer.

    units: their indices, int64 (k,), distinct. incoming: their new incoming parameters by name, "weight" (k, ...)
    and "bias" (k,). chosen: bool (k,), the ones among them that are really reset; None: all.
    means: their mean activations (expansion, k), handed over to the biases of the readers; None: nothing is.
    zero_outgoing: their outgoing weights become 0; False: they stay.
    """

    layer: HiddenLayer
    units: Tensor
    incoming: dict[str, Tensor]
    chosen: Tensor | None = None
    means: Tensor | None = None
    zero_outgoing: bool = True

    def mask(self) -> Tensor:
        """bool (units,): those of the layer that are really reset."""
        mask = torch.zeros(self.layer.units, dtype=torch.bool, device=self.units.device)
        if self.chosen is None:
            return mask.index_fill_(0, self.units, True)
        return mask.index_copy_(0, self.units, self.chosen)


def candidates(mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """(units, chosen) of a UnitReset for a bool mask over a layer's units.

    On the CPU the units that are set; elsewhere all units with the mask, as their number would have to be waited for.
    """
    if mask.device.type == "cpu":
        return mask.nonzero().squeeze(1), None
    return torch.arange(len(mask), device=mask.device), mask


@torch.no_grad()
def reset_units(optimizer, resets: Sequence[UnitReset]) -> None:
    """Give units new incoming parameters, a fresh normalisation and, unless told not to, outgoing weights 0.

    The optimizer forgets what it had gathered for every entry that is written. All layers' means are handed over
    first and all outgoing weights are zeroed last, so that resets in adjacent layers do not undo one another.
    """
    for reset in resets:
        if reset.means is not None:
            _hand_over_means(reset, reset.means)
    for reset in resets:
        _renew_incoming(optimizer, reset)
    for reset in resets:
        if reset.zero_outgoing:
            _zero_outgoing(optimizer, reset)


def replace_units(by: Intervention, resets: Sequence[UnitReset]) -> None:
    """`reset_units` by an intervention: the others hear of it."""
    reset_units(by.host.optimizer, resets)
    for reset in resets:
        by.host.units_replaced(reset.layer, reset.mask(), by)


def _hand_over_means(reset: UnitReset, means: Tensor) -> None:
    if reset.chosen is not None:
        means = means * reset.chosen
    for module in reset.layer.outgoing:
        if module.bias is not None:
            weight = reset.layer.outgoing_weight(module).index_select(2, reset.units)
            module.bias += torch.einsum("oekp,ek->o", weight, means)


def _renew_incoming(optimizer, reset: UnitReset) -> None:
    layer, unit_mask = reset.layer, reset.mask()
    for name, values in reset.incoming.items():
        param = getattr(layer.incoming, name)
        _write(param, reset, values)
        optimizer.reset_entries(param, unit_mask.view(-1, *[1] * (param.dim() - 1)))
    if isinstance(layer.activation, PerUnit):
        weight = layer.activation.weight
        _write(weight, reset, weight.new_full((len(reset.units),), layer.activation.start))
        optimizer.reset_entries(weight, unit_mask)
    if layer.norm is None:
        return
    for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        tensor = getattr(layer.norm, name, None)
        if tensor is not None:
            _write(tensor, reset, tensor.new_full((len(reset.units),), value))
            if isinstance(tensor, nn.Parameter):
                optimizer.reset_entries(tensor, unit_mask)


def _zero_outgoing(optimizer, reset: UnitReset) -> None:
    layer, unit_mask = reset.layer, reset.mask()
    for module in layer.outgoing:
        weight = layer.outgoing_weight(module)
        if reset.chosen is None:
            weight.index_fill_(2, reset.units, 0.0)
        else:
            weight.masked_fill_(unit_mask.view(1, 1, -1, 1), 0.0)
        features = layer.expansion * layer.units
        read = unit_mask.view(1, -1, 1).expand(layer.expansion, layer.units, module.weight.shape[1] // features)
        optimizer.reset_entries(module.weight, read.reshape(1, -1, *[1] * (module.weight.dim() - 2)))


def _write(tensor: Tensor, reset: UnitReset, values: Tensor) -> None:
    if reset.chosen is not None:
        chosen = reset.chosen.view(-1, *[1] * (values.dim() - 1))
        values = torch.where(chosen, values, tensor.index_select(0, reset.units))
    tensor.index_copy_(0, reset.units, values)
