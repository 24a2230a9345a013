"""Interventions by name. A new intervention is one file and one line here."""

from lop.algos.base import Intervention
from lop.algos.cbp import CBP
from lop.algos.early_stopping import EarlyStopping
from lop.algos.ema import EMA
from lop.algos.ewc import EWC, L2InitEWC
from lop.algos.gosc import GOSC
from lop.algos.penalties import L2, HuberInit, HybridInit, L1Init, L2Init
from lop.algos.redo import ReDo
from lop.algos.resets import HeadReset, NetworkReset
from lop.algos.sdp import SDP
from lop.algos.shrink_and_perturb import ShrinkAndPerturb
from lop.algos.snr import SNR
from lop.algos.step_schedule import StepSchedule

INTERVENTIONS: dict[str, type[Intervention]] = {
    "bp": Intervention,  # nothing: plain backprop
    "l2": L2,
    "l2_init": L2Init,
    "l1_init": L1Init,
    "huber_init": HuberInit,
    "hybrid_init": HybridInit,
    "shrink_and_perturb": ShrinkAndPerturb,
    "cbp": CBP,
    "redo": ReDo,
    "snr": SNR,
    "ewc": EWC,
    "l2_init_ewc": L2InitEWC,
    "head_reset": HeadReset,
    "network_reset": NetworkReset,
    "sdp": SDP,
    "gosc": GOSC,
    "ema": EMA,
    "step_schedule": StepSchedule,
    "early_stopping": EarlyStopping,
}

__all__ = ["INTERVENTIONS", "Intervention"]
