"""The directories of a tree that a stranger describes: opened once, and never left.

Every lookup is relative to the descriptor of the directory it happens in and does not follow a link in
its last component. Where a *parent* is a link that the archive made, it is looked up as the container
will see it, by openat2(2) with RESOLVE_IN_ROOT: "/" and ".." end at the root of the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from minidock.errors import InvalidInput, KernelError
from minidock.images.header import shown
from minidock.kernel import syscalls

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST_PATH = 4095  # PATH_MAX without its final NUL
_OPEN = 200  # descriptors kept; the usual limit of a process is 1024
_DEEP = 40  # so many steps at once are not worth a descriptor each


def clean(name: bytes) -> bytes:
    """*name* as a path relative to the target; b"" is the target itself.

    As in Docker a leading "/" is dropped and "a/../b" is "b". Raises InvalidInput for names that lead out.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidInput(f"archive entry {shown(name)}: the name leads out of the directory")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    path = b"/".join(parts)
    if not name or b"\0" in name:
        raise InvalidInput(f"archive entry {shown(name)}: not a name")
    if len(path) > LONGEST_PATH:
        raise InvalidInput(f"archive entry {shown(name)}: the name is longer than {LONGEST_PATH} bytes")
    return path


# What to do where a directory is missing: called with the descriptor above, the name, the whole path and
# what stands there instead (None: nothing). It makes the directory, or raises.
Make = Callable[[int, bytes, bytes, os.stat_result | None], None]


class Directories:
    """Descriptors of the directories below *root*, by their path (b"" is the root itself).

    A descriptor stays valid until :meth:`trim`, which the owner calls between two entries.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[bytes, int] = {b"": self.root}
        self._retired: list[int] = []

    def close(self) -> None:
        self.retire()
        self.trim()
        os.close(self.root)

    def get(self, path: bytes, make: Make | None = None) -> int:
        """A descriptor of the directory *path*; *make* is called for every part that is missing.

        Raises InvalidInput where *make* is None and a part is missing, or a link leads to no directory.
        """
        known = self._open.get(path)
        if known is not None:
            return known
        start = path  # begin at the nearest directory that is open: mostly the parent
        while start not in self._open:
            start = start.rpartition(b"/")[0]
        first = at = self._open[start]
        rest = path[len(start) :].lstrip(b"/").split(b"/")
        if len(rest) > _DEEP and (found := self._lookup(path)) is not None:
            self._open[path] = found
            return found
        for name in rest:
            start = start + b"/" + name if start else name
            try:
                above, at = at, self._step(at, name, start, make)
            except BaseException:
                if len(rest) > _DEEP and at != first:
                    os.close(at)
                raise
            if len(rest) <= _DEEP:
                self._open[start] = at
            elif above != first:  # a path made to use up descriptors
                os.close(above)
        self._open[path] = at
        return at

    def _step(self, above: int, name: bytes, path: bytes, make: Make | None) -> int:
        there = None
        try:
            return os.open(name, FLAGS, dir_fd=above)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            there = os.lstat(name, dir_fd=above)
            if stat.S_ISLNK(there.st_mode):
                found = self._lookup(path)
                if found is None:
                    why = "a symbolic link to no directory of this archive"
                    raise InvalidInput(f"archive entry below {shown(path)}, {why}") from None
                return found
        if make is None:
            raise InvalidInput(f"archive: {shown(path)} is not a directory")
        make(above, name, path, there)
        return os.open(name, FLAGS, dir_fd=above)

    def _lookup(self, path: bytes) -> int | None:
        """Open *path*, links and all, as the container will see it: nothing above the root exists."""
        beneath = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
        try:
            return syscalls.openat2(self.root, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY, beneath)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise

    def retire(self) -> None:
        """Forget the open directories: one of them, or a link on the way to it, was removed.

        They stay open until :meth:`trim`, as the current entry may still use some of them.
        """
        del self._open[b""]
        self._retired += self._open.values()
        self._open = {b"": self.root}

    def trim(self) -> None:
        """Close what is no longer wanted."""
        if len(self._open) > _OPEN:
            self.retire()
        for descriptor in self._retired:
            os.close(descriptor)
        self._retired.clear()
