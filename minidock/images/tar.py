"""The tar format: a reader that survives hostile input, and a writer whose output never varies.

A tar archive is a row of 512-byte blocks. Each entry has a header block (see `header.py`) and then its
content, padded to whole blocks; two zero blocks end the archive.

Source: tar(5); pax(1), "pax Interchange Format".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from minidock.errors import InvalidInput
from minidock.images import header, sparse
from minidock.images.header import BLOCK as BLOCK
from minidock.images.header import BLOCK_DEVICE as BLOCK_DEVICE
from minidock.images.header import CHARACTER as CHARACTER
from minidock.images.header import DIRECTORY as DIRECTORY
from minidock.images.header import FIFO as FIFO
from minidock.images.header import FILE as FILE
from minidock.images.header import HARD_LINK as HARD_LINK
from minidock.images.header import KINDS, records_of
from minidock.images.header import SYMLINK as SYMLINK
from minidock.images.header import Entry as Entry
from minidock.images.header import shown as shown

NOBODY = (1 << 32) - 1  # as an id it means "leave unchanged" to chown(2)
LARGEST_EXTENSION = 1 << 20  # bytes of one long name or PAX list; Go's tar has the same bound


class Reader:
    """Iterate over the entries of a tar stream, given as blocks of bytes of any size.

    Between two entries the content of the first may be taken once by :meth:`content`, :meth:`pieces` or
    :meth:`copy`; what is not taken is skipped. Raises InvalidInput for anything that is not tar.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._buffer = b""
        self._at = 0
        self._left = 0  # content of the current entry not yet taken, without its padding
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self._numbers: dict[bytes, int] = {}  # mode, uid and gid repeat: parse each spelling once

    def __iter__(self) -> Iterator[Entry]:
        while entry := self._next():
            yield entry

    # --- content of the current entry

    def pieces(self) -> Iterator[memoryview]:
        """The stored content of the current entry, in pieces. Raises InvalidInput when it is cut short."""
        while self._left:
            available = len(self._buffer) - self._at
            if not available:
                self._buffer, self._at = next(self._blocks, b""), 0
                available = len(self._buffer)
                if not available:
                    raise InvalidInput("tar: the archive ends in the middle of a file")
            take = min(self._left, available)
            start, self._at, self._left = self._at, self._at + take, self._left - take
            yield memoryview(self._buffer)[start : start + take]

    def content(self, limit: int) -> bytes:
        """The whole stored content. Raises InvalidInput when it is longer than *limit* bytes."""
        if self._left > limit:
            raise InvalidInput(f"tar: {self._left} bytes where at most {limit} make sense")
        return b"".join(self.pieces())

    def copy(self, entry: Entry, descriptor: int) -> None:
        """Write the content of *entry*, which must be the current one, to an empty regular file."""
        if entry.segments is None:
            for piece in self.pieces():
                while (written := os.write(descriptor, piece)) < len(piece):
                    piece = piece[written:]
            return
        segments = iter([*entry.segments, (entry.size, 0)])
        offset, room = next(segments)
        for piece in self.pieces():
            while piece:
                while not room:
                    offset, room = next(segments)
                written = os.pwrite(descriptor, piece[:room], offset)
                piece, offset, room = piece[written:], offset + written, room - written
        os.ftruncate(descriptor, entry.size)

    # --- headers

    def _next(self) -> Entry | None:
        """The next real entry, with the extensions before it worked in; None at the end."""
        extension: dict[bytes, bytes] = {}
        repeated: list[tuple[bytes, bytes]] = []  # sparse maps of form 0.0 use one key many times
        long_name = long_link = b""
        while True:
            self._skip_content()
            block = self.read(BLOCK)
            if not block or (not block[0] and not block.strip(b"\0")):
                if extension or long_name or long_link:
                    raise InvalidInput("tar: the archive ends after an extended header")
                self._end(block)
                return None
            entry, kind = header.parse(block, self._numbers)
            if kind in KINDS:
                break
            if kind == b"S":
                sparse.read_old_map(entry, block, self.read)
                break
            if kind not in (b"x", b"X", b"g", b"L", b"K"):
                raise InvalidInput(f"tar: {shown(entry.name)}: entries of type {kind!r} are not supported")
            self._begin_content(entry.size)
            body = self.content(LARGEST_EXTENSION)
            if kind == b"L":
                long_name = body.partition(b"\0")[0]
            elif kind == b"K":
                long_link = body.partition(b"\0")[0]
            elif kind == b"g":
                self._globals.update(records_of(body))
            else:
                records = records_of(body)
                extension.update(records)
                repeated += [record for record in records if record[0] in sparse.REPEATED]
        if extension or self._globals:
            header.extend(entry, extension, self._globals)
        entry.name = long_name or entry.name
        entry.link = long_link or entry.link
        # How tar wrote directories before it had a type for them. The whole name decides: Go puts "dir/" into
        # the header of "dir/世界", because it leaves out what is not ASCII.
        if entry.kind == FILE and entry.name.endswith(b"/"):
            entry.kind = DIRECTORY
        self._begin_content(entry.stored)
        if entry.kind == FILE and sparse.is_sparse(extension):
            self._left -= sparse.read_pax_map(entry, extension, repeated, self.read)
        if entry.segments is not None:
            sparse.check(entry)
        if not (0 <= entry.uid < NOBODY and 0 <= entry.gid < NOBODY):
            raise InvalidInput(f"tar: {shown(entry.name)}: no user or group can be {entry.uid}:{entry.gid}")
        return entry

    # --- bytes

    def _begin_content(self, length: int) -> None:
        self._left, self._padding = length, -length % BLOCK

    def _skip_content(self) -> None:
        skip, self._left, self._padding = self._left + self._padding, 0, 0
        while skip > len(self._buffer) - self._at:
            skip -= len(self._buffer) - self._at
            self._buffer, self._at = next(self._blocks, b""), 0
            if not self._buffer:
                raise InvalidInput("tar: the archive ends in the middle of a file")
        self._at += skip

    def read(self, length: int) -> bytes:
        """Exactly *length* bytes of the archive, or b"" at its end. Raises InvalidInput between the two."""
        end = self._at + length
        if end <= len(self._buffer):
            start, self._at = self._at, end
            return self._buffer[start:end]
        while len(self._buffer) - self._at < length:
            block = next(self._blocks, b"")
            if not block:
                if len(self._buffer) == self._at:
                    return b""
                raise InvalidInput("tar: the archive ends in the middle of a block")
            self._buffer, self._at = self._buffer[self._at :] + block, 0
        self._at += length
        return self._buffer[self._at - length : self._at]

    def _end(self, first: bytes) -> None:
        """Two zero blocks end an archive (none at all does too); what follows them means nothing."""
        if first and self.read(BLOCK).strip(b"\0"):
            raise InvalidInput("tar: a zero block in the middle of the archive")
        self._buffer, self._at = b"", 0
        for _ in self._blocks:  # the digests cover it all the same
            pass


class Writer:
    """Write an archive through *write*, a function that takes bytes: a file's, a pipe's, a compressor's.

    Nothing in the output depends on the clock, on user names or on the order of calls elsewhere.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def add(self, entry: Entry, content: Iterable[bytes] | bytes = b"") -> None:
        """Append one entry. Regular files bring *content*, exactly ``entry.size`` bytes in any pieces.

        Raises InvalidInput when the content is shorter or longer, as of a file that is being written to.
        """
        self._write(header.build(entry))
        if entry.kind != FILE:
            return
        left = entry.size
        for piece in (content,) if isinstance(content, bytes) else content:
            left -= len(piece)
            if left < 0:
                break
            self._write(piece)
        if left:
            raise InvalidInput(f"tar: {shown(entry.name)} changed while it was read")
        if entry.size % BLOCK:
            self._write(bytes(-entry.size % BLOCK))

    def close(self) -> None:
        """End the archive. The stream below stays open."""
        self._write(bytes(2 * BLOCK))
