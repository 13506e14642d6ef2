"""Write the items of a COPY into the tree of a new layer.

A layer holds what is new and nothing else. But overlayfs shows the topmost of the directories that it
merges, with its mode, owner and time: so a directory that is only on the way to a new file must look as
it did below. `images/settle.py` sees to that, as for layers that come from a registry.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from minidock.build import archives
from minidock.build.digests import CAPABILITIES
from minidock.build.layout import Item
from minidock.build.view import Found, View, shown_name
from minidock.errors import InvalidInput, MinidockError
from minidock.files import FULL
from minidock.images.directories import Directories
from minidock.images.extract import IMPLIED, IMPLIED_BELOW
from minidock.images.settle import settle

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 1_000_000_000


def write(items: Sequence[Item], tree: Path, below: View, newest: int | None = None) -> None:
    """Write *items* to *tree*, an empty directory, as a layer on top of *below*.

    Raises MinidockError for what cannot be read or written; *tree* then holds a part.
    """
    writer = _Writer(tree, below, newest)
    item = None
    try:
        for item in items:
            writer.write(item)
        writer.finish()
        settle(tree, below.trees)
    except OSError as error:
        raise _explained(error, item) from error
    finally:
        writer.directories.close()


class _Writer:
    def __init__(self, tree: Path, below: View, newest: int | None) -> None:
        self.directories = Directories(tree)
        self._tree = tree
        self._below = below
        self._newest = None if newest is None else newest * _SECOND
        self._now = time.time_ns()
        self._made: list[Item] = []  # directories: they get their looks last

    def write(self, item: Item) -> None:
        above, _, name = os.fsencode(item.target).rpartition(b"/")
        if item.unpack and item.found:
            archives.add(item.found, self._tree, item.target, self._below, self._newest)
            self.directories.retire()
        elif item.is_directory:
            self._directory(item, above, name)
        else:
            directory = self.directories.get(above)
            self._make_room(directory, name, item)
            if item.same_as:
                first_above, _, first = os.fsencode(item.same_as).rpartition(b"/")
                origin = self.directories.get(first_above)
                os.link(first, name, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)
            elif stat.S_ISREG(item.mode):
                self._file(item, directory, name)
            else:
                self._special(item, directory, name)
        self.directories.trim()

    def finish(self) -> None:
        """Directories last: every file made in one changes its time, and its mode may forbid us to write."""
        for item in reversed(self._made):
            directory = self.directories.get(os.fsencode(item.target))
            os.fchown(directory, *item.owner)
            os.fchmod(directory, stat.S_IMODE(item.mode))
            os.utime(directory, ns=self._times(item.found))
            if not item.found:
                os.setxattr(directory, IMPLIED, b"")  # settle() knows whether the image has it
            self.directories.trim()
        os.setxattr(self.directories.root, IMPLIED, IMPLIED_BELOW)

    def _directory(self, item: Item, above: bytes, name: bytes) -> None:
        if name:
            try:
                os.mkdir(name, 0o700, dir_fd=self.directories.get(above))
            except FileExistsError:  # an archive brought it
                self.directories.get(os.fsencode(item.target))
                if not item.found:
                    return
        self._made.append(item)

    def _make_room(self, directory: int, name: bytes, item: Item) -> None:
        """Remove what an archive of the same ADD put there before."""
        try:
            mode = os.lstat(name, dir_fd=directory).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            raise InvalidInput(f"cannot replace to directory /{shown_name(item.target)} with file")
        os.unlink(name, dir_fd=directory)

    def _file(self, item: Item, directory: int, name: bytes) -> None:
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        try:
            capabilities = b""
            if item.found:
                capabilities = _copy(item.found, descriptor)
            else:
                _write_all(descriptor, item.text)
            # Owner first: chown clears the setuid bit and the capabilities.
            if item.owner != (0, 0):
                os.fchown(descriptor, *item.owner)
            os.fchmod(descriptor, stat.S_IMODE(item.mode))
            if capabilities:
                os.setxattr(descriptor, CAPABILITIES, capabilities)
            os.utime(descriptor, ns=self._times(item.found))
        finally:
            os.close(descriptor)

    def _special(self, item: Item, directory: int, name: bytes) -> None:
        """A symbolic link, a device or a fifo."""
        assert item.found
        if item.found.is_link:
            os.symlink(os.fsencode(item.found.target()), name, dir_fd=directory)
        else:
            os.mknod(name, item.mode, item.found.status.st_rdev, dir_fd=directory)
        os.chown(name, *item.owner, dir_fd=directory, follow_symlinks=False)
        if not item.found.is_link:
            os.chmod(name, stat.S_IMODE(item.mode), dir_fd=directory)
        os.utime(name, ns=self._times(item.found), dir_fd=directory, follow_symlinks=False)

    def _times(self, found: Found | None) -> tuple[int, int]:
        """The source's time in whole seconds: what an archive of the layer can say in its plain header."""
        mtime = found.status.st_mtime_ns if found else self._now
        if self._newest is not None:
            mtime = min(mtime, self._newest)
        mtime -= mtime % _SECOND
        return mtime, mtime


def _copy(found: Found, target: int) -> bytes:
    """Copy the content of a file; returns its capabilities.

    Raises MinidockError when it changed since the digest was made.
    """
    source = found.open()
    try:
        left = found.status.st_size
        while left and (sent := os.sendfile(target, source, None, left)):
            left -= sent
        found.check(source)
        return os.getxattr(source, CAPABILITIES) if CAPABILITIES in os.listxattr(source) else b""
    finally:
        os.close(source)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _explained(error: OSError, item: Item | None) -> MinidockError:
    hint = "Free space with `minidock prune`, or move data-root to a larger disk."
    name = f"/{shown_name(item.target)}: " if item else ""
    return MinidockError(
        f"failed to copy files: {name}{error.strerror}", hint=hint if error.errno in FULL else None
    )
