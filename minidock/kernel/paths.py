"""Where a path of the container lies on the host, without falling for the image's symbolic links."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from minidock.errors import InvalidInput
from minidock.kernel.constants import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
from minidock.kernel.door import syscall

MOST_LINKS = 40  # as the kernel allows in one lookup
_PATIENCE = 1000  # lookups


def inside(root: Path, path: str | Path, *, directory: bool = True) -> Path:
    """The host's path of the container's *path*, created where it is missing (a directory, or a file).

    Symbolic links are followed as the container would follow them: an image whose /proc points to /etc
    must not make us mount over the host's /etc. Raises InvalidInput when nothing can be made there.
    Source: openat2(2), RESOLVE_IN_ROOT.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _inside(top, os.path.normpath(f"/{path}"), directory, MOST_LINKS)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be made inside the image: {error.strerror}") from None
    finally:
        os.close(top)


def _inside(top: int, path: str, directory: bool, links: int) -> Path:
    found = _look_up(top, path)
    if found:
        return found
    if not links:
        raise InvalidInput(f"{path}: too many symbolic links inside the image")
    above, name = os.path.split(path)
    parent = _inside(top, above, True, links - 1)
    target = parent / name
    if target.is_symlink():  # it points to what does not exist yet: make that
        return _inside(top, os.path.normpath(os.path.join(above, target.readlink())), directory, links - 1)
    if directory:
        target.mkdir(mode=0o755)
    else:
        target.touch(mode=0o644)
    return target


def _look_up(top: int, path: str) -> Path | None:
    """Follow *path* as in a chroot to the directory *top*; None when it does not exist."""
    try:
        found = open_inside(top, path, os.O_PATH)
    except FileNotFoundError:
        return None
    try:
        return Path(os.readlink(f"/proc/self/fd/{found}"))
    finally:
        os.close(found)


def open_inside(top: int, path: str | bytes, flags: int, *, magic: bool = True) -> int:
    """Open *path* as in a chroot to the directory *top*; without *magic* no link of /proc leads anywhere.

    Unrecorded, for lookups that may well find nothing. Raises OSError. Source: openat2(2).
    """
    rules = RESOLVE_IN_ROOT | (0 if magic else RESOLVE_NO_MAGICLINKS)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, rules)
    for _ in range(_PATIENCE):
        try:
            return syscall("openat2", top, os.fsdecode(path), how, len(how))
        except BlockingIOError:  # EAGAIN: something moved, so that ".." might have led out
            continue
    raise OSError(errno.EAGAIN, "it moves faster than it can be looked up")
