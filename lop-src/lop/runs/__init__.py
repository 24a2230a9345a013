"""The run folder: written by one run (`RunFolder`), read back from many at once (`load`)."""

from lop.runs.checkpoint import DamagedCheckpointError
from lop.runs.folder import ENDED, SCHEMA, RunFolder, RunningElsewhereError, read_config, read_status
from lop.runs.place import CHECKPOINTS, bring, results_folder, run_folder_of
from lop.runs.reading import Results, load
from lop.runs.table import TABLES, Table, TableChangedError

__all__ = [
    "CHECKPOINTS",
    "ENDED",
    "SCHEMA",
    "TABLES",
    "DamagedCheckpointError",
    "Results",
    "RunFolder",
    "RunningElsewhereError",
    "Table",
    "TableChangedError",
    "bring",
    "load",
    "read_config",
    "read_status",
    "results_folder",
    "run_folder_of",
]
