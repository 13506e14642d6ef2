"""WebSocket: how a page in a browser, which cannot take over a connection, joins a container's streams.

Both ways go frames: a kind, a length, and the data, which a client hides behind a mask so that no proxy on
the way takes it for HTTP. What is typed is passed on as it comes: a frame may be as long as it likes.

Source: RFC 6455.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

from minidock.server.errors import BAD_REQUEST, Refused

VERSION = "13"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL_ERROR = 1000, 1002  # why a connection is closed
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # the answer to a key is made with it
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_SHORT = 125  # bytes: longer ones have their length in a field of its own, and control frames must not be
_BLOCK = 1 << 16
_PARTING = 2.0  # seconds for the client to close, too


def accepted(headers: Any) -> dict[str, str]:
    """The headers that accept what *headers* ask for. Raises Refused. Source: RFC 6455, section 4.2."""
    wanted = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in wanted:
        raise Refused(
            BAD_REQUEST, "not websocket protocol: Upgrade: websocket and Connection: Upgrade are missing"
        )
    if headers.get("Sec-WebSocket-Version", "").strip() != VERSION:
        raise Refused(
            BAD_REQUEST, "missing or bad WebSocket Version: it must be 13", {"Sec-WebSocket-Version": VERSION}
        )
    key = headers.get("Sec-WebSocket-Key", "").strip()
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size != 16:
        raise Refused(BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")
    answer = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    lines = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": answer}
    if offered := headers.get("Sec-WebSocket-Protocol", "").partition(",")[0].strip():
        lines["Sec-WebSocket-Protocol"] = offered  # the streams are plain bytes in each of them
    return lines


class Broken(Exception):
    """The client does not keep to the protocol."""


class WebSocket:
    """The connection of a client, after the handshake."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._found = bytearray()  # what was read and not yet used
        self._guard = threading.Lock()  # pongs go out between pieces of output
        self._closed = False  # by us

    # --- to the client ---------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """One message. Raises OSError when the client has gone."""
        self._send(BINARY, data)

    def close(self, why: int = NORMAL) -> None:
        """The last frame, and the end of what goes this way."""
        with contextlib.suppress(OSError):
            self._send(CLOSE, struct.pack(">H", why))
            self._connection.shutdown(socket.SHUT_WR)

    def _send(self, kind: int, data: bytes) -> None:
        size = len(data)
        head = bytes([_FINAL | kind, size if size <= _SHORT else 126 if size < 1 << 16 else 127])
        if size > _SHORT:
            head += struct.pack(">H" if size < 1 << 16 else ">Q", size)
        with self._guard:
            if not self._closed:  # nothing may follow a close frame
                self._closed = kind == CLOSE
                self._connection.sendall(head + data)

    # --- from the client -------------------------------------------------------------------------

    def typed(self, begun: bytes = b"") -> Iterator[bytes]:
        """What the client writes, in pieces, until it closes or hangs up. *begun*: what was read already.

        Text and bytes are the same for a terminal. Source: RFC 6455, section 5.
        """
        self._found += begun
        try:
            yield from self._pieces()
        except Broken:
            self.close(PROTOCOL_ERROR)
        except OSError:
            return

    def _pieces(self) -> Iterator[bytes]:
        within = False  # a message that goes on in the next frame
        while True:
            first, second = self._exactly(2)
            kind, size = first & 0x0F, second & 0x7F
            if first & _RESERVED or not second & _MASKED:
                raise Broken
            if kind >= CLOSE:
                if size > _SHORT or not first & _FINAL or kind > PONG:
                    raise Broken
                data = b"".join(self._unmasked(size))
                if kind == PING:
                    self._send(PONG, data)
                elif kind == CLOSE:
                    self.close()
                    return
                continue
            if kind > BINARY or within != (kind == CONTINUATION):
                raise Broken
            within = not first & _FINAL
            if size > _SHORT:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
                if size >> 63:
                    raise Broken
            yield from self._unmasked(size)

    def _unmasked(self, size: int) -> Iterator[bytes]:
        """The *size* bytes of a frame, as they come."""
        mask = self._exactly(4)
        while size:
            data = self._some(min(size, _BLOCK))
            count = len(data)
            hidden = int.from_bytes(data, "big")
            key = int.from_bytes((mask * (count // 4 + 1))[:count], "big")
            yield (hidden ^ key).to_bytes(count, "big")
            turn = count % 4
            mask = mask[turn:] + mask[:turn]
            size -= count

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _some(self, most: int) -> bytes:
        """Raises ConnectionError when the client has hung up."""
        if not self._found:
            self._found += self._connection.recv(_BLOCK)
            if not self._found:
                raise ConnectionResetError
        data = bytes(self._found[:most])
        del self._found[:most]
        return data


class Keyboard:
    """The client's words as a descriptor to read from, which is at its end when the client has gone.

    A thread takes them out of their frames, and answers the client's pings meanwhile.
    """

    def __init__(self, web: WebSocket, connection: socket.socket, *, heard: bool) -> None:
        self._web, self._connection, self._heard = web, connection, heard
        self._ours, self._theirs = socket.socketpair()
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        return self._theirs.fileno()

    def begin(self, begun: bytes) -> None:
        """From now on the connection carries frames, the first of them perhaps in *begun*."""
        self._thread = threading.Thread(target=self._pass_on, args=(begun,), name="websocket", daemon=True)
        self._thread.start()

    def _pass_on(self, begun: bytes) -> None:
        with self._ours:
            for piece in self._web.typed(begun):
                if self._heard:
                    with contextlib.suppress(
                        BrokenPipeError
                    ):  # nobody reads any more: wait for the close frame
                        self._ours.sendall(piece)

    def end(self) -> None:
        """Close the connection, and give the client a moment to close it as well."""
        self._theirs.close()
        if self._thread is None:
            self._ours.close()
            return
        self._web.close()
        self._thread.join(_PARTING)
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)
        self._thread.join()
