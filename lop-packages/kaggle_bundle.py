"""From `kaggle-metadata.json` to folders that the `kaggle` command takes as they are.

    make kaggle USER=name     # -> build/kaggle/kernel, build/kaggle/datasets/{source,packages[,data]}

The wheels are those of `lop-packages/wheels` (`make packages`). The data set `data` is made where there is a `data/`
folder with something in it; the default benchmark needs none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lop-src"))

from lop.data import DATASETS

ROOT = Path(__file__).resolve().parents[1]
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints", "*.pyc")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("user", help="your Kaggle user name")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "kaggle")
    parser.add_argument("--wheels", type=Path, default=ROOT / "lop-packages" / "wheels")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    options = parser.parse_args(arguments)
    try:
        bundle(options.user, options.output, options.wheels, options.data)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(instructions(options.output))
    return 0


def bundle(user: str, output: Path, wheels: Path, data: Path) -> None:
    """Write the folders; what an earlier call left is replaced. Raises ValueError for what cannot be uploaded."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{2,}", user):
        raise ValueError(f"USER must be a Kaggle user name (small letters, digits, dashes), got {user!r}")
    if not list(wheels.glob("lop-*.whl")):
        raise ValueError(f"{wheels}: no wheel of lop; run `make packages` first")
    metadata = json.loads((ROOT / "kaggle-metadata.json").read_text(encoding="utf-8"))
    if output.exists():
        shutil.rmtree(output)
    folders = {"source": output / "datasets" / "source", "packages": output / "datasets" / "packages"}
    shutil.copytree(ROOT / "lop-src", folders["source"] / "lop-src", ignore=IGNORED)
    for name in ("pyproject.toml", "setup.py", "README.md", "run-expr.ipynb", "lop-packages/install_lop.py"):
        shutil.copy(ROOT / name, folders["source"])
    shutil.copytree(wheels, folders["packages"])
    if data.is_dir() and any(data.iterdir()):
        folders["data"] = output / "datasets" / "data"
        shutil.copytree(data, folders["data"], copy_function=link_or_copy)
    for name, folder in folders.items():
        described = dataset(metadata, name, user)
        write_json(folder / "dataset-metadata.json", described | (contents(folder) if name == "data" else {}))
    kernel = output / "kernel"
    kernel.mkdir()
    shutil.copy(ROOT / metadata["kernel"]["code_file"], kernel)
    sources = [dataset(metadata, name, user)["id"] for name in folders]
    described = {key: value for key, value in metadata["kernel"].items() if key != "slug"}
    identity = {"id": f"{user}/{metadata['kernel']['slug']}"}
    unused = {"competition_sources": [], "kernel_sources": [], "model_sources": []}
    write_json(kernel / "kernel-metadata.json", {**identity, **described, "dataset_sources": sources, **unused})


def dataset(metadata: dict[str, Any], name: str, user: str) -> dict[str, Any]:
    described = metadata["datasets"][name]
    identity = {"id": f"{user}/{described['slug']}", "licenses": [{"name": metadata["license"]}]}
    return {**identity, "title": described["title"], "subtitle": described["subtitle"]}


def contents(folder: Path) -> dict[str, str]:
    """Kaggle's description of the image data sets: which of those that lop knows are in the folder."""
    records = [record for _, record in sorted(DATASETS.items()) if record.downloads]
    there = [record for record in records if record.find_in(record, [folder]) is not None]
    lines = [f"- `{record.name}`: {record.description}, {sum(record.images):,} images" for record in there]
    return {"description": "\n".join(lines)} if lines else {}


def link_or_copy(source: str, target: str) -> None:
    """Data sets are large, and the folder is for uploading only."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def instructions(output: Path) -> str:
    """What to type next. Folders inside a data set travel as zip files, which Kaggle unpacks."""
    lines = [f"kaggle datasets create -p {folder} --dir-mode zip" for folder in sorted((output / "datasets").iterdir())]
    return "\n".join(["ready; now:", *lines, f"kaggle kernels push -p {output / 'kernel'}"])


if __name__ == "__main__":
    sys.exit(main())
