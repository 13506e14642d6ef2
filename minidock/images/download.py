"""Bring one layer: from the network, over a partial file, into a directory.

A layer is fetched, kept, checked and unpacked in one stream, and every byte is touched once::

    http ──▶ <root>/tmp/<digest>.partial ──▶ sha256 ──▶ inflate ──▶ sha256 ──▶ files
                                          (layer.apply_layer)

The partial file outlives everything: a broken connection, Ctrl-C, SIGKILL, a power cut. The next try
reads what is there and asks the registry for the rest only (Range). Should the disk have lied, the
digest at the end tells, and the layer is fetched from the start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minidock import files
from minidock.errors import InvalidInput, MinidockError
from minidock.images import compression, distribution, layer, wire
from minidock.images.registry import Registry
from minidock.images.sources import Source

ATTEMPTS = 6  # tries in a row that bring nothing new, before another endpoint is asked
REPORT_EVERY = 0.1  # seconds between two progress reports
READ_AHEAD = 16  # blocks that the network may be ahead of the unpacking

Say = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Job:
    """One layer to bring, *size* bytes of it.

    *unpack*: into *target*; False when its tree exists and only the blob is missing. *blob* is the
    compressed layer's place in the store; while it is not there the bytes are collected in *partial*,
    and complete they get the second name *fetched*, which is the caller's own.
    """

    repository: str
    digest: str
    diff_id: str
    size: int
    media_type: str
    partial: str
    fetched: str
    blob: str
    unpack: bool = True
    target: str = ""
    alone: bool = False  # no other layer is being unpacked: a thread of its own fetches ahead
    max_size: int = 0
    sources: list[Source] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The job as one JSON line holds it. Tokens and passwords are in it: it goes through a pipe only."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Job:
        return cls(**{**value, "sources": [Source.from_json(each) for each in value["sources"]]})


def partial_file(temporary: Path, digest: str) -> Path:
    """Where the bytes of *digest* are collected."""
    return temporary / f"{digest.removeprefix('sha256:')}.partial"


def sweep(temporary: Path, older_than: float) -> int:
    """Remove partial files that nobody works on and nobody has touched for *older_than* seconds.

    Returns the bytes freed.
    """
    return sum(
        _remove(path, lambda found: time.time() - found.st_mtime >= older_than)
        for path in temporary.glob("*.partial")
    )


def forget(partial: Path, blob: Path) -> None:
    """Remove the name *partial* of what is by now *blob* in the store.

    A pull that works on the file keeps the name: it counts on finding its own bytes there, and
    forgets it in its turn.
    """
    _remove(partial, lambda found: os.path.samestat(found, os.stat(blob)))


def _remove(partial: Path, wanted: Callable[[os.stat_result], bool]) -> int:
    """Remove a partial file if it is *wanted* and nobody holds its lock; returns its bytes, 0 if it stays."""
    try:
        with open(partial, "rb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file.fileno())
            if os.path.samestat(found, os.stat(partial)) and wanted(found):
                partial.unlink()
                return found.st_size
    except (FileNotFoundError, BlockingIOError):
        pass
    return 0


class Fetch:
    """The bytes of one blob in order: what an earlier try left in the partial file, then the network."""

    def __init__(self, job: Job, sources: list[Source], file: int, say: Say) -> None:
        self.job = job
        self.sources = sources
        self.resumed = os.fstat(file).st_size  # bytes that came from the disk
        self.at = 0
        self._file = file
        self._say = say
        self._reported = 0.0

    def blocks(self) -> Iterator[bytes]:
        """The blob, block by block. Raises what the last source raised when none could deliver."""
        if self.resumed > self.job.size:
            os.ftruncate(self._file, 0)
            self.resumed = 0
        while block := os.pread(self._file, wire.CHUNK, self.at):
            self.at += len(block)
            yield block
        while self.at < self.job.size:
            try:
                yield from self._from_source(self.sources[0])
            except MinidockError:
                if len(self.sources) == 1:
                    raise
                self.sources = self.sources[1:]  # the next one goes on where this one stopped
        self._report("Download complete", now=True)

    def _from_source(self, source: Source) -> Iterator[bytes]:
        registry = source.open()
        fruitless = 0
        while self.at < self.job.size:
            before = self.at
            try:
                yield from self._from_answer(registry)
            except wire.Interrupted:
                fruitless = fruitless + 1 if self.at - before < wire.CHUNK else 0
                if fruitless == ATTEMPTS:
                    raise
                self._report("Retrying", now=True)
                time.sleep(0.2 * 2**fruitless)

    def _from_answer(self, registry: Registry) -> Iterator[bytes]:
        host = registry.session.endpoint.host
        response, begins = registry.open_blob(self.job.repository, self.job.digest, self.at)
        with response:
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != self.job.size - begins:
                raise MinidockError(
                    f"{host}: offers {int(length) + begins} bytes as {self.job.digest[:19]}, "
                    f"the manifest says {self.job.size}"
                )
            buffer = memoryview(bytearray(wire.CHUNK))
            while count := response.readinto(buffer):
                # A server without Range starts anew: what we have is passed over.
                fresh = distribution.new_bytes(buffer[:count], begins, self.at)
                begins += count
                if begins > self.job.size:
                    raise MinidockError(
                        f"{host}: sends more than the {self.job.size} bytes of {self.job.digest[:19]}"
                    )
                if fresh:
                    self._keep(fresh)
                    yield bytes(fresh)
        if begins < self.job.size:
            raise wire.Interrupted(
                f"{host}: sent {begins} of the {self.job.size} bytes of {self.job.digest[:19]}"
            )

    def _keep(self, block: memoryview) -> None:
        written = 0
        while written < len(block):
            written += os.pwrite(self._file, block[written:], self.at + written)
        self.at += written
        self._report("Downloading")

    def _report(self, status: str, *, now: bool = False) -> None:
        if now or time.monotonic() - self._reported >= REPORT_EVERY:
            self._reported = time.monotonic()
            self._say({"event": [self.job.digest, status, self.at, self.job.size]})


def bring(job: Job, say: Say) -> int:
    """Fetch, check and unpack one layer; returns the bytes of its files.

    Content that fails its check is fetched again from the start when a part of it came from an earlier
    try, and from the next source otherwise.
    """
    sources = job.sources
    while True:
        with _own(Path(job.partial), lambda: say({"event": [job.digest, "Waiting", 0, job.size]})) as file:
            if _is_stored(job):  # before the pull, or by another pull while we waited
                unpacked = _unpack_stored(job, say)
                if unpacked is not None:
                    Path(job.partial).unlink(missing_ok=True)  # the pull that fetched it may do so, too
                    return unpacked
            fetch = Fetch(job, sources, file, say)
            try:
                # With one worker per core a second thread would only cost more.
                blocks = compression.ahead(fetch.blocks(), READ_AHEAD) if job.alone else fetch.blocks()
                unpacked = _unpack(job, blocks)
                os.link(job.partial, job.fetched)  # only who holds the lock removes the name
                return unpacked
            except InvalidInput as error:
                sources = fetch.sources if fetch.resumed else fetch.sources[1:]
                if fetch.at == job.size and _digest(file) == job.digest:
                    raise  # the right bytes, and they make no sense: no other source has better ones
                Path(job.partial).unlink(missing_ok=True)
                if not sources:
                    host = fetch.sources[0].endpoint.host
                    raise InvalidInput(f"{error} (from {host})", hint=error.hint) from None


def _is_stored(job: Job) -> bool:
    try:
        return os.stat(job.blob).st_size == job.size
    except FileNotFoundError:
        return False


def _unpack_stored(job: Job, say: Say) -> int | None:
    """Unpack what the store has; None when that is damaged, and must be fetched again."""
    say({"event": [job.digest, "Extracting", job.size, job.size]})
    with open(job.blob, "rb", buffering=0) as blob:
        try:
            return _unpack(job, iter(lambda: blob.read(wire.CHUNK), b""))
        except InvalidInput:
            if _digest(blob.fileno()) == job.digest:
                raise
    return None


def _unpack(job: Job, blocks: Iterator[bytes]) -> int:
    if job.unpack:
        target = Path(job.target)
        files.remove_tree(target)  # what a try before this one left
        target.mkdir(mode=0o755)
        return layer.apply_layer(
            blocks,
            target,
            media_type=job.media_type,
            expected_digest=job.digest,
            expected_diff_id=job.diff_id,
            max_size=job.max_size,
        )
    packed = layer.verified(blocks, job.digest)
    for _ in layer.verified(compression.decompress(packed, job.media_type), job.diff_id, "diff id"):
        pass  # nothing to unpack: only to see that the blob is what the manifest promises
    for _ in packed:
        pass
    return 0


@contextmanager
def _own(partial: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Open and lock the partial file; another process that fetches the same blob is waited for."""
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = os.stat(partial).st_ino == os.fstat(file).st_ino
            except FileNotFoundError:
                current = False
            if current:  # else it was finished and removed while we waited: begin a new one
                yield file
                return
        finally:
            os.close(file)


def _digest(file: int) -> str:
    computed, at = hashlib.sha256(), 0
    while block := os.pread(file, wire.CHUNK, at):
        computed.update(block)
        at += len(block)
    return "sha256:" + computed.hexdigest()
