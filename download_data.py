"""Fetch data sets: `python download_data.py mnist cifar100`; without names, list them and what is present."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent / "lop-src"))

from lop.data import DATASETS
from lop.data.download import download
from lop.data.fetch import Report
from lop.utils.errors import UserError
from lop.utils.registry import load_plugin


def list_data(data_dir: Path | None) -> None:
    for name, record in sorted(DATASETS.items()):
        where = record.find(data_dir)
        status = f"present: {where}" if where else f"to fetch, {record.size / 1e6:,.0f} MB"
        shape = "x".join(map(str, record.image_shape))
        print(f"{name:15} {record.description}, {sum(record.images):,} images {shape}  [{status}]")


def progress_bar(name: str) -> Report:
    bar = tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False)

    def report(done: int, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(sorted(DATASETS))}")
    parser.add_argument("--list", action="store_true", help="list the data sets and what is present")
    parser.add_argument("--data-dir", type=Path, help="folder for the data (default: data)")
    parser.add_argument("--plugin", action="append", default=[], help="a file or module that adds data sets")
    options = parser.parse_args(arguments)
    failed = False
    for act in [
        *(lambda name=name: load_plugin(name) for name in options.plugin),
        *(lambda name=name: _fetch(name, options.data_dir) for name in options.names),
    ]:
        try:
            act()
        except UserError as error:
            failed = True
            print(error, file=sys.stderr)
    if options.list or not options.names:
        list_data(options.data_dir)
    return int(failed)


def _fetch(name: str, data_dir: Path | None) -> None:
    print(f"{name}: ready in {download(name, data_dir, progress_bar)}")


if __name__ == "__main__":
    sys.exit(main())
