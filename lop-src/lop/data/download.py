"""Fetching, verifying and installing whole data sets."""

from collections.abc import Callable
from pathlib import Path

from lop.data.fetch import Report, fetch
from lop.data.locate import DEFAULT_DATA_DIR
from lop.data.record import DATASETS, DataSet
from lop.utils.errors import UserError, lookup


def download(name: str, data_dir: Path | None = None, report: Callable[[str], Report] | None = None) -> Path:
    """Fetch a data set into data_dir (or `data/`), verify and convert it; what is there already is only verified.

    report(file name) gives a callback for progress. Returns where the data is. Raises UserError, one line, that says
    what failed and how to place the files by hand; then nothing half-written is in place.
    """
    data_set = lookup(DATASETS, name, "dataset")
    target = Path(data_dir) if data_dir is not None else DEFAULT_DATA_DIR
    try:
        if not _is_good(data_set, data_dir, target):
            _fetch_all(data_set, target, report)
            data_set.check(target)
    except (OSError, UserError) as error:
        reason = error if isinstance(error, UserError) else f"{error.strerror}: {error.filename}"
        raise UserError(f"{name}: {reason}. By hand: {by_hand(data_set, target)}") from None
    return data_set.find(data_dir)


def _is_good(data_set: DataSet, data_dir: Path | None, target: Path) -> bool:
    """Whether the data is there. False for bad data below `target`, where it can be fetched again."""
    found = data_set.find(data_dir)
    if found is None:
        return False
    try:
        data_set.check(target)
    except UserError:
        if target.resolve() in found.resolve().parents:
            return False
        raise
    return True


def _fetch_all(data_set: DataSet, target: Path, report: Callable[[str], Report] | None) -> None:
    folder = target / data_set.subfolder
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetched = [
            fetch(file, folder, report(file.name) if report else lambda done, total: None)
            for file in data_set.downloads
        ]
        data_set.install(data_set, fetched, target)
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def by_hand(data_set: DataSet, data_dir: Path) -> str:
    """How to do without the download, in one line."""
    files = data_set.downloads
    if not files:
        return f"put {data_set.by_hand or ', '.join(data_set.files)} into {data_dir / data_set.subfolder}/"
    urls = " ".join(dict.fromkeys(file.urls[0] for file in files))
    renamed = "" if all(file.urls[0].endswith(file.name) for file in files) else f" as {files[0].name}"
    return f"fetch {urls} elsewhere, put it{renamed} into {data_dir / data_set.subfolder}/ and run this again"
