"""The log of a container: Docker's json-file format, one JSON object per line of output.

    {"log":"hello\\n","stream":"stdout","time":"2026-11-24T02:55:05.123456789Z"}

A line longer than 16 KiB is cut into several objects; only the last one's ``log`` ends in a newline.
Bytes that are no UTF-8 become U+FFFD, as in Docker (attached clients get the bytes as they are).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring
from pathlib import Path

from minidock import files
from minidock.containers import timestamps
from minidock.errors import MinidockError

_GAP = b"minidock: the disk was full, %d blocks of output are not in this log\n"
LONGEST = 16 * 1024  # bytes of one line in one object

_SPECIAL = bytes(range(10)) + bytes(range(11, 32)) + b'"\\'  # what JSON must escape, beside the newline


class LogFile:
    """The writing end, held by the shim. Whole lines are in the file as soon as `write` returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._unfinished = {1: b"", 2: b""}  # the last line of each stream, not yet ended
        self._lost = 0  # blocks of output that the full disk did not take

    def write(self, stream: int, data: bytes | memoryview) -> None:
        """Log output of *stream* (1 or 2). A line without its end waits for it."""
        held = self._unfinished[stream]
        text = held + data if held else bytes(data)
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if len(rest) >= LONGEST + 4:
            whole = (len(rest) - 4) // LONGEST * LONGEST
            for _ in range(3):
                if rest[whole] & 0xC0 == 0x80:
                    whole -= 1  # keep a UTF-8 character whole
            end, rest = end + whole, rest[whole:]
        self._unfinished[stream] = rest
        if end:
            self._append(encode(text[:end], stream, timestamps.now()))

    def finish(self) -> None:
        """Log the lines that never got an end."""
        for stream, text in self._unfinished.items():
            if text:
                self._append(encode(text, stream, timestamps.now()))
                self._unfinished[stream] = b""

    def close(self) -> None:
        self.finish()
        os.close(self._descriptor)

    def _append(self, data: bytes) -> None:
        """Add whole entries, or none: where the disk is full, the container goes on without its log."""
        if self._lost:  # now there may be room again; the log says where it has a gap
            data = encode(_GAP % self._lost, 2, timestamps.now()) + data
        view = memoryview(data)
        before = os.fstat(self._descriptor).st_size
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._lost = 0
        except OSError as error:
            if error.errno not in files.FULL:
                raise
            fitted = bytes(data[: len(data) - len(view)])
            os.ftruncate(self._descriptor, before + fitted.rfind(b"\n") + 1)  # whole lines stay
            self._lost += 1


def encode(text: bytes, stream: int, time: str) -> bytes:
    """Output as JSON lines. Works on the whole block at once: a line costs nanoseconds, not microseconds."""
    if len(text) > LONGEST and _has_long_line(text):
        return b"".join(encode(piece, stream, time) for piece in _pieces(text))
    head = '{"log":"'
    tail = f'","stream":"{"stdout" if stream == 1 else "stderr"}","time":"{time}"}}\n'
    between = f"\\n{tail}{head}"  # in the place of each newline
    if text.isascii() and len(text.translate(None, _SPECIAL)) == len(text):
        body = text.replace(b"\n", between.encode())
    else:
        decoded = text.decode(errors="replace")
        # After the quoting a newline would look like a backslash and an n that were there before.
        mark = "\x7f" if "\x7f" not in decoded else "\udfff"
        body = encode_basestring(decoded.replace("\n", mark))[1:-1].replace(mark, between).encode()
    if text.endswith(b"\n"):  # the last newline has begun a line that does not follow
        return head.encode() + body[: -len(head)]
    return head.encode() + body + tail.encode()


def _has_long_line(text: bytes) -> bool:
    position = 0
    while position + LONGEST < len(text):  # a newline in every window of that size: no line is longer
        newline = text.rfind(b"\n", position, position + LONGEST)
        if newline < 0:
            return True
        position = newline + 1
    return False


def _pieces(text: bytes) -> Iterator[bytes]:
    """*text* with its long lines cut; neighbouring short lines stay together."""
    short: list[bytes] = []
    for line in _lines(text):
        if len(line) <= LONGEST:
            short.append(line)
            continue
        if short:
            yield b"".join(short)
            short = []
        start = 0
        while start < len(line):
            end = start + LONGEST
            while start < end < len(line) and end > start + LONGEST - 4 and line[end] & 0xC0 == 0x80:
                end -= 1  # keep a UTF-8 character whole
            yield line[start:end]
            start = end
    if short:
        yield b"".join(short)


def _lines(text: bytes) -> list[bytes]:
    parts = text.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


# --- reading -------------------------------------------------------------------------------------

Entry = tuple[str, bytes, str]  # stream, what was written, when


def read(
    path: Path,
    *,
    tail: int | None = None,
    since: str | None = None,
    until: str | None = None,
    wait: Callable[[], bool] | None = None,
) -> Iterator[Entry]:
    """The entries of a log file, oldest first.

    *tail*: only the last so many; *since*, *until*: see timestamps.moment. *wait* makes it follow: it is
    called at the end of the file, returns True when there may be more and False when there never will be.
    """
    earliest = timestamps.moment(since) if since else None
    latest = timestamps.moment(until) if until else None
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        if wait is None:
            return
        raise MinidockError(f"{path}: no such log") from None
    with file:
        if tail is not None:
            file.seek(_start_of_tail(file.fileno(), tail))
        unfinished = b""
        more = True
        while True:
            block = file.read(1 << 18)
            if not block:
                # Only when the *next* look at the file finds nothing either, is it really over.
                if wait is None or not more:
                    return
                more = wait()
                continue
            lines = (unfinished + block).split(b"\n")
            unfinished = lines.pop()
            for line in lines:
                entry = _parse(line)
                if entry is None:
                    continue
                if earliest is not None or latest is not None:
                    at = timestamps.to_nanoseconds(entry[2])
                    if earliest is not None and at < earliest:
                        continue
                    if latest is not None and at > latest:
                        return
                yield entry


def _parse(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
        return value["stream"], value["log"].encode("utf-8", "surrogatepass"), value["time"]
    except (ValueError, KeyError, TypeError):  # a line cut short when the machine went down
        return None


def _start_of_tail(descriptor: int, count: int) -> int:
    """Where the last *count* lines begin, found from the end."""
    size = position = os.fstat(descriptor).st_size
    if count == 0:
        return size
    wanted = count + 1  # the newline before the first of them
    while position > 0:
        start = max(0, position - (1 << 16))
        block = os.pread(descriptor, position - start, start)
        found = block.count(b"\n")
        if found >= wanted:
            for _ in range(wanted):
                position = start + block.rindex(b"\n", 0, position - start)
            return position + 1
        wanted -= found
        position = start
    return 0
