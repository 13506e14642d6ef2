"""Archives as sources: a context that comes as a tar, and the tars that ADD opens.

The content tells what is an archive, not its name, and how it is compressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from minidock.build.view import Found, View, shown_name
from minidock.errors import InvalidInput, MinidockError
from minidock.images import compression, header, layer, tar
from minidock.images.directories import clean
from minidock.images.extract import Extractor

_MAX_SIZE = layer.DEFAULT_MAX_SIZE


def begins_archive(beginning: bytes) -> bool:
    """Whether a stream that begins so is a tar archive: its first 512 bytes are a header."""
    try:
        header.parse(beginning[: tar.BLOCK].ljust(tar.BLOCK, b"\0"), {})
    except MinidockError:
        return False
    return True


def is_archive(found: Found) -> bool:
    """Whether a file is one that ADD unpacks: a tar, plain or compressed.

    Raises InvalidInput for a file that is compressed and damaged: nobody knows what it holds.
    """
    if not found.is_file:
        return False
    with open(found.open(), "rb") as file:
        try:
            return begins_archive(next(compression.decompress(file), b""))
        except MinidockError as error:
            raise InvalidInput(
                f"ADD {shown_name(found.name)}: {error.message}", hint="COPY takes a file as it is."
            ) from None


def unpack(stream: Iterable[bytes], directory: Path, name: str) -> None:
    """Unpack a context that came as an archive, compressed in any way, into *directory*.

    Raises InvalidInput for a damaged or hostile one; *name* is what to call it.
    """
    blocks = layer.bounded(compression.decompress(stream), _MAX_SIZE)
    try:
        with Extractor(directory, layer=False, max_size=_MAX_SIZE) as extractor:
            extractor.extract(tar.Reader(blocks))
    except MinidockError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from None


def add(found: Found, tree: Path, target: str, below: View, newest: int | None = None) -> None:
    """ADD: unpack *found* into the directory *target* of the layer *tree*, on top of the image *below*.

    Owners and modes are the archive's. No time is later than *newest*, in nanoseconds. Raises
    InvalidInput for a damaged or hostile archive.
    """
    with open(found.open(), "rb") as file:
        blocks = layer.bounded(compression.decompress(file), _MAX_SIZE)
        try:
            with Extractor(tree, layer=True, max_size=_MAX_SIZE) as extractor:
                extractor.extract(_Moved(blocks, target, below, newest))
        except MinidockError as error:
            raise type(error)(f"ADD {shown_name(found.name)}: {error.message}", hint=error.hint) from None
        found.check(file.fileno())


class _Moved(tar.Reader):
    """The entries of an archive, as if it had been packed from the root of the image.

    An entry ``lib/x`` without one for ``lib`` follows a link /lib of the image, as tar would when it
    unpacks there. An entry for ``lib`` itself replaces the link.
    """

    def __init__(self, blocks: Iterable[bytes], target: str, below: View, newest: int | None) -> None:
        super().__init__(blocks)
        self._target = os.fsencode(target)
        self._below = below
        self._newest = newest
        self._listed: set[bytes] = set()
        self._places: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[tar.Entry]:
        for entry in super().__iter__():
            name = clean(entry.name)
            if not name:
                continue  # the destination stays as it is
            entry.name = self._moved(name)
            if entry.kind == tar.HARD_LINK:
                entry.link = self._moved(clean(entry.link))
            self._listed.add(name)
            if self._newest is not None:
                entry.mtime = min(entry.mtime, self._newest)
            yield entry

    def _moved(self, name: bytes) -> bytes:
        above, _, last = name.rpartition(b"/")
        if above not in self._places:
            self._places[above] = self._place(above)
        return b"/".join(part for part in (self._places[above], last) if part)

    def _place(self, directory: bytes) -> bytes:
        parts = directory.split(b"/") if directory else []
        ways = {b"/".join(parts[: count + 1]) for count in range(len(parts))}
        whole = b"/".join(part for part in (self._target, directory) if part)
        if ways & self._listed:
            return whole
        return os.fsencode(self._below.resolve(os.fsdecode(whole)))
