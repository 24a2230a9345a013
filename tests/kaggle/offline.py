"""Run a command as a notebook service does: the network cut off, input folders read-only.

    python offline.py INPUT_FOLDER -- command ...

In namespaces of its own (network, mounts) where the system allows it; elsewhere sockets to other machines are refused
in every Python below, and the folder loses its write bits. Linux first, but works anywhere.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path

NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

BLOCK = """
import socket

_connect = socket.socket.connect


def connect(self, address):
    if self.family == socket.AF_UNIX or str(address[0]).startswith(("127.", "localhost", "::1")):
        return _connect(self, address)
    raise OSError(101, "Network is unreachable")


socket.socket.connect = connect
"""


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespaces(folder: Path) -> None:
    """Raises OSError where the system does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEWNS | NEWNET):
        checked(libc.unshare(NEWUSER | NEWNS | NEWNET))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    place = os.fsencode(folder)
    checked(libc.mount(place, place, None, MS_BIND | MS_REC, None))
    checked(libc.mount(None, place, None, MS_BIND | MS_REMOUNT | MS_RDONLY, None))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # the kernel talks over the loopback
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def refuse_in_python(folder: Path) -> None:
    block = tempfile.mkdtemp()
    Path(block, "sitecustomize.py").write_text(BLOCK)
    os.environ["PYTHONPATH"] = block
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & 0o555)


if __name__ == "__main__":
    folder, _, *command = sys.argv[1:]
    try:
        enter_namespaces(Path(folder))
    except (OSError, AttributeError):
        refuse_in_python(Path(folder))
    os.execv(command[0], command)
