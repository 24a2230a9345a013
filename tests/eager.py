"""Options with which an intervention acts within a few steps; those that are not listed run with their defaults."""

from typing import Any

import plugged

EAGER: dict[str, dict[str, Any]] = {
    "cbp": {"replacement_rate": 0.3, "maturity_threshold": 1, "accumulate": False},
    "redo": {"period": 2, "threshold": 0.9},
    "snr": {"min_time": 1, "max_time": 16, "refresh": 1, "eta": 0.4},
    "ewc": {"samples": 8},
    "l2_init_ewc": {"samples": 8},
    "l2_init": {"resample": True},
    "shrink_and_perturb": {"shrink": 0.01, "scale": 0.01},
    "sdp": {"interval": 2},
    "gosc": {"interval": 3},
    "step_schedule": {"milestones": [1]},
    "weight_clipping": {"kappa": 0.5},
    "l2_er": {"er_batch": 4, "er_lr": 0.01},
    "dash": {"alpha": 0.5},
    "regrama": {"period": 2, "threshold": 0.8},
    "cpr": {"period": 3, "rate": 0.2},
    "warm_up": {"steps": 5},
    "hare_and_tortoise": {"decay": 0.9, "every": 1},
    "swr": {"period": 4, "factor": 0.3, "decay": 0.5, "prune": "share", "reset_optimizer": True},
} | plugged.options
