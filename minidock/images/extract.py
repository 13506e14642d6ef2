"""Put the entries of an archive into a directory, exactly, and never anywhere else.

An archive is a program written by a stranger: "make a link x to /etc, then write x/passwd". Every name
is therefore taken apart first (no "..", no NUL), and every step is a system call relative to the
descriptor of the directory it happens in, which never follows a link in its last component. Where a
*parent* is a link that the archive made, it is looked up as the container will see it, by openat2(2)
with RESOLVE_IN_ROOT: "/" and ".." end at the target.

The same code fills a layer (whiteouts become overlayfs's) and, later, copies files into a container.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from minidock.errors import InvalidInput, KernelError, MinidockError
from minidock.images import tar
from minidock.images.tar import Entry, Reader, shown
from minidock.kernel import syscalls

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS_METADATA = b".wh..wh."  # what aufs kept about itself; Docker skips it as well
OVERLAY_OPAQUE = "trusted.overlay.opaque"
IMPLIED = "trusted.minidock.implied"  # on directories that the archive never listed
# Attributes with a meaning to overlayfs or to us: an archive must not speak in our name.
RESERVED_XATTRS = (b"trusted.overlay.", b"trusted.minidock.")

LONGEST_PATH = 4095  # PATH_MAX without its final NUL
MOST_ENTRIES = 4_000_000
_OPEN_DIRECTORIES = 200  # descriptors kept; the usual limit of a process is 1024

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


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


class Extractor:
    """Extracts one archive into *target*, an existing directory. Use as a context manager.

    With *layer* the archive is an image layer: whiteouts are turned into overlayfs's own form, and
    directories that entries imply but the archive does not list are marked :data:`IMPLIED`.
    *max_size* bounds the bytes of all files together.
    """

    def __init__(self, target: Path, *, layer: bool, max_size: int) -> None:
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._layer = layer
        self._max_size = max_size
        self._umask = _umask()
        self._open: dict[bytes, int] = {b"": self._root}
        self._listed: dict[bytes, Entry] = {}  # directories: their times and modes are set at the end
        self._implied: set[bytes] = {b""} if layer else set()
        self._retired: list[int] = []
        self._made = 0
        self.size = 0  # bytes of file content so far

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._retire()
        self._trim()
        os.close(self._root)

    def extract(self, reader: Reader) -> None:
        """Extract every entry, then give directories their final mode, owner and time."""
        path = b""
        try:
            for entry in reader:
                path = entry.name
                self._count()
                self._place(entry, clean(path), reader)
                self._trim()
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
        if self._layer and WHITEOUT in path:
            if path.startswith(AUFS_METADATA) or b"/" + AUFS_METADATA in path:
                if name == OPAQUE and AUFS_METADATA not in parent:
                    os.setxattr(self._directory(parent), OVERLAY_OPAQUE, b"y")
                return
            if path.startswith(WHITEOUT) or b"/" + WHITEOUT in path:
                self._whiteout(parent, name, entry)
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
            origin = self._directory(parent, create=False)
            known = os.lstat(source, dir_fd=origin)
        except FileNotFoundError:
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

    def _whiteout(self, parent: bytes, name: bytes, entry: Entry) -> None:
        """``.wh.x`` says that x of the layers below is gone: for overlayfs, a character device 0:0."""
        hidden = name[len(WHITEOUT) :]
        if not name.startswith(WHITEOUT) or parent.startswith(WHITEOUT) or b"/" + WHITEOUT in parent:
            raise InvalidInput(f"archive entry {shown(entry.name)}: something inside a whiteout")
        if hidden in (b"", b".", b".."):
            raise InvalidInput(f"archive entry {shown(entry.name)}: a whiteout of nothing in this directory")
        directory = self._directory(parent)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=directory)
        except FileExistsError:
            # The layer brings its own x. A file hides what is below it; a directory would be merged.
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=directory).st_mode):
                os.setxattr(
                    self._directory(parent + b"/" + hidden if parent else hidden), OVERLAY_OPAQUE, b"y"
                )

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
                self._retire()  # it may have been on the way to directories that are open
            return
        # Every directory inside is first moved to the top: an archive nests deeper than anything recursive
        # can follow, and deeper than there are descriptors.
        prefix = b".minidock-%s-" % os.urandom(8).hex().encode()
        doomed = [(prefix + b"0", path)]
        os.rename(name, prefix + b"0", src_dir_fd=directory, dst_dir_fd=self._root)
        count = 1
        while doomed:
            top, was = doomed.pop()
            self._listed.pop(was, None)
            self._implied.discard(was)
            inside = os.open(top, _DIRECTORY_FLAGS, dir_fd=self._root)
            try:
                for child in map(os.fsencode, os.listdir(inside)):
                    if not stat.S_ISDIR(os.lstat(child, dir_fd=inside).st_mode):
                        os.unlink(child, dir_fd=inside)
                        continue
                    moved = prefix + b"%d" % count
                    os.rename(child, moved, src_dir_fd=inside, dst_dir_fd=self._root)
                    doomed.append((moved, was + b"/" + child))
                    count += 1
            finally:
                os.close(inside)
            os.rmdir(top, dir_fd=self._root)
        self._retire()

    # --- directories

    def _directory(self, path: bytes, *, create: bool = True) -> int:
        """A descriptor of the directory *path*, made where it is missing. Valid for the current entry.

        Raises FileNotFoundError when it is missing and *create* is false.
        """
        known = self._open.get(path)
        if known is not None:
            return known
        start = path  # begin at the nearest directory that is open: mostly the parent
        while start not in self._open:
            start = start.rpartition(b"/")[0]
        first = at = self._open[start]
        rest = path[len(start) :].lstrip(b"/").split(b"/")
        keep = len(rest) < _OPEN_DIRECTORIES // 4  # else it is a path made to use up descriptors
        for name in rest:
            start = start + b"/" + name if start else name
            above = at
            try:
                at = self._step(above, name, start, create)
            finally:
                if not keep and above != first:
                    os.close(above)
            if keep:
                self._open[start] = at
        self._open[path] = at
        return at

    def _step(self, above: int, name: bytes, path: bytes, create: bool) -> int:
        try:
            return os.open(name, _DIRECTORY_FLAGS, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
        except NotADirectoryError:
            there = os.lstat(name, dir_fd=above)
            if stat.S_ISLNK(there.st_mode):
                return self._follow(path)
            if not (self._layer and create and _is_whiteout(there)):
                raise InvalidInput(f"archive entry below {shown(path)}, which is not a directory") from None
            os.unlink(name, dir_fd=above)
            os.mkdir(name, dir_fd=above)
            os.setxattr(self._imply(above, name, path), OVERLAY_OPAQUE, b"y")
            return os.open(name, _DIRECTORY_FLAGS, dir_fd=above)
        os.mkdir(name, dir_fd=above)
        return self._imply(above, name, path)

    def _imply(self, above: int, name: bytes, path: bytes) -> int:
        """A directory that the archive uses and never lists: root's, 0755, until its parents tell better."""
        self._count()
        descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=above)
        os.fchmod(descriptor, 0o755)
        if self._layer:
            self._implied.add(path)
        return descriptor

    def _follow(self, path: bytes) -> int:
        """Open a directory behind a link as the container will see it: nothing above the target exists."""
        beneath = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
        try:
            return syscalls.openat2(self._root, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY, beneath)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise InvalidInput(
                    f"archive entry below {shown(path)}, a symbolic link to no directory of this archive"
                ) from None
            raise

    def _finish(self) -> None:
        """Times last, as every file made in a directory changes its time; modes with them."""
        if b"" not in self._listed and self._layer:
            os.fchmod(self._root, 0o755)
            os.fchown(self._root, 0, 0)
        for path, entry in sorted(self._listed.items()):
            try:
                directory = self._directory(path, create=False)
            except (FileNotFoundError, InvalidInput):
                continue  # reached through a link that is gone
            os.fchown(directory, entry.uid, entry.gid)
            os.fchmod(directory, entry.mode)
            _set_xattrs(entry, directory)
            os.utime(directory, ns=(entry.mtime, entry.mtime))
            self._trim()
        for path in self._implied - {b""}:
            os.setxattr(self._directory(path), IMPLIED, b"")
            self._trim()
        if self._implied:
            os.setxattr(self._root, IMPLIED, b"root only" if self._implied == {b""} else b"and below")

    def _count(self) -> None:
        self._made += 1
        if self._made > MOST_ENTRIES:
            raise InvalidInput(f"archive: more than {MOST_ENTRIES} files and directories")

    def _trim(self) -> None:
        """Between two entries: close what is no longer wanted."""
        if len(self._open) > _OPEN_DIRECTORIES:
            self._retire()
        for descriptor in self._retired:
            os.close(descriptor)
        self._retired.clear()

    def _retire(self) -> None:
        """Forget the open directories. They close after this entry, which may still use some of them."""
        del self._open[b""]
        self._retired += self._open.values()
        self._open = {b"": self._root}


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
