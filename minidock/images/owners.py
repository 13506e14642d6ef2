"""The owners of files that a container with users of its own made: back to what the container saw.

In such a container root is, say, 200000 on the machine, and so are its files (containers/user_namespace.py).
In an image they must be root's again, on whatever machine.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

Owners = Callable[[int, int], tuple[int, int]]
CAPABILITY = "security.capability"
_VERSION, _WITH_ROOT, _WITHOUT = 0xFF000000, 0x03000000, 0x02000000


def anybodys(capabilities: bytes) -> bytes:
    """The capabilities of a file, without the number of the root who gave them.

    Only that root's namespace honours them, and on another machine it is somebody else's number. Source:
    capabilities(7), "File capability extended attribute versioning"; Docker does the same.
    """
    if len(capabilities) != 24:
        return capabilities
    magic, *sets, _ = struct.unpack("<6I", capabilities)
    if magic & _VERSION != _WITH_ROOT:
        return capabilities
    return struct.pack("<5I", magic & ~_VERSION | _WITHOUT, *sets)


def change(tree: Path, owners: Owners) -> None:
    """Give everything in *tree*, and itself, the users and groups that *owners* makes of its own.

    Nobody else may work there meanwhile.
    """
    linked = set()
    for path in _everything(tree):
        status = os.lstat(path)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in linked:  # it has its new owner, who may be another's old one
                continue
            linked.add(status.st_ino)
        new = owners(status.st_uid, status.st_gid)
        if new == (status.st_uid, status.st_gid):
            continue
        regular = stat.S_ISREG(status.st_mode)
        capabilities = b""
        with suppress(OSError):  # it has none
            capabilities = os.getxattr(path, CAPABILITY) if regular else b""
        os.lchown(path, *new)
        # The kernel takes the powers of a program away with its owner.
        if regular and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(status.st_mode))
        if capabilities:
            os.setxattr(path, CAPABILITY, anybodys(capabilities))


def _everything(tree: Path) -> Iterator[str]:
    yield str(tree)
    for directory, directories, names in os.walk(tree):
        yield from (os.path.join(directory, name) for name in (*directories, *names))
