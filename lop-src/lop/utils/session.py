"""Which timings can be compared: those of one process on a machine that is equally busy."""

import hashlib
import os
import platform
import time

_LOADED = time.time_ns()  # two processes of one number are told apart


def session() -> str:
    """An identifier of this process on this machine."""
    text = f"{platform.node()} {os.getpid()} {_LOADED}"
    return "s" + hashlib.blake2b(text.encode(), digest_size=4).hexdigest()  # a letter first: never read as a number


def load_per_core() -> float:
    """Processes that ran or waited in the last minute, over the cores; NaN where the system does not say."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return float("nan")
