"""Make `lop` importable in a notebook with what the place offers; what is good enough already is left alone.

Run by the setup cell of run-expr where `lop` is not there yet. On Kaggle it lies in the attached data sets, and the
wheels beside it are installed without the internet; on Colab it lies in the clone of the repository, which is
installed; in a checkout that nobody installed, the sources are used as they are. Needs nothing but the standard
library and pip.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

KEPT = ("torch", "torchvision", "numpy")  # never replaced: the place has built them for its hardware


def attached(pattern: str) -> list[Path]:
    """Files and folders in the data sets attached on Kaggle; not deeper than that, since image folders are large."""
    folder = Path(os.environ.get("LOP_KAGGLE_ROOT", "/kaggle"), "input")
    return sorted(found for depth in range(1, 5) for found in folder.glob("*/" * depth + pattern))


def install(root: Path, cloned: bool) -> None:
    """root: the folder with lop-src, where there is one. cloned: whether it was cloned for this, to be installed."""
    kept = Path(tempfile.mkdtemp(), "keep.txt")
    kept.write_text("".join(f"{name}=={version(name)}\n" for name in KEPT if importlib.util.find_spec(name)))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--upgrade-strategy", "only-if-needed", "-c", str(kept)]
    if wheels := attached("lop-[0-9]*.whl"):
        pip += ["--no-index", "--find-links", str(wheels[-1].parent)]
        if subprocess.run([*pip, "lop[rl,optimizers]"], capture_output=True).returncode:  # not all in the bundle
            subprocess.run([*pip, "lop"], check=True)
    elif cloned:
        subprocess.run([*pip, "--no-build-isolation", str(root)], check=True)
    else:
        sys.path.insert(0, str(root / "lop-src"))
    importlib.invalidate_caches()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent  # in the repository lop-packages, in a data set its top
    install(here if (here / "lop-src").is_dir() else here.parent, bool(globals().get("repository")))
