"""Interventions by name. A new intervention is one file and one line here."""

from lop.algos.base import Intervention
from lop.algos.ema import EMA
from lop.algos.sdp import SDP

INTERVENTIONS: dict[str, type[Intervention]] = {
    "bp": Intervention,  # nothing: plain backprop
    "ema": EMA,
    "sdp": SDP,
}

__all__ = ["INTERVENTIONS", "Intervention"]
