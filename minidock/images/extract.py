"""Put the entries of an archive into a directory, exactly, and never anywhere else.

An archive is a program written by a stranger: "make a link x to /etc, then write x/passwd". Names are
taken apart before use, and every step is a system call relative to the descriptor of the directory it
happens in (see `directories.py`), on one name that is never followed when it is a link.

The same code fills a layer (whiteouts become overlayfs's) and, later, copies files into a container.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from minidock.errors import InvalidInput, MinidockError
from minidock.images import directories, tar
from minidock.images.directories import Directories, clean
from minidock.images.tar import Entry, Reader, shown

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS_METADATA = b".wh..wh."  # what aufs kept about itself; Docker skips it as well
OVERLAY_OPAQUE = "trusted.overlay.opaque"
IMPLIED = "trusted.minidock.implied"  # on directories that the archive never listed (see settle.py)
IMPLIED_BELOW = b"below"  # its value on the root of the layer when other directories have it too
# Attributes with a meaning to overlayfs or to us: an archive must not speak in our name.
RESERVED_XATTRS = (b"trusted.overlay.", b"trusted.minidock.")

MOST_ENTRIES = 4_000_000

_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Extractor:
    """Extracts one archive into *target*, an existing directory. Use as a context manager.

    With *layer* the archive is an image layer: whiteouts are turned into overlayfs's own form, and
    directories that entries imply but the archive does not list are marked :data:`IMPLIED`.
    *max_size* bounds the bytes of all files together.
    """

    def __init__(self, target: Path, *, layer: bool, max_size: int) -> None:
        self._directories = Directories(target)
        self._layer = layer
        self._max_size = max_size
        self._umask = _umask()
        self._listed: dict[bytes, Entry] = {}  # directories: their times and modes are set at the end
        self._implied: set[bytes] = {b""} if layer else set()
        self._made = 0
        self.size = 0  # bytes in files and links so far

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._directories.close()

    def extract(self, reader: Reader) -> None:
        """Extract every entry, then give directories their final mode, owner and time."""
        path = b""
        try:
            for entry in reader:
                path = entry.name
                self._count()
                self._place(entry, clean(path), reader)
                self._directories.trim()
            path = b""
            self._finish()
        except (OSError, OverflowError, ValueError) as error:
            raise _explained(error, path) from error

    # --- one entry

    def _place(self, entry: Entry, path: bytes, reader: Reader) -> None:
        if not path:
            if entry.kind != tar.DIRECTORY:
                raise InvalidInput(f"archive entry {shown(entry.name)}: the root can only be a directory")
            self._listed[b""] = entry
            self._implied.discard(b"")
            return
        parent, _, name = path.rpartition(b"/")
        if self._layer and WHITEOUT in path and self._special(entry, parent, name):
            return
        directory = self._directory(parent)
        if entry.kind == tar.FILE:
            self._file(entry, directory, name, path, reader)
        elif entry.kind == tar.DIRECTORY:
            self._make(lambda: os.mkdir(name, dir_fd=directory), directory, name, path, directory_stays=True)
            self._listed[path] = entry
            self._implied.discard(path)
        elif entry.kind == tar.SYMLINK:
            if b"\0" in entry.link or not entry.link:
                raise InvalidInput(f"archive entry {shown(entry.name)}: a symbolic link to nothing")
            self.size += len(entry.link)  # counted like a file's content, as du and Docker do
            self._make(lambda: os.symlink(entry.link, name, dir_fd=directory), directory, name, path)
            self._dress(entry, directory, name)
        elif entry.kind == tar.HARD_LINK:
            self._hard_link(entry, directory, name, path)
        else:
            self._node(entry, directory, name, path)

    def _file(self, entry: Entry, directory: int, name: bytes, path: bytes, reader: Reader) -> None:
        self.size += entry.size
        if self.size > self._max_size:
            raise too_large(self._max_size)
        mode = entry.mode
        try:
            descriptor = os.open(name, _FILE_FLAGS, mode, dir_fd=directory)
        except FileExistsError:
            self._remove(directory, name, path)
            descriptor = os.open(name, _FILE_FLAGS, mode, dir_fd=directory)
        try:
            if entry.size:
                reader.copy(entry, descriptor)
            # Owner first: chown clears the setuid bit and the file capabilities.
            if entry.uid or entry.gid or not self._layer:
                os.fchown(descriptor, entry.uid, entry.gid)
            if mode & (self._umask | 0o7000):
                os.fchmod(descriptor, mode)
            if entry.xattrs:
                _set_xattrs(entry, descriptor)
            os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _hard_link(self, entry: Entry, directory: int, name: bytes, path: bytes) -> None:
        parent, _, source = clean(entry.link).rpartition(b"/")
        why = f"archive entry {shown(entry.name)}: hard link to {shown(entry.link)}"
        try:
            origin = self._directories.get(parent)
            known = os.lstat(source or b".", dir_fd=origin)
        except (InvalidInput, FileNotFoundError):
            raise InvalidInput(f"{why}, which is not in this archive") from None
        if stat.S_ISDIR(known.st_mode):
            raise InvalidInput(f"{why}, which is a directory")
        if self._layer and _is_whiteout(known):
            raise InvalidInput(f"{why}, which this layer deletes")
        try:
            there = os.lstat(name, dir_fd=directory)
            if (there.st_dev, there.st_ino) == (known.st_dev, known.st_ino):
                return
        except FileNotFoundError:
            pass
        self._make(
            lambda: os.link(source, name, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False),
            directory,
            name,
            path,
        )

    def _node(self, entry: Entry, directory: int, name: bytes, path: bytes) -> None:
        if self._layer and entry.kind == tar.CHARACTER and not entry.device:
            raise InvalidInput(
                f"archive entry {shown(entry.name)}: device 0:0, which overlayfs takes for a whiteout",
                hint="An image deletes a file with an entry named .wh.NAME.",
            )
        mode = entry.mode | _NODES[entry.kind]
        self._make(lambda: os.mknod(name, mode, entry.device, dir_fd=directory), directory, name, path)
        self._dress(entry, directory, name)

    def _dress(self, entry: Entry, directory: int, name: bytes) -> None:
        """Owner, mode, attributes and time of a link or device, which cannot simply be opened."""
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=directory)
        if entry.xattrs:
            _set_xattrs(entry, b"/proc/self/fd/%d/%s" % (directory, name))
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    # --- whiteouts

    def _special(self, entry: Entry, parent: bytes, name: bytes) -> bool:
        """Whether an entry is a message to the union filesystem, not a file; if so, obey it."""
        for part in parent.split(b"/"):
            if part.startswith(AUFS_METADATA):
                return True
            if part.startswith(WHITEOUT):
                raise InvalidInput(f"archive entry {shown(entry.name)}: a file inside a whiteout")
        if name == OPAQUE:
            os.setxattr(self._directory(parent), OVERLAY_OPAQUE, b"y")
        elif name.startswith(WHITEOUT) and not name.startswith(AUFS_METADATA):
            self._whiteout(entry, parent, name.removeprefix(WHITEOUT))
        return name.startswith(WHITEOUT)

    def _whiteout(self, entry: Entry, parent: bytes, hidden: bytes) -> None:
        """``.wh.x`` says that x of the layers below is gone: for overlayfs, a character device 0:0."""
        if hidden in (b"", b".", b".."):
            raise InvalidInput(f"archive entry {shown(entry.name)}: a whiteout of nothing in this directory")
        directory = self._directory(parent)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=directory)
        except FileExistsError:
            # The layer brings its own x. A file hides what is below it; a directory would be merged with it.
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=directory).st_mode):
                own = self._directory(parent + b"/" + hidden if parent else hidden)
                os.setxattr(own, OVERLAY_OPAQUE, b"y")

    # --- making and removing names

    def _make(
        self,
        create: Callable[[], None],
        directory: int,
        name: bytes,
        path: bytes,
        *,
        directory_stays: bool = False,
    ) -> None:
        """Run *create*. Where the name is taken the later entry wins; two directories become one."""
        try:
            create()
            return
        except FileExistsError:
            there = os.lstat(name, dir_fd=directory)
        if directory_stays and stat.S_ISDIR(there.st_mode):
            return
        self._remove(directory, name, path)
        create()
        if directory_stays and self._layer and _is_whiteout(there):
            # Deleted and made anew: nothing of the old directory may shine through.
            os.setxattr(self._directory(path), OVERLAY_OPAQUE, b"y")

    def _remove(self, directory: int, name: bytes, path: bytes) -> None:
        mode = os.lstat(name, dir_fd=directory).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=directory)
            if stat.S_ISLNK(mode):
                self._directories.retire()  # it may have been on the way to directories that are open
            return
        # Every directory inside is first moved to the top: an archive nests deeper than anything recursive
        # can follow, and deeper than there are descriptors.
        prefix = b".minidock-%s-" % os.urandom(8).hex().encode()
        doomed = [(prefix + b"0", path)]
        os.rename(name, prefix + b"0", src_dir_fd=directory, dst_dir_fd=self._directories.root)
        count = 1
        while doomed:
            top, was = doomed.pop()
            self._listed.pop(was, None)
            self._implied.discard(was)
            inside = os.open(top, directories.FLAGS, dir_fd=self._directories.root)
            try:
                for child in map(os.fsencode, os.listdir(inside)):
                    if not stat.S_ISDIR(os.lstat(child, dir_fd=inside).st_mode):
                        os.unlink(child, dir_fd=inside)
                        continue
                    moved = prefix + b"%d" % count
                    os.rename(child, moved, src_dir_fd=inside, dst_dir_fd=self._directories.root)
                    doomed.append((moved, was + b"/" + child))
                    count += 1
            finally:
                os.close(inside)
            os.rmdir(top, dir_fd=self._directories.root)
        self._directories.retire()

    # --- directories

    def _directory(self, path: bytes) -> int:
        return self._directories.get(path, self._imply)

    def _imply(self, above: int, name: bytes, path: bytes, there: os.stat_result | None) -> None:
        """Make a directory that the archive uses and never lists: root's, 0755, until it is settled."""
        deleted = there is not None and self._layer and _is_whiteout(there)
        if deleted:
            os.unlink(name, dir_fd=above)
        elif there is not None:
            raise InvalidInput(f"archive entry below {shown(path)}, which is not a directory")
        self._count()
        os.mkdir(name, dir_fd=above)
        descriptor = os.open(name, directories.FLAGS, dir_fd=above)
        try:
            os.fchmod(descriptor, 0o755)
            if deleted:
                os.setxattr(descriptor, OVERLAY_OPAQUE, b"y")
        finally:
            os.close(descriptor)
        if self._layer:
            self._implied.add(path)

    def _finish(self) -> None:
        """Times last, as every file made in a directory changes its time; modes with them."""
        if b"" not in self._listed and self._layer:
            os.fchmod(self._directories.root, 0o755)
            os.fchown(self._directories.root, 0, 0)
        for path, entry in sorted(self._listed.items()):
            try:
                directory = self._directories.get(path)
            except InvalidInput:
                continue  # it was reached through a link that is gone
            os.fchown(directory, entry.uid, entry.gid)
            os.fchmod(directory, entry.mode)
            _set_xattrs(entry, directory)
            os.utime(directory, ns=(entry.mtime, entry.mtime))
            self._directories.trim()
        for path in self._implied - {b""}:
            with suppress(InvalidInput):  # as above
                os.setxattr(self._directories.get(path), IMPLIED, b"")
            self._directories.trim()
        if self._implied:
            only_root = self._implied == {b""}
            os.setxattr(self._directories.root, IMPLIED, b"" if only_root else IMPLIED_BELOW)

    def _count(self) -> None:
        self._made += 1
        if self._made > MOST_ENTRIES:
            raise InvalidInput(f"archive: more than {MOST_ENTRIES} files and directories")


def too_large(max_size: int) -> InvalidInput:
    """The error for an archive that unpacks to more than the configuration allows."""
    return InvalidInput(
        f"archive: it unpacks to more than {max_size} bytes",
        hint='If you trust it, raise "max-layer-size" in /etc/minidock/daemon.json.',
    )


def _set_xattrs(entry: Entry, where: int | bytes) -> None:
    """As in Docker, attributes that the filesystem does not keep are left out; never capabilities."""
    for key, value in entry.xattrs.items():
        if key.startswith(RESERVED_XATTRS):
            continue
        try:
            os.setxattr(where, key, value, follow_symlinks=isinstance(where, int))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM) or key == b"security.capability":
                raise


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _explained(error: Exception, name: bytes) -> MinidockError:
    what = f"archive entry {shown(name)}" if name else "archive"
    if not isinstance(error, OSError):
        return InvalidInput(f"{what}: a number or name that the kernel cannot hold ({error})")
    hint = None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free space with `minidock prune`, or move data-root to a larger disk."
    return MinidockError(f"{what}: {os.strerror(error.errno or 0)}", hint=hint)


def _umask() -> int:
    """The umask of this process, read without changing it: other threads create files as well."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o777
