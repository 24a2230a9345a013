"""What else happens to a run between two starts, and during one: harm to its files, its data, its disk.

After any of them the next start either goes on to the same results or refuses in one line; it never goes on to others.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from lop.runs import CHECKPOINTS, TABLES
from lop.runs.table import Table


def flip_bit(path: Path, chosen: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        bit = chosen.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)


def bits_of_checkpoints(folder: Path, chosen: random.Random) -> None:
    """One of them, or both."""
    there = [folder / name for name in CHECKPOINTS if (folder / name).exists()]
    for path in chosen.sample(there, chosen.randint(min(1, len(there)), len(there))):
        flip_bit(path, chosen)


def bit_of_a_table(folder: Path, chosen: random.Random) -> None:
    if tables := sorted(folder.glob("*.csv")):
        flip_bit(chosen.choice(tables), chosen)


def torn_row(folder: Path, chosen: random.Random) -> None:
    """A table that ends in half a row: of one more, as a kill leaves it, or of its last one, as a power cut might."""
    tables = [path for path in sorted(folder.glob("*.csv")) if path.stat().st_size > 1]
    if tables:
        path = chosen.choice(tables)
        content = path.read_bytes()
        last = content.splitlines(keepends=True)[-1]
        part = chosen.randrange(1, len(last))
        path.write_bytes(content + last[:part] if chosen.random() < 0.7 else content[:-part])


def missing_files(folder: Path, chosen: random.Random) -> None:
    """Some of all but the checkpoints' own: those are harmed above, and their loss together is a case of its own."""
    there = sorted(path for path in folder.iterdir() if path.is_file() and path.name != ".lock")
    for path in chosen.sample(there, chosen.randint(1, min(2, len(there)))):
        path.unlink()


def missing_checkpoints(folder: Path, chosen: random.Random) -> None:
    for name in CHECKPOINTS:
        (folder / name).unlink(missing_ok=True)


FOREIGN = ("notes.txt", "precious.tmp", "tasks.csv.bak")


def foreign_files(folder: Path, chosen: random.Random) -> None:
    for name in FOREIGN:
        (folder / name).write_text("precious")


HARMS: dict[str, Callable[[Path, random.Random], None]] = {
    "bits of checkpoints": bits_of_checkpoints,
    "bit of a table": bit_of_a_table,
    "torn row": torn_row,
    "missing files": missing_files,
    "missing checkpoints": missing_checkpoints,
    "foreign files": foreign_files,
}


def full_disk(limit: int) -> None:
    """No file of this process grows beyond so many bytes: the system refuses in the middle of a write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def table_goes_in_mid_run(folder: Path, name: str, writes: int) -> None:
    """Delete a table of the run that this process carries out, before so many more writes to tables.

    Never after the last one: a file that goes when its run is over is not the run's to notice.
    """
    append, left = Table.append, [writes]

    def delete_and_append(table: Table, rows: list[dict]) -> None:
        left[0] -= 1
        if left[0] == 0:
            (folder / f"{name}.csv").unlink(missing_ok=True)
        append(table, rows)

    Table.append = delete_and_append  # type: ignore[method-assign]


def in_mid_run(name: str, folder: Path, chosen: random.Random) -> Callable[[], None]:
    """What the process of the next start does to itself."""
    if name == "full disk":
        sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
        limit = chosen.randint(4096, max(4096, *sizes))  # what is printed has room
        return lambda: full_disk(limit)
    table, writes = chosen.choice(TABLES), chosen.randint(1, 30)
    return lambda: table_goes_in_mid_run(folder, table, writes)


DURING = ("full disk", "table deleted in mid-run")


def changed_data(data_dir: Path, copy: Path) -> Path:
    """The data sets, with one pixel of every one that is read as it is (CIFAR's pickles) another."""
    shutil.copytree(data_dir, copy, dirs_exist_ok=True)
    for path in copy.glob("cifar-*/*"):
        size = path.stat().st_size
        if size > 20_000:
            with open(path, "r+b") as file:
                file.seek(size // 2)
                byte = file.read(1)[0]
                file.seek(size // 2)
                file.write(bytes([byte ^ 1]))
    return copy


def refused_in_one_line(text: str) -> bool:
    lines = [line for line in text.splitlines() if line and not line.endswith("going on from the one before it")]
    return len(lines) == 1 and lines[0].startswith("error: ")


def undo(folder: Path, backup: Path) -> None:
    """Put back what was there before the harm."""
    shutil.rmtree(folder)
    os.rename(backup, folder)
