"""Unpickling of plain arrays, lists and dicts from files that nobody vouches for."""

import io
import pickle
from pathlib import Path

import numpy as np

from lop.utils.errors import UserError
from lop.utils.files import require_regular


def _encode(text: str, encoding: str) -> bytes:
    # how Python 3 writes bytes with protocol 2; other codecs (zlib, ...) have no business here
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")


def _numpy_core(name: str):
    """A private constructor that numpy's own pickles name, wherever this version of numpy keeps it."""
    core = getattr(np, "_core", None) or np.core
    return getattr(core.multiarray if name == "_reconstruct" else core.numeric, name)


# the callables a pickled array needs; every other name in a file is refused
_ALLOWED = {
    ("numpy", "ndarray"): lambda: np.ndarray,
    ("numpy", "dtype"): lambda: np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda: _numpy_core("_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): lambda: _numpy_core("_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"): lambda: _numpy_core("_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"): lambda: _numpy_core("_frombuffer"),
    ("_codecs", "encode"): lambda: _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _ALLOWED[module, name]()


def load_pickled_arrays(path: Path) -> dict:
    """The pickled dict in a file, written by Python 2 or 3; Python 2 strings are bytes.

    Only arrays, numbers, strings, lists and dicts are made. Raises UserError for anything else, and for a file
    that is truncated, corrupt or no pickle.
    """
    try:
        content = require_regular(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        value = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # the bytes decide what goes wrong: any error means that the file is not good
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is truncated, corrupt or not a data file ({reason}): fetch it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__} instead of a dict of arrays: fetch it again")
    return value
