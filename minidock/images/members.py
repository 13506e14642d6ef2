"""The files of an archive from elsewhere, taken apart without trusting a name in it.

Nothing is ever written under a name that the archive chose: each file goes to a temporary file of ours,
hashed on the way, and the archive's names are only looked up in a dictionary. So ``../../etc/passwd`` or
a link to it can do no harm; such names are refused all the same, because no honest tool writes them.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from minidock.errors import InvalidInput
from minidock.images import compression, tar
from minidock.images.header import DIRECTORY, FILE, HARD_LINK, SYMLINK, Entry, shown
from minidock.images.layout import DOCUMENT_LIMIT
from minidock.images.transaction import Transaction

ENTRY_LIMIT = 100_000  # files in one archive


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive, already on disk under a name of ours, with the digest of its content."""

    path: Path
    digest: str
    size: int

    def read(self) -> bytes:
        if self.size > DOCUMENT_LIMIT:
            raise InvalidInput(f"load: a document of {self.size} bytes is too large")
        return self.path.read_bytes()


class Members:
    """The files of an archive by name. A link is a second name of a file *in the archive*, never more."""

    def __init__(self, file: IO[bytes], new: Transaction, limit: int) -> None:
        self.files: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        reader = tar.Reader(compression.decompress(file))
        for count, entry in enumerate(reader):
            if count >= ENTRY_LIMIT:
                raise InvalidInput(f"load: more than {ENTRY_LIMIT} files in the archive")
            name = _name(entry)
            if entry.kind == FILE:
                self._links.pop(name, None)
                self.files[name] = self._take(reader, entry, new, limit)
            elif entry.kind in (SYMLINK, HARD_LINK):
                self._links[name] = self._target(name, entry)
            elif entry.kind != DIRECTORY:
                raise InvalidInput(f"load: {shown(entry.name)}: an image archive holds files only")

    def _take(self, reader: tar.Reader, entry: Entry, new: Transaction, limit: int) -> Member:
        if entry.size > limit or entry.segments is not None:
            raise InvalidInput(f"load: {shown(entry.name)}: too large, or sparse")
        with new.scratch() as writer:
            for piece in reader.pieces():
                writer.write(piece)
        return Member(writer.path, writer.digest, writer.size)

    def _target(self, name: str, entry: Entry) -> str:
        target = entry.link.decode(errors="surrogateescape")
        base = posixpath.dirname(name) if entry.kind == SYMLINK else ""
        path = posixpath.normpath(posixpath.join(base, target))
        if path.startswith(("../", "/")) or path == "..":
            raise InvalidInput(f"load: {shown(entry.name)}: links out of the archive, to {shown(entry.link)}")
        return path

    def get(self, name: str) -> Member | None:
        path = posixpath.normpath(name)
        for _ in range(8):  # a link to a link, but never a circle
            if path not in self._links:
                break
            path = self._links[path]
        return self.files.get(path)

    def __getitem__(self, name: Any) -> Member:
        member = self.get(name) if isinstance(name, str) else None
        if member is None:
            raise InvalidInput(f"load: the archive names {name!r}, but does not hold it")
        return member


def _name(entry: Entry) -> str:
    name = entry.name.decode(errors="surrogateescape")
    if name.startswith("/") or ".." in name.split("/"):
        raise InvalidInput(f"load: {shown(entry.name)}: leads out of the archive")
    return posixpath.normpath(name)
