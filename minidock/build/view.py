"""The files of an image or a directory, seen as a container would see them, with nothing mounted.

`kernel/overlay.py` lets the kernel unite stacked layers. A build only wants to look: is there a /bin, and
where does it lead? what is in /etc/passwd? which files does ``COPY --from`` take? Mounting for each such
question would cost more than it answers, and cannot be done by a process with threads. So here the same
rules are followed by hand: the topmost layer that has a name decides, directories merge, a whiteout
hides, and every symbolic link leads to a place *inside* the image.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minidock.errors import InvalidInput, MinidockError
from minidock.images.header import shown
from minidock.kernel import overlay
from minidock.kernel.constants import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS
from minidock.kernel.door import syscall

MOST_LINKS = 40  # symbolic links in one lookup, as in the kernel
MOST_READ = 4 << 20  # bytes of a file that is read whole

_AT_FDCWD = -100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A fifo must not hold us up until somebody writes to it.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_LINKS = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a view: *name* from its root (``usr/bin/env``, "" is the root), *path* on the host.

    *directories* are those that merge into it, topmost first; none when it is no directory.
    """

    name: str
    path: Path
    status: os.stat_result
    directories: tuple[Path, ...] = ()

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def open(self) -> int:
        """A descriptor to read this regular file; the caller closes it.

        Raises MinidockError when it is no longer the file that was found: others may write here.
        """
        try:
            descriptor = _open(self.path, _FILE)
        except OSError as error:
            raise MinidockError(f"{shown_name(self.name)}: {error.strerror}") from None
        try:
            self.check(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def target(self) -> str:
        """Where this symbolic link points to. Raises MinidockError when it is no longer what was found."""
        try:
            target = os.readlink(self.path)
            self._compare(os.lstat(self.path))
        except OSError as error:
            raise MinidockError(f"{shown_name(self.name)}: {error.strerror}") from None
        return target

    def check(self, descriptor: int) -> None:
        """Raises MinidockError when the file changed since it was found."""
        self._compare(os.fstat(descriptor))

    def _compare(self, now: os.stat_result) -> None:
        if _signature(now) != _signature(self.status):
            raise MinidockError(
                f"{shown_name(self.name)}: changed while it was being copied",
                hint="Build again when nothing writes to it, or name it in .dockerignore.",
            )


class View:
    """The files of *trees*: extracted layers, topmost first, or one plain directory. None: ``scratch``.

    Paths start at the root of the view, with or without a ``/``. Safe to use by several threads.
    """

    def __init__(self, trees: Sequence[Path]) -> None:
        # Real paths: below them no lookup may meet a link that we have not looked at.
        self.trees = tuple(Path(os.path.realpath(tree)) for tree in trees)

    def find(self, path: str, *, follow: bool = True) -> Found | None:
        """What *path* leads to; None when there is nothing. A last link is followed if *follow*.

        Raises InvalidInput when links lead in a circle, MinidockError when a directory cannot be read.
        """
        return self._look_up(path, follow)[1]

    def resolve(self, path: str) -> str:
        """The name that *path* leads to after all links, be there something or not yet."""
        return self._look_up(path, True)[0]

    def names(self, path: str) -> list[str]:
        """The sorted names in the directory *path*; none when there is no such directory."""
        found = self.find(path)
        return [child.name.rpartition("/")[2] for child in _children(found)] if found else []

    def walk(self, path: str, enter: Callable[[Found], bool] = lambda _: True) -> Iterator[Found]:
        """*path* itself, then everything below it: sorted, parents first, links not followed.

        Only directories that *enter* agrees to are opened.
        """
        top = self.find(path, follow=False)
        todo = [top] if top else []
        while todo:
            found = todo.pop()
            yield found
            if found.is_directory and enter(found):
                todo += reversed(_children(found))

    def read(self, path: str) -> bytes:
        """The content of a small regular file. Raises MinidockError for anything else."""
        found = self.find(path)
        if found is None or not found.is_file:
            raise InvalidInput(f"{shown_name(path)}: no such file")
        if found.status.st_size > MOST_READ:
            raise InvalidInput(f"{shown_name(path)}: larger than {MOST_READ} bytes")
        with open(found.open(), "rb") as file:
            return file.read(MOST_READ)

    def _root(self) -> Found | None:
        if not self.trees:
            return None
        try:
            return Found("", self.trees[0], os.stat(self.trees[0]), self.trees)
        except OSError as error:
            raise MinidockError(f"{self.trees[0]}: {error.strerror}") from None

    def _look_up(self, path: str, follow: bool) -> tuple[str, Found | None]:
        """Walk down *path* name by name: where it leads, and what is there."""
        todo = path.split("/")[::-1]
        way: list[tuple[str, Found | None]] = [("", self._root())]  # what was gone through, for ".."
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                way = way[:-1] or way
                continue
            name, above = way[-1]
            name = f"{name}/{part}" if name else part
            found = look_into(above, part) if above else None
            if found and found.is_link and (follow or any(rest not in ("", ".") for rest in todo)):
                links += 1
                if links > MOST_LINKS:
                    raise InvalidInput(f"{shown_name(path)}: too many levels of symbolic links")
                target = found.target()
                todo += target.split("/")[::-1]
                way = way[:1] if target.startswith("/") else way
                continue
            way.append((name, found))
        return way[-1]


def shown_name(name: str) -> str:
    """A name for a message: as it is, unless it would garble the line."""
    return name if name.isprintable() else shown(os.fsencode(name))


def look_into(directory: Found, name: str) -> Found | None:
    """What the directory shows under *name*: the rules of overlayfs (lesson 04)."""
    try:
        status, layer, merged = overlay.lookup(list(directory.directories), name)
    except (NotADirectoryError, ValueError):  # it was replaced a moment ago; no name holds a null byte
        return None
    except OSError as error:
        raise MinidockError(f"{shown_name(directory.name)}/{shown_name(name)}: {error.strerror}") from None
    if status is None or layer is None or stat.S_ISSOCK(status.st_mode):
        return None  # without the process that listens a socket means nothing: no layer holds one
    whole = f"{directory.name}/{name}" if directory.name else name
    return Found(whole, layer / name, status, tuple(merged))


def _children(directory: Found) -> list[Found]:
    """What the directory shows, sorted by name."""
    names: set[str] = set()
    for path in directory.directories:
        try:
            descriptor = _open(path, _DIRECTORY)
            try:
                names.update(os.listdir(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise MinidockError(f"{shown_name(directory.name) or path}: {error.strerror}") from None
    children = (look_into(directory, name) for name in sorted(names))
    return [child for child in children if child]


def _open(path: Path, flags: int) -> int:
    """Open *path*, refusing every link on the way: somebody may have put one there just now."""
    how = struct.pack("QQQ", flags, 0, _NO_LINKS)
    return syscall("openat2", _AT_FDCWD, path, how, len(how))


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
