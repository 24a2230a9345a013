"""What travels with a job to a machine without a common folder, and back from there."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lop.executors.jobs import Job
from lop.utils.files import make_folder, write_text

SKIPPED = (".lock", ".tmp")  # endings of files that are of no use elsewhere


def plugin_sources(job: Job) -> dict[str, str]:
    """The plugins of a job that are files of this machine, by path, with their text."""
    names = {name for config in job.configs for name in config["run"]["plugins"] if name.endswith(".py")}
    return {name: Path(name).read_text(encoding="utf-8") for name in sorted(names) if Path(name).is_file()}


def packed(job: Job) -> bytes:
    """Everything that a job has left behind so far: its run folders and files, by their full paths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in [*job.folders(), *map(Path, job.files)]:
            if path.exists():
                archive.add(path, arcname=str(path.resolve()).lstrip(os.sep), filter=_useful)
    return buffer.getvalue()


def _useful(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = member.name.rsplit("/", 1)[-1]
    return None if name.endswith(SKIPPED) or not (member.isfile() or member.isdir()) else member


def unpack(parcel: bytes, job: Job) -> None:
    """Put what `packed` took into place; nothing outside the job's own folders and files."""
    own = [str(path.resolve()).lstrip(os.sep) for path in [*job.folders(), *map(Path, job.files)]]
    with tarfile.open(fileobj=io.BytesIO(parcel), mode="r:gz") as archive:
        for member in archive.getmembers():
            inside = any(member.name == path or member.name.startswith(f"{path}/") for path in own)
            if not inside or ".." in member.name.split("/") or not (member.isfile() or member.isdir()):
                continue
            target = Path(os.sep, member.name)
            if member.isdir():
                make_folder(target)
                continue
            make_folder(target.parent)
            source = archive.extractfile(member)
            assert source is not None
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(source.read())
            os.replace(part, target)


def moved(job: Job, folder: Path, plugins: dict[str, str]) -> Job:
    """The job with its plugins as files below a folder, for a machine that does not have them.

    Two versions of a plugin are two files: another study may be at work there.
    """
    places = {}
    for name, text in plugins.items():
        if not Path(name).is_file():
            version = folder / hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
            make_folder(version)
            places[name] = version / Path(name).name
            write_text(places[name], text)
    return job if not places else replace(job, configs=[_with_plugins(config, places) for config in job.configs])


def _with_plugins(config: dict[str, Any], places: dict[str, Path]) -> dict[str, Any]:
    names: Sequence[str] = config["run"]["plugins"]
    return {**config, "run": {**config["run"], "plugins": [str(places.get(name, name)) for name in names]}}
