"""Nets by name. A new net is one file and one line here."""

from lop.nets.base import FeatureRecorder, HiddenLayer, Net
from lop.nets.mlp import MLP

NETS: dict[str, type[Net]] = {
    "mlp": MLP,
}

__all__ = ["MLP", "NETS", "FeatureRecorder", "HiddenLayer", "Net"]
