"""Data sets by name, registered with `@dataset`, and the protocol of streams of tasks."""

from lop.data.fetch import RemoteFile
from lop.data.record import DATASETS, DataSet, Found, dataset
from lop.utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["DATASETS", "DataSet", "Found", "RemoteFile", "dataset"]
