"""The log of a container: Docker's json-file format, one JSON object per line of output.

    {"log":"hello\\n","stream":"stdout","time":"2026-11-24T02:55:05.123456789Z"}

A line longer than 16 KiB is cut into several objects; only the last one's ``log`` ends in a newline.
Bytes that are no UTF-8 become U+FFFD, as in Docker (attached clients get the bytes as they are).
With ``max-size`` a full file becomes log.json.1, the one before log.json.2, …; log_reader.py joins them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from json.encoder import encode_basestring
from pathlib import Path

from minidock import files, notation
from minidock.containers import timestamps
from minidock.containers.spec import Spec
from minidock.errors import InvalidInput

_GAP = b"minidock: the disk was full, %d blocks of output are not in this log\n"
LONGEST = 16 * 1024  # bytes of one line in one object

_SPECIAL = bytes(range(10)) + bytes(range(11, 32)) + b'"\\'  # what JSON must escape, beside the newline


class LogFile:
    """The writing end, held by the shim. Whole lines are in the file as soon as `write` returns."""

    def __init__(self, path: Path, max_size: int = 0, max_file: int = 1) -> None:
        self._path, self._max_size, self._max_file = path, max_size, max_file
        self._descriptor = self._open()
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

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _turn_over(self) -> None:
        """Begin a new file: log.json → log.json.1 → log.json.2 …; the oldest is dropped."""
        os.close(self._descriptor)
        for number in range(self._max_file - 1, 0, -1):
            newer = rotated(self._path, number - 1)
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, rotated(self._path, number))
        if self._max_file == 1:
            os.unlink(self._path)  # not truncated: who reads it now may read on to its end
        self._descriptor = self._open()

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
        while self._max_size:
            room = self._max_size - os.fstat(self._descriptor).st_size
            if room <= 0:
                self._turn_over()
                continue
            if len(data) <= room:
                break
            end = data.find(b"\n", room - 1) + 1  # the entry that makes it full is the last one in it
            self._write(data[:end])
            data = data[end:]
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
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


# --- options -------------------------------------------------------------------------------------

_OPTIONS = ("max-size", "max-file")


def rotated(path: Path, number: int) -> Path:
    """The name of the file that was turned over *number* times; 0 is the one being written."""
    return path.with_name(f"{path.name}.{number}") if number else path


def check_options(options: dict[str, str]) -> dict[str, str]:
    """*options* themselves, those of ``--log-opt``. Raises InvalidInput, in Docker's words."""
    for name in options:
        if name not in _OPTIONS:
            raise InvalidInput(
                f"unknown log opt '{name}' for json-file log driver", hint=f"Known: {', '.join(_OPTIONS)}."
            )
    max_file = options.get("max-file", "1")
    if not max_file.isdigit() or int(max_file) < 1:
        raise InvalidInput(
            "max-file cannot be less than 1"
            if max_file.lstrip("-").isdigit()
            else f"max-file: {max_file!r} is no number"
        )
    if "max-size" in options and notation.size(options["max-size"]) <= 0:
        raise InvalidInput("max-size must be a positive number")
    return options


def open_log(spec: Spec, path: Path) -> LogFile | None:
    """The log that *spec* asks for; none for ``--log-driver none``."""
    if spec.log_driver == "none":
        return None
    options = spec.log_options
    size = notation.size(options["max-size"]) if "max-size" in options else 0
    return LogFile(path, size, int(options.get("max-file", "1")))
