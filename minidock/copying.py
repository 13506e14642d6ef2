"""`cp`: what lands where, by the rules of `docker cp`, which are those of `cp -a`.

SRC is a file, or a directory, or a directory's content (``dir/.``); DEST may be there or not.

| DEST              | SRC is a file           | SRC is a directory                          |
|-------------------|-------------------------|---------------------------------------------|
| is not there      | it is made, as a file   | it is made, with SRC's content              |
| is not there, "/" | error: no such directory| it is made, with SRC's content              |
| is a file         | it is overwritten       | error: cannot copy directory                |
| is a directory    | SRC goes into it        | SRC goes into it; of ``dir/.`` its content  |

Everything travels as a tar archive whose first entry is renamed where DEST's name is another. What is
copied belongs to whoever is root at the destination, or with *owners* to whom it belonged.

Source: docs.docker.com/reference/cli/docker/container/cp.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minidock.containers import archives
from minidock.containers.archives import Blocks, FileMissing, Files, Write
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images.pack import Packer
from minidock.images.tar import Entry, Writer

_MOST_LINKS = 10  # as Docker follows at the destination


@dataclass(frozen=True, slots=True)
class Place:
    """One end of a copy: a path as typed (a ``/`` or ``/.`` at its end says something) and what is there."""

    path: str
    exists: bool = True
    is_directory: bool = False


def copy_to(files: Files, path: str, local: str, *, follow: bool, owners: bool) -> int:
    """Copy the host's *local* to *path* in the container; returns the bytes that travelled.

    *follow* copies what a link points to. Raises NotFound, InvalidInput.
    """
    destination = _destination_inside(files, path)
    source, name = _local_source(local, follow)
    directory, new_name = _plan(source, name, destination)
    counted = _Counted()

    def produce(write: Write) -> None:
        writer = _Renamed(counted.into(write), name, new_name, root_owned=not owners)
        _pack(source, name, writer)
        writer.close()

    with archives.piped(produce) as blocks:
        files.write(directory, blocks)
    return counted.total


def copy_stream_to(files: Files, path: str, blocks: Blocks) -> int:
    """Unpack a tar stream into the directory *path* of the container; returns the bytes that travelled."""
    destination = _destination_inside(files, path)
    if not destination.is_directory:
        raise InvalidInput(f'destination "{files.name}:{path}" must be a directory')
    counted = _Counted()

    def counting() -> Iterator[bytes]:
        for block in blocks:
            counted.total += len(block)
            yield block

    files.write(destination.path, counting())
    return counted.total


def copy_from(files: Files, path: str, local: str, *, follow: bool, owners: bool) -> int:
    """Copy *path* of the container to the host's *local*; returns the bytes that travelled."""
    _check_local_destination(local)
    found = files.look(path)
    if follow and found.is_link:
        path = found.link_target
        name, found = found.name, files.look(path)
    else:
        name = _entry(path)
    destination = _local_destination(local)
    directory, new_name = _plan(Place(path, is_directory=found.is_directory), name, destination)
    counted = _Counted()
    owner = None if owners else (os.geteuid(), os.getegid())

    def produce(write: Write) -> None:
        files.read(path, counted.into(write))

    with archives.piped(produce) as blocks:
        archives.unpack(Path(directory), blocks, owner=owner, rename=(_entry(path), new_name))
    return counted.total


def _plan(source: Place, name: str, destination: Place) -> tuple[str, str]:
    """The directory into which the archive is unpacked, and what its first entry is called there."""
    if destination.exists and destination.is_directory:
        return destination.path, name
    if destination.exists and source.is_directory:
        raise InvalidInput("cannot copy directory", hint=f"{destination.path} is a file.")
    if not destination.exists and not source.is_directory and _asserts_directory(destination.path):
        raise NotFound(
            "no such directory", hint=f"Make {destination.path} first, or leave out the / at its end."
        )
    above, base = _split(destination.path)
    return above, base


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/.")) or path == "."


def _split(path: str) -> tuple[str, str]:
    """The directory and the last name of *path*, whatever stands at its end."""
    clean = os.path.normpath(path)
    return os.path.dirname(clean) or ".", os.path.basename(clean)


def _entry(path: str) -> str:
    """What the entries of an archive of *path* begin with: its last name; of ``dir/.`` a dot."""
    if path.endswith("/.") or path in (".", "/", ""):
        return "."
    return os.path.basename(os.path.normpath(path)) or "."


# ---- in the container -------------------------------------------------------------------------------


def _destination_inside(files: Files, path: str) -> Place:
    """What is at the destination; a link there stands for what it points to, inside the container."""
    try:
        found = files.look(path)
        if found.is_link:
            path = found.link_target
            found = files.look(path)
    except FileMissing:
        return Place(path, exists=False)
    if not (found.is_directory or stat.S_ISREG(found.mode)):
        raise InvalidInput(f'destination "{files.name}:{path}" must be a directory or a regular file')
    return Place(path, is_directory=found.is_directory)


# ---- on the host ------------------------------------------------------------------------------------


def _local_source(local: str, follow: bool) -> tuple[Place, str]:
    """What to copy, and the name that it is to have. A link is copied as a link unless *follow*."""
    name = _entry(os.path.abspath(local) + ("/." if local.endswith("/.") or local == "." else ""))
    path = os.path.realpath(local) if follow or local.endswith("/") or name == "." else local
    try:
        found = os.lstat(path)
        if _asserts_directory(local) and not stat.S_ISDIR(found.st_mode):
            raise InvalidInput(f"{local}: not a directory")
    except OSError as error:
        raise NotFound(f"lstat {os.path.abspath(local)}: {(error.strerror or '').lower()}") from None
    return Place(path, is_directory=stat.S_ISDIR(found.st_mode)), name


def _pack(source: Place, name: str, writer: Writer) -> None:
    packer = Packer(writer, layer=False)
    if source.is_directory:
        packer.add_tree(Path(os.path.abspath(source.path)), os.fsencode(name))
        return
    try:
        packer.add_file(
            Path(os.path.realpath(os.path.dirname(source.path) or "."), os.path.basename(source.path)),
            os.fsencode(name),
        )
    except OSError as error:
        raise MinidockError(f"{source.path}: {(error.strerror or '').lower()}") from None


def _check_local_destination(local: str) -> None:
    above = os.path.dirname(os.path.normpath(local))
    if above and not os.path.exists(above):
        raise NotFound(f'invalid output path: directory "{above}" does not exist')
    if os.path.exists(local) and not (os.path.isdir(local) or os.path.isfile(local)):
        raise InvalidInput(
            f'invalid output path: "{local}" must be a directory or a regular file: got a device'
        )


def _local_destination(local: str) -> Place:
    """What is at the destination; a link there stands for what it points to."""
    path = local
    for _ in range(_MOST_LINKS):
        if not os.path.islink(path.rstrip("/")):
            break
        path = os.path.join(os.path.dirname(path.rstrip("/")), os.readlink(path.rstrip("/")))
    else:
        raise InvalidInput(f"too many symlinks in {local}")
    if os.path.lexists(path):
        return Place(path, is_directory=os.path.isdir(path))
    above, _ = _split(path)
    if not os.path.isdir(above):
        raise NotFound(
            f"{above}: not a directory" if os.path.exists(above) else f"{above}: no such directory"
        )
    return Place(path, exists=False)


# ---- the archive on its way -------------------------------------------------------------------------


class _Counted:
    """Counts the bytes that pass."""

    def __init__(self) -> None:
        self.total = 0

    def into(self, write: Write) -> Write:
        def count(data: bytes) -> None:
            self.total += len(data)
            write(data)

        return count


class _Renamed(Writer):
    """A writer that gives the first name of every entry, and the owner, another value."""

    def __init__(self, write: Write, old: str, new: str, *, root_owned: bool) -> None:
        super().__init__(write)
        self._rename = archives.renaming(old, new)
        self._root_owned = root_owned

    def add(self, entry: Entry, content: object = b"") -> None:
        self._rename(entry)
        if self._root_owned:
            entry.uid = entry.gid = 0
        super().add(entry, content)  # type: ignore[arg-type]
