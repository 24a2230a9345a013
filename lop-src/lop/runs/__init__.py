"""The run folder: written by one run (`RunFolder`), read back from many at once (`load`)."""

from lop.runs.folder import SCHEMA, RunFolder, read_config, read_status
from lop.runs.reading import Results, load
from lop.runs.table import TABLES, Table

__all__ = ["SCHEMA", "TABLES", "Results", "RunFolder", "Table", "load", "read_config", "read_status"]
