"""What attacks on the readers of data share."""

import contextlib
import io
import tarfile
import tracemalloc
import zipfile

import pytest

from lop.utils.errors import UserError


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


@contextlib.contextmanager
def little_memory(limit: int = 10_000_000):
    """What is attacked here asks for 30 MB at least."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def _tar(path, *names, kind=tarfile.REGTYPE, size=1) -> None:
    with tarfile.open(path, "w") as target:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = size if kind == tarfile.REGTYPE else 0
            target.addfile(info, io.BytesIO(bytes(info.size)))


def _zip(path, name="a", method=zipfile.ZIP_DEFLATED, content=bytes(10_000)) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as target:
        target.writestr(name, content)
    return bytearray(path.read_bytes())
