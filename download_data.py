"""Fetch data sets: `python download_data.py mnist cifar100`; without names, list them and what is present."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent / "lop-src"))

from lop.data.download import DOWNLOADS, download
from lop.data.fetch import Report
from lop.utils.errors import UserError


def list_data(data_dir: Path | None) -> None:
    for name, data_set in DOWNLOADS.items():
        where = data_set.find(data_dir)
        status = f"present: {where}" if where else f"to fetch, {data_set.size} MB"
        print(f"{name:15} {data_set.description}  [{status}]")
    print("digits          scikit-learn's 1,797 digits 1x8x8  [always present]")


def progress_bar(name: str) -> Report:
    bar = tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False)

    def report(done: int, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(DOWNLOADS)}")
    parser.add_argument("--list", action="store_true", help="list the data sets and what is present")
    parser.add_argument("--data-dir", type=Path, help="folder for the data (default: data)")
    options = parser.parse_args(arguments)
    failed = False
    for name in options.names:
        try:
            print(f"{name}: ready in {download(name, options.data_dir, progress_bar)}")
        except UserError as error:
            failed = True
            print(error, file=sys.stderr)
    if options.list or not options.names:
        list_data(options.data_dir)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
