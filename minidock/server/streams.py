"""Answers that go on: chunked ones, lines of JSON, and connections taken over for a container's streams.

Source: Docker Engine API v1.44, POST /containers/{id}/attach ("Stream format"); RFC 9112, section 7.1.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import struct
import termios
import threading
import time
from typing import Any

from minidock.server.errors import message_of

STDOUT, STDERR = 1, 2
_HEADER = struct.Struct(">BxxxI")  # stream, length: before each piece of output without a terminal


def wait_until_read(connection: socket.socket) -> None:
    """Wait until the client has read all that was sent, a second at most.

    Many read the head of an answer in blocks. What comes at once behind the head of a connection that is
    taken over is then in their block, and lost. No event tells it, so we look. Source: tcp(7), SIOCOUTQ.
    """
    for _ in range(1000):
        waiting = fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4)
        if not any(waiting):
            return
        time.sleep(0.001)


def framed(stream: int, data: bytes) -> bytes:
    """One piece of output, with the header that tells its stream."""
    return _HEADER.pack(stream, len(data)) + data


class Stream:
    """The body of an answer whose length nobody knows yet. A file to write to."""

    def __init__(self, connection: socket.socket, *, chunked: bool) -> None:
        self._connection, self._chunked = connection, chunked
        self._guard = threading.Lock()  # progress may come from several threads

    def write(self, data: bytes) -> int:
        """Send *data* now. Raises OSError when the client has gone."""
        if data:
            with self._guard:
                if self._chunked:
                    self._connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
                else:
                    self._connection.sendall(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def tell(self, value: Any) -> None:
        """Send one line of JSON."""
        self.write(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\r\n")

    def end(self) -> None:
        """Say that this was all."""
        if self._chunked:
            self._connection.sendall(b"0\r\n\r\n")


def failure(error: BaseException) -> dict[str, Any]:
    """The last line of a stream of JSON that could not be finished. Source: definition of jsonmessage."""
    text = message_of(error)
    code = getattr(error, "exit_code", None)  # of a step of a build: the client ends with it
    return {"errorDetail": {**({"code": code} if code else {}), "message": text}, "error": text}


class Output:
    """A container's output on its way to the client: with a terminal as it is, else in frames."""

    def __init__(self, connection: socket.socket, *, raw: bool) -> None:
        self._connection, self._raw = connection, raw

    def stdout(self, data: bytes) -> None:
        self._send(STDOUT, data)

    def stderr(self, data: bytes) -> None:
        self._send(STDERR, data)

    def _send(self, stream: int, data: bytes) -> None:
        self._connection.sendall(data if self._raw else framed(stream, data))


def part(connection: socket.socket) -> None:
    """The end of a connection that was taken over: all that was sent still arrives."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
