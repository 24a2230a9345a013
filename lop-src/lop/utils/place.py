"""Where this process runs, as far as folders depend on it."""

import os
import sys
from pathlib import Path


def place() -> str:
    """`kaggle`, `colab` or `local`."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return "colab" if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules else "local"


def kaggle_folder(name: str) -> Path:
    """`input`, where data sets are attached, or `working`; LOP_KAGGLE_ROOT moves both."""
    return Path(os.environ.get("LOP_KAGGLE_ROOT", "/kaggle"), name)
