"""Unpickling of plain arrays, lists and dicts from files that nobody vouches for."""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any, cast

import numpy as np

from lop.utils.errors import UserError
from lop.utils.files import require_regular

MAX_BYTES = 1 << 30  # of a file; the largest published one, CIFAR-100's, has 155 MB


class _Stored:
    """Stands where a pickle asks numpy to build something: keeps what it was called with, and builds nothing.

    An array is made of it when it is read, from bytes that are in the file (`_array`): what a pickle calls for need
    not be there, and the few bytes that call for it would fill the memory.
    """

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reconstructed(_Stored):
    pass


class _Buffered(_Stored):
    pass


class _DType(_Stored):
    pass


class _NDArray:
    """The class, only ever named."""


# the callables a pickled array needs; every other name in a file is refused
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstructed,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstructed,
    ("numpy.core.numeric", "_frombuffer"): _Buffered,
    ("numpy._core.numeric", "_frombuffer"): _Buffered,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._left = len(content)

    def _encode(self, text: str, encoding: str) -> bytes:
        # how Python 3 writes bytes with protocol 2; other codecs (zlib, ...) have no business here
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
        self._left -= len(text)  # of one text in the file, many could be made
        if self._left < 0:
            raise pickle.UnpicklingError("it unpacks to more bytes than it has")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _ALLOWED[module, name]


def load_pickled_arrays(path: Path) -> dict:
    """The pickled dict in a file of at most 1 GiB, written by Python 2 or 3; Python 2 strings are bytes.

    Only numbers, strings, lists and dicts are made, and arrays of numbers that are values of that dict; they are as
    large as what the file holds of them. Raises UserError for anything else, and for a file that is truncated,
    corrupt or no pickle.
    """
    try:
        if require_regular(path).stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES} bytes, so it is no data file: fetch it again")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        _check_operations(content)
        value = _ArrayUnpickler(content).load()
        if isinstance(value, dict):
            return {key: _array(entry) if isinstance(entry, _Stored) else entry for key, entry in value.items()}
    except Exception as error:  # the bytes decide what goes wrong: any error means that the file is not good
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is truncated, corrupt or not a data file ({reason}): fetch it again") from None
    raise UserError(f"{path} holds a {type(value).__name__} instead of a dict of arrays: fetch it again")


def _check_operations(content: bytes) -> None:
    """Raises ValueError for a count that is not of bytes in the file, or a memo far larger than what is put into it.

    The unpickler makes room for both before it looks at what follows.
    """
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name.endswith("PUT") and isinstance(argument, int) and argument > number:
            raise pickle.UnpicklingError(f"its operation {number} is to be remembered as number {argument}")


def _array(stored: _Stored) -> np.ndarray:
    """What numpy would have built, a view of the bytes in the file."""
    order: Any
    if isinstance(stored, _Buffered):  # protocol 5
        content, dtype, shape, order = stored.arguments
    elif isinstance(stored, _Reconstructed):
        _, shape, dtype, is_fortran, content = stored.state
        order = "F" if is_fortran else "C"
    else:
        raise pickle.UnpicklingError("it holds a type where an array belongs")
    numbers = np.frombuffer(content, _number_type(dtype))
    shape = (shape,) if isinstance(shape, int) else shape
    if math.prod(shape) != len(numbers) or min(shape, default=0) < 0:
        raise pickle.UnpicklingError(f"an array of the shape {shape} has {len(numbers)} numbers")
    return numbers.reshape(shape, order=order)


def _number_type(stored: _DType) -> np.dtype:
    found = np.dtype(_text(stored.arguments[0]))
    if found.kind not in "biuf":
        raise pickle.UnpicklingError(f"an array of {found}, not of numbers")
    byte_order = _text(stored.state[1]) if stored.state else "="
    return found.newbyteorder(cast(Any, byte_order))  # numpy refuses what is none


def _text(name: str | bytes) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else name
