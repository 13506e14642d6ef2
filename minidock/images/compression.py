"""Compressed streams: what a layer looks like on the wire, and the tar stream that is inside it.

The *digest* of a layer names the compressed bytes, its *diff id* the tar stream: the same files packed
by another compressor get another digest and keep their diff id.

Streams are iterators of blocks of bytes. Nothing here holds more than a few blocks, however large the
layer, and however small the bomb that inflates to it.
"""

from __future__ import annotations

import contextvars
import hashlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol, cast

from minidock.errors import InvalidInput

BLOCK = 1 << 20  # bytes read, inflated and hashed at a time


class Readable(Protocol):
    """What can be read like a file: up to so many bytes at a time, b"" at the end."""

    def read(self, length: int, /) -> bytes: ...


Stream = Iterable[bytes] | Readable

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
)
# A zstd stream may also begin with a skippable frame: 0x184D2A50 to 0x184D2A5F, little endian.
_SKIPPABLE = tuple(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))
_LARGEST_WINDOW = 128 << 20  # bytes of memory that a zstd frame may ask for; `zstd -d` has the same bound


class Hash(Protocol):
    """The part of a hashlib object that streams need."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def new_hash(digest: str = "sha256:") -> Hash:
    """A hash object for the algorithm that *digest* ("sha256:…") names. Raises InvalidInput for others.

    Source: OCI image-spec, descriptor.md, "Registered Algorithms".
    """
    algorithm = digest.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        raise InvalidInput(
            f"digest {digest!r}: algorithm {algorithm!r} is not supported", hint="Use sha256 or sha512."
        )
    return hashlib.new(algorithm)


def blocks(stream: Stream) -> Iterator[bytes]:
    """*stream*, a file object or already an iterator, as an iterator of non-empty blocks."""
    read: Callable[[int], bytes] | None = getattr(stream, "read", None)
    source = iter(lambda: read(BLOCK), b"") if read else iter(cast(Iterable[bytes], stream))
    return (block for block in source if block)


def hashed(source: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    """Pass *source* on unchanged and show every block to a hash's *update*."""
    for block in source:
        update(block)
        yield block


class Incoming:
    """The blocks of a stream; remembers what the stream itself raised.

    A broken connection is an OSError, as is a damaged archive to some libraries: only here can the two
    be told apart, and only the first is worth another try.
    """

    def __init__(self, source: Iterator[bytes]) -> None:
        self._blocks = source
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._blocks)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise


class Outgoing:
    """A tar stream on its way out: hashed, compressed, hashed again and written, block by block.

    *name* is the compression: "gzip", "zstd" or "" for none. Call :meth:`write` any number of times, then
    :meth:`finish`; after that *diff_id*, *digest* and *size* (compressed bytes) describe what was written.
    The same bytes in give the same bytes out: a gzip header has room for a clock, ours stays zero.
    """

    def __init__(self, out: Callable[[bytes], object], name: str = "gzip") -> None:
        self._out = out
        self._compressor = _compressor(name)
        self._waiting: list[bytes] = []
        self._length = 0
        self._inside = new_hash()
        self._outside = new_hash()
        self.size = 0
        self.diff_id = self.digest = ""

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._length += len(data)
        if self._length >= BLOCK:  # headers are small: hash and compress many at once
            self._pass_on()

    def finish(self) -> None:
        self._pass_on()
        self._emit(self._compressor.flush() if self._compressor else b"")
        self.diff_id = "sha256:" + self._inside.hexdigest()
        self.digest = "sha256:" + self._outside.hexdigest()

    def _pass_on(self) -> None:
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._length = 0
        self._inside.update(block)
        self._emit(self._compressor.compress(block) if self._compressor else block)

    def _emit(self, data: bytes) -> None:
        if data:
            self._outside.update(data)
            self.size += len(data)
            self._out(data)


def _compressor(name: str) -> Any:
    if name == "gzip":
        from isal import isal_zlib

        return isal_zlib.compressobj(isal_zlib.ISAL_BEST_COMPRESSION, wbits=31)
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compressobj()
    if name:
        raise InvalidInput(f"compression {name!r} is not supported", hint="Use gzip, zstd or none.")
    return None


def ahead(source: Iterable[bytes], depth: int = 4) -> Generator[bytes, None, None]:
    """Run *source* in a thread, up to *depth* blocks ahead of who reads: inflating and writing overlap.

    Both let go of the interpreter lock. Close the generator to stop the thread; it ends with the block
    that it works on, and nothing of *source* runs after that.
    """
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stopped = False

    def run() -> None:
        try:
            for block in source:
                ready.put(block)
                if stopped:
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    try:
        while (block := ready.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
    finally:
        stopped = True
        while thread.is_alive():
            with suppress(queue.Empty):  # make room: it may stand before a full queue
                ready.get(timeout=0.01)
        thread.join()


def detect(beginning: bytes) -> str:
    """The compression that the first bytes of a stream tell: gzip, zstd, xz, bzip2, or "" for none."""
    for magic, name in _MAGIC:
        if beginning.startswith(magic):
            return name
    return "zstd" if beginning[:4] in _SKIPPABLE else ""


def decompress(stream: Stream, media_type: str = "") -> Iterator[bytes]:
    """The tar stream inside *stream*, in blocks of at most about 1 MiB.

    As in Docker the first bytes decide, not *media_type*: registries serve plain layers labelled gzip.
    Only a media type that no decompressor undoes (``+encrypted``) is refused.
    Streams of several gzip members or zstd frames are read to the end.
    Raises InvalidInput for corrupt, truncated or trailing bytes.
    """
    if media_type.endswith("+encrypted"):
        raise InvalidInput(f"layer of type {media_type}: encrypted layers cannot be read")
    source = Source(blocks(stream))
    name = detect(source.peek(6))
    return _inflated(source, name) if name else source.rest()


def _inflated(source: Source, name: str) -> Iterator[bytes]:
    file, errors = _open(source, name)
    damaged: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, *errors)
    while True:
        try:
            block = file.read(BLOCK)
        except damaged as error:
            raise InvalidInput(f"not a valid {name} stream: {error}") from None
        if not block:
            return
        yield block


def _open(source: Source, name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A file object that inflates *source*, and what it raises beside EOFError, OSError and ValueError.

    The libraries are imported here, the one that is needed.
    """
    if name == "gzip":
        from isal import igzip, isal_zlib

        damaged: Any = isal_zlib.error  # whose type the library's stub gets wrong
        return igzip.IGzipFile(fileobj=source, mode="rb"), (damaged,)  # type: ignore[no-untyped-call]
    if name == "zstd":
        import zstandard

        return _WholeFrames(source), (zstandard.ZstdError,)
    file: Any = source
    if name == "xz":
        import lzma

        return lzma.LZMAFile(file), (lzma.LZMAError,)
    import bz2

    return bz2.BZ2File(file), ()


class Source:
    """A readable file over blocks, with a look ahead. A read may be short; b"" means the end."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._blocks = source
        self._held = b""
        self._at = 0

    def peek(self, length: int) -> bytes:
        while len(self._held) < length and (block := next(self._blocks, b"")):
            self._held += block
        return self._held[:length]

    def read(self, length: int = BLOCK) -> bytes:
        if self._at == len(self._held):
            self._held, self._at = next(self._blocks, b""), 0
        if self._at == 0 and 0 <= len(self._held) <= length:
            piece, self._held = self._held, b""
            return piece
        end = len(self._held) if length < 0 else self._at + length
        piece = self._held[self._at : end]
        self._at += len(piece)
        return piece

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def rest(self) -> Iterator[bytes]:
        while block := self.read():
            yield block


class _WholeFrames:
    """Reads zstd frames, and notices a stream cut in the middle of one: the library just ends there.

    A frame of our own follows the stream. Only where the last frame before it was whole does it come
    out again as what we put in.
    """

    def __init__(self, source: Source) -> None:
        import zstandard

        self._mark = os.urandom(16)
        inflater = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        marked = Source(itertools.chain(source.rest(), [zstandard.compress(self._mark)]))
        self._reader = inflater.stream_reader(marked, read_size=BLOCK, read_across_frames=True)  # type: ignore[arg-type]
        self._held = b""  # the last bytes read: perhaps the mark

    def read(self, length: int) -> bytes:
        while block := self._reader.read(length):
            block = self._held + block
            self._held = block[-len(self._mark) :]
            if len(block) > len(self._mark):
                return block[: -len(self._mark)]
        if self._held not in (b"", self._mark):
            raise EOFError("it ends in the middle of a frame")
        self._held = b""
        return b""
