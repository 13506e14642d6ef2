"""What a client sends, as a file: with deadlines, so that a slow client never holds a thread for ever."""

from __future__ import annotations

import io
import re
import select
import socket
import time
from typing import Any

from minidock.server.errors import BAD_REQUEST, TOO_LARGE, Refused

_LENGTH = re.compile("[0-9]{1,18}")
_LINE = 4096  # bytes of a chunk's head, or of a trailer


class Inbox(io.RawIOBase):
    """The incoming bytes of *connection*. Reading raises TimeoutError once the time allowed is over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._deadline: float | None = None
        self._pause: float | None = None

    def readable(self) -> bool:
        return True

    def allow(self, seconds: float | None, pause: float | None = None) -> None:
        """From now on *seconds* for all that is read, and *pause* for each wait; None is without end."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._pause = pause

    def readinto(self, buffer: Any) -> int:
        waits = [] if self._pause is None else [self._pause]
        if self._deadline is not None:
            waits.append(max(0.0, self._deadline - time.monotonic()))
        if not self._poll.poll(1000 * min(waits) if waits else None):
            raise TimeoutError("the client sends nothing")
        return self._connection.recv_into(buffer)


class Body:
    """A request's body: by its length or in chunks. ``read`` as of a file; b"" at its end.

    Raises Refused for what is no body, and when the client hangs up in the middle.
    Source: RFC 9112, sections 6 and 7.
    """

    def __init__(self, source: io.BufferedReader, length: str | None, encoding: str) -> None:
        self._source = source
        self._chunked = encoding.strip().lower() == "chunked"
        if encoding and not self._chunked:
            raise Refused(BAD_REQUEST, f"unsupported transfer encoding {encoding!r}")
        if not self._chunked and length is not None and not _LENGTH.fullmatch(length):
            raise Refused(BAD_REQUEST, "malformed Content-Length")
        self._left = 0 if self._chunked else int(length or 0)  # of this chunk, or of all
        self._ended = not self._chunked and not self._left
        self.empty = self._ended

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes; all of the rest when it is negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 18), b""))
        found = b""
        while len(found) < size and (piece := self._some(size - len(found))):
            found += piece
        return found

    def whole(self, most: int) -> bytes:
        """All of it. Raises Refused when that is more than *most* bytes."""
        if not self._chunked and self._left > most:
            raise Refused(TOO_LARGE, "http: request body too large")
        data = self.read(most + 1)
        if len(data) > most:
            raise Refused(TOO_LARGE, "http: request body too large")
        return data

    def __iter__(self) -> Any:
        return iter(lambda: self._some(1 << 18), b"")

    def _some(self, size: int) -> bytes:
        if self._chunked and not self._left and not self._ended:
            self._next_chunk()
        if self._ended:
            return b""
        data = self._source.read1(min(size, self._left))
        if not data:
            self._ended = True
            raise Refused(BAD_REQUEST, "unexpected EOF: the request's body is cut short")
        self._left -= len(data)
        if not self._left:
            if self._chunked:
                self._line()  # the end of line after a chunk
            else:
                self._ended = True
        return data

    def _next_chunk(self) -> None:
        text = self._line().partition(b";")[0].strip()
        try:
            if not text or not text.isalnum() or len(text) > 15:
                raise ValueError
            self._left = int(text, 16)
        except ValueError:
            self._ended = True
            raise Refused(BAD_REQUEST, "malformed chunked encoding") from None
        if not self._left:
            while self._line().strip():
                pass  # trailers
            self._ended = True

    def _line(self) -> bytes:
        line = self._source.readline(_LINE)
        if not line.endswith(b"\n"):
            self._ended = True
            raise Refused(BAD_REQUEST, "malformed chunked encoding")
        return line

    def skip(self, most: int) -> bool:
        """Read what the endpoint did not want; False when that is too much, or broken."""
        try:
            while most > 0 and (data := self._some(1 << 18)):
                most -= len(data)
        except (Refused, OSError):
            return False
        return self._ended
