"""Files of a container by path: what stands there, as a tar archive, and from one.

The three calls below are what `cp` is made of, and what the Engine API calls an archive: HEAD, GET and
PUT /containers/{id}/archive. *root* is a descriptor of :func:`view.of`; all lookups stay below it,
whatever the container does meanwhile. A container with a user namespace of its own counts users from
its own *ids*: archives hold the numbers that the container sees.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from minidock.containers import user_namespace, view
from minidock.containers.state import Container
from minidock.containers.user_namespace import Ids
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import compression, tar
from minidock.images.directories import clean
from minidock.images.extract import Extractor
from minidock.images.pack import BLOCK, Packer
from minidock.images.tar import Entry, Reader, Writer, shown
from minidock.kernel.paths import open_inside

Blocks = Iterator[bytes]
Write = Callable[[bytes], object]
SAME = Ids()
_ENDLESS = 1 << 62  # bytes: an archive that a user copies has no other limit than the disk


@dataclass(frozen=True, slots=True)
class PathStat:
    """What stands at a path: *mode* as in stat(2), *mtime* in nanoseconds since the epoch.

    *link_target* is where a symbolic link leads in the end, as an absolute path in the container.
    """

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class FileMissing(NotFound):
    """There is a container, and in it no such file."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one container, open: see :func:`opened`."""

    root: int
    name: str
    ids: Ids

    def look(self, path: str) -> PathStat:
        with self._named():
            return look(self.root, path)

    def read(self, path: str, write: Write) -> PathStat:
        with self._named():
            return read(self.root, path, write, ids=self.ids)

    def write(self, path: str, blocks: Blocks, *, no_overwrite: bool = True) -> None:
        with self._named():
            write(self.root, path, blocks, ids=self.ids, no_overwrite=no_overwrite)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except FileMissing as error:
            raise FileMissing(f"{error.message} in container {self.name}") from None


@contextmanager
def opened(container: Container, name: str = "") -> Iterator[Files]:
    """The files of *container* with its volumes; *name* is what errors call it.

    Holds the container's lock: meanwhile nobody starts or removes it. One that runs may be opened several
    times at once (``cp box:/a - | cp - box:/b`` would else wait for itself). One that rests before a restart
    is like one that does not run: its shim waits for us.
    """
    running = container.running() and not container.resting()
    with container.lock(shared=running) as lock:
        if running and (container.resting() or not container.running()):
            raise view.ended(container)
        with view.of(container, lock) as root:
            yield Files(root, name or container.name, user_namespace.ids_of(container.spec))


def look(root: int, path: str) -> PathStat:
    """What stands at *path*; a link is not followed. Raises FileMissing. Source: ContainerArchiveInfo."""
    found = _open(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(found)
        target = ""
        if stat.S_ISLNK(status.st_mode):
            target = _end_of_link(root, path, os.readlink("", dir_fd=found))
    finally:
        os.close(found)
    name = os.path.basename(os.path.normpath(path)) or "/"
    return PathStat(name, status.st_size, status.st_mode, status.st_mtime_ns, target)


def _end_of_link(root: int, path: str, target: str) -> str:
    """Where a link leads: to the end, or as far as there is something."""
    try:
        found = _open(root, path, os.O_PATH)
    except MinidockError:  # it leads to nothing: then to what it says
        return os.path.normpath(os.path.join("/", os.path.dirname(path), target))
    try:
        base = os.readlink(f"/proc/self/fd/{root}")
        whole = os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)
    return os.path.join("/", os.path.relpath(whole, base)) if whole != base else "/"


def read(root: int, path: str, write: Write, *, ids: Ids = SAME) -> PathStat:
    """Write what stands at *path* as a tar archive through *write*; its entries begin with the last name.

    ``/etc`` gives ``etc/``, ``etc/passwd``, …; ``/etc/.`` gives ``./``, ``passwd``, …. A link is not
    followed. Raises NotFound; MinidockError when a file changes while it is read. Source: ContainerArchive.
    """
    found = look(root, path)
    archive = Writer(write)
    packer = Packer(archive, layer=False, owners=ids.inside)
    name = os.fsencode(os.path.basename(path) if path.endswith("/.") else found.name).lstrip(b"/") or b"."
    try:
        if found.is_directory:
            packer.add_tree(_open(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), name)
        else:
            above = _open(root, os.path.dirname(os.path.normpath(path)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                packer.add_named(above, name, name)
            finally:
                os.close(above)
    except FileNotFoundError as error:
        raise MinidockError(
            f"{path}: {os.fsdecode(error.filename or b'')} was removed while it was read"
        ) from None
    archive.close()
    return found


def export(root: int, file: IO[bytes], *, ids: Ids = SAME) -> None:
    """Write the whole tree: `docker export`. The same tree gives the same bytes."""
    archive = Writer(file.write)
    Packer(archive, layer=False, owners=ids.inside).add_tree(
        os.open(f"/proc/self/fd/{root}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), itself=False
    )
    archive.close()


def write(root: int, path: str, blocks: Blocks, *, ids: Ids = SAME, no_overwrite: bool = True) -> None:
    """Unpack a tar archive, also a compressed one, into the directory *path*, links in *path* followed.

    With *no_overwrite* a directory never replaces a file, nor a file a directory. Raises NotFound;
    InvalidInput when *path* is no directory, lies on a read-only filesystem, or the archive is no good.
    Source: PutContainerArchive.
    """
    target = _open(root, path, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            raise InvalidInput("extraction point is not a directory")
        if os.fstatvfs(target).f_flag & os.ST_RDONLY:
            own = os.fstat(target).st_dev == os.fstat(root).st_dev
            what = "container rootfs" if own else "mounted volume"
            raise InvalidInput(f"{what} is marked read-only")
        plain = compression.decompress(blocks)
        unpack(Path(f"/proc/self/fd/{target}"), plain, ids=ids, no_overwrite=no_overwrite)
    finally:
        os.close(target)


def unpack(
    directory: Path,
    blocks: Blocks,
    *,
    owner: tuple[int, int] | None = None,
    rename: tuple[str, str] = (".", "."),
    ids: Ids = SAME,
    no_overwrite: bool = True,
) -> None:
    """Unpack a tar archive into *directory*, which stays what it is itself.

    *owner* replaces all owners, *rename* says what the archive's first entry is to be called instead.
    """
    adapted = _Adapted(blocks, directory, owner, renaming(*rename), ids, no_overwrite)
    with Extractor(directory, layer=False, max_size=_ENDLESS) as extractor:
        extractor.extract(adapted)  # type: ignore[arg-type]


def renaming(old: str, new: str) -> Callable[[Entry], None]:
    """A function that lets the names in an entry begin with *new* instead of *old*; a dot is the top."""
    before, after = os.fsencode(old), os.fsencode(new)

    def renamed(name: bytes) -> bytes:
        name = name.removeprefix(b"./")
        if before != b".":
            rest = name.removeprefix(before)
            if rest == name or rest[:1] not in (b"", b"/"):
                return name
            name = rest.lstrip(b"/")
        if after == b".":
            return name or b"."
        return after + b"/" + name if name else after

    def rename(entry: Entry) -> None:
        if before == after:
            return
        end = b"/" if entry.kind == tar.DIRECTORY else b""
        entry.name = renamed(entry.name.rstrip(b"/") or b".").rstrip(b"/").removesuffix(b"/.") + end
        if entry.kind == tar.HARD_LINK:
            entry.link = renamed(entry.link)

    return rename


@contextmanager
def piped(produce: Callable[[Write], object]) -> Iterator[Iterator[bytes]]:
    """The bytes that *produce* hands to the function it is given, to be read meanwhile; by a thread.

    When it fails, so does the block, with its error.
    """
    import threading

    failures: list[BaseException] = []
    reading, writing = os.pipe()

    def run() -> None:
        try:
            with open(writing, "wb", buffering=BLOCK) as file:
                produce(file.write)
        except BrokenPipeError:
            pass  # nobody reads any more: the other side knows why
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with open(reading, "rb", buffering=0) as file:
            yield iter(lambda: file.read(BLOCK), b"")
    except MinidockError:
        thread.join()
        if failures:  # the archive ended early: name the cause, not its effect
            raise failures[0] from None
        raise
    finally:
        thread.join()
    if failures:
        raise failures[0]


class _Adapted:
    """An archive as the Extractor reads it, with the rules of `cp` worked in."""

    def __init__(
        self,
        blocks: Blocks,
        directory: Path,
        owner: tuple[int, int] | None,
        rename: Callable[[Entry], None],
        ids: Ids,
        no_overwrite: bool,
    ) -> None:
        self._rename = rename
        self._reader = Reader(blocks)
        self.copy = self._reader.copy
        self._directory, self._owner = directory, owner
        self._ids, self._no_overwrite = ids, no_overwrite

    def __iter__(self) -> Iterator[Entry]:
        top = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for entry in self._reader:
                self._rename(entry)
                if not clean(entry.name):
                    continue  # the directory itself keeps its owner, mode and time
                if self._no_overwrite:
                    _check_kind(top, entry)
                entry.uid, entry.gid = self._ids.outside(*(self._owner or (entry.uid, entry.gid)))
                yield entry
        finally:
            os.close(top)


def _check_kind(top: int, entry: Entry) -> None:
    """Raise InvalidInput where a directory would replace a file, or the other way round."""
    name = clean(entry.name)
    try:
        there = open_inside(top, name, os.O_PATH | os.O_NOFOLLOW, magic=False)
    except OSError:
        return  # nothing there
    try:
        is_directory = stat.S_ISDIR(os.fstat(there).st_mode)
    finally:
        os.close(there)
    if is_directory and entry.kind != tar.DIRECTORY:
        raise InvalidInput(f"cannot overwrite directory {shown(name)} with non-directory")
    if not is_directory and entry.kind == tar.DIRECTORY:
        raise InvalidInput(f"cannot overwrite non-directory {shown(name)} with directory")


def _open(root: int, path: str, flags: int) -> int:
    """Open *path* below *root*. Raises NotFound when there is no such file."""
    try:
        return open_inside(root, path or "/", flags, magic=False)
    except FileNotFoundError:
        raise FileMissing(f"Could not find the file {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path}: {(error.strerror or '').lower()}") from None
