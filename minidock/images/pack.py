"""From a directory to the entries of an archive: the walk behind commit, build, export and cp.

The same tree always gives the same entries: names in byte order, no clock, no user names. A file with
several names is stored once, the others are hard links to the first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from minidock.errors import InvalidInput, MinidockError
from minidock.images import tar
from minidock.images.extract import OPAQUE, OVERLAY_OPAQUE, RESERVED_XATTRS, WHITEOUT
from minidock.images.owners import CAPABILITY, Owners, anybodys
from minidock.images.tar import Entry, Writer, shown

BLOCK = 1 << 20  # bytes read at a time
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}  # sockets are left out: without the process that listens they mean nothing
_WHITEOUT_XATTR = "trusted.overlay.whiteout"  # the form of whiteouts that needs no device
_PARTIAL = ("trusted.overlay.redirect", "trusted.overlay.metacopy")


class Packer:
    """Writes the tree below a directory to *writer*.

    With *layer* the tree is overlayfs's upper directory (or any tree): its whiteouts become ``.wh.``
    entries. *newest*, in seconds, is the latest time that any entry shows (SOURCE_DATE_EPOCH); *owners*
    says which user and group an entry shows for those of the file.
    """

    def __init__(
        self, writer: Writer, *, layer: bool, newest: int | None = None, owners: Owners | None = None
    ) -> None:
        self._writer = writer
        self._owners = owners or (lambda user, group: (user, group))
        self._layer = layer
        self._newest = None if newest is None else newest * 1_000_000_000
        self._links: dict[tuple[int, int], bytes] = {}
        self.size = 0  # bytes of file content so far

    def add_tree(self, tree: Path | int, prefix: bytes = b".", *, itself: bool = True) -> None:
        """Append *tree* (*itself* too, as *prefix*) and everything below it. A descriptor of it is closed.

        Raises MinidockError when a file cannot be read or changes meanwhile; InvalidInput for a name
        that would read as a whiteout.
        """
        try:
            self._directories(os.open(tree, _DIRECTORY) if isinstance(tree, Path) else tree, prefix, itself)
        except OSError as error:
            where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else tree
            raise MinidockError(f"{where}: {error.strerror}") from error

    def add_file(self, file: Path, name: bytes) -> None:
        """Append one thing that is not a directory, under *name*."""
        above = os.open(file.parent, _DIRECTORY)
        try:
            self.add_named(above, os.fsencode(file.name), name)
        finally:
            os.close(above)

    def add_named(self, directory: int, own: bytes, name: bytes) -> None:
        """As :meth:`add_file`, of the file *own* in an open directory."""
        self._add(directory, own, name, os.lstat(own, dir_fd=directory))

    def _directories(self, root: int, prefix: bytes, itself: bool) -> None:
        """Walk depth first, without recursion. Open directories: one for each level of the way down."""
        levels = [(root, prefix, iter(self._names(root)))]
        try:
            if itself:
                self._add_directory(root, prefix)
            while levels:
                directory, path, names = levels[-1]
                name = next(names, None)
                if name is None:
                    os.close(levels.pop()[0])
                    continue
                below = name if path == b"." else path + b"/" + name
                try:
                    inside = self._add_child(directory, name, below)
                except FileNotFoundError:  # removed since it was listed, as in a container that runs
                    if self._layer:
                        raise
                    continue
                if inside is not None:
                    levels.append((inside, below, iter(())))
                    self._add_directory(inside, below)
                    levels[-1] = (inside, below, iter(self._names(inside)))
        finally:
            for directory, _, _ in levels:
                os.close(directory)

    def _add_child(self, directory: int, name: bytes, path: bytes) -> int | None:
        """Append what is no directory; of a directory return the descriptor."""
        status = os.lstat(name, dir_fd=directory)
        if not stat.S_ISDIR(status.st_mode):
            self._add(directory, name, path, status)
            return None
        if self._layer and name.startswith(WHITEOUT):
            raise _reserved(path)
        return os.open(name, _DIRECTORY, dir_fd=directory)

    def _names(self, directory: int) -> list[bytes]:
        return sorted(map(os.fsencode, os.listdir(directory)))

    def _add_directory(self, directory: int, path: bytes) -> None:
        entry = self._entry(path + b"/", os.fstat(directory))
        entry.xattrs = self._xattrs(directory, path)
        self._writer.add(entry)
        if self._layer and OVERLAY_OPAQUE in os.listxattr(directory):
            if os.getxattr(directory, OVERLAY_OPAQUE) != b"y":
                return
            self._message(path + b"/" + OPAQUE if path != b"." else OPAQUE, entry.mtime)

    def _message(self, name: bytes, mtime: int) -> None:
        self._writer.add(Entry(name, mode=0o600, mtime=mtime))

    def _add(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        if stat.S_IFMT(status.st_mode) not in _KINDS:
            return None
        above, _, _ = path.rpartition(b"/")
        if self._layer:
            if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                return self._whiteout(above, name, status)
            if name.startswith(WHITEOUT):
                raise _reserved(path)
        entry = self._entry(path, status)
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in self._links:
            entry.kind, entry.link = tar.HARD_LINK, self._links[identity]
            return self._writer.add(entry)
        where = b"/proc/self/fd/%d/%s" % (directory, name)
        if entry.kind == tar.SYMLINK:
            entry.link = os.readlink(name, dir_fd=directory)
        if entry.kind != tar.FILE:
            entry.xattrs = self._xattrs(where, path)
            self._writer.add(entry)
        else:
            descriptor = _open_regular(directory, name, path)
            try:
                entry.xattrs = self._xattrs(descriptor, path)
                if self._layer and entry.size == 0 and _WHITEOUT_XATTR in os.listxattr(descriptor):
                    return self._whiteout(above, name, status)
                entry.size = os.fstat(descriptor).st_size  # more than at lstat, if somebody writes to it
                self._writer.add(entry, _content(descriptor, entry.size))
                self.size += entry.size
            finally:
                os.close(descriptor)
        if status.st_nlink > 1:
            self._links[identity] = path
        return None

    def _whiteout(self, above: bytes, name: bytes, status: os.stat_result) -> None:
        whiteout = WHITEOUT + name
        self._message(above + b"/" + whiteout if above else whiteout, self._time(status))

    def _entry(self, path: bytes, status: os.stat_result) -> Entry:
        return Entry(
            path,
            _KINDS[stat.S_IFMT(status.st_mode)],
            stat.S_IMODE(status.st_mode),
            *self._owners(status.st_uid, status.st_gid),
            mtime=self._time(status),
            device=status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
        )

    def _time(self, status: os.stat_result) -> int:
        return status.st_mtime_ns if self._newest is None else min(status.st_mtime_ns, self._newest)

    def _xattrs(self, where: int | bytes, path: bytes) -> dict[bytes, bytes]:
        """Attributes to keep, not those in which overlayfs and minidock keep their own notes."""
        follow = isinstance(where, int)
        kept = {}
        for key in os.listxattr(where, follow_symlinks=follow):
            if self._layer and key in _PARTIAL:
                raise InvalidInput(
                    f"{shown(path)}: has {key}: its content is partly elsewhere",
                    hint="Mount the overlay with redirect_dir=off,metacopy=off.",
                )
            name = os.fsencode(key)
            if not name.startswith(RESERVED_XATTRS):
                value = os.getxattr(where, key, follow_symlinks=follow)
                kept[name] = anybodys(value) if key == CAPABILITY else value
        return kept


def _open_regular(directory: int, name: bytes, path: bytes) -> int:
    """Open a file that was a regular one a moment ago, and never anything else.

    A running container may have put a device there meanwhile, which it could not open itself: opening is
    enough to rewind a tape or to start a watchdog. So it is looked at before, by a descriptor that opens
    nothing.
    """
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise MinidockError(f"{shown(path)} changed while it was read")
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def _content(descriptor: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0 and (piece := os.read(descriptor, min(left, BLOCK))):
        left -= len(piece)
        yield piece


def _reserved(path: bytes) -> InvalidInput:
    return InvalidInput(
        f"{shown(path)}: a layer takes names that start with .wh. for deletions",
        hint="Rename the file before the commit.",
    )
