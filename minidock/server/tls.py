"""TLS for TCP: outside it is encrypted and the client has shown its certificate, inside it is a plain socket.

A connection that is taken over for a container's streams is read and written at once, and is closed in
one direction before the other. A pair of plain sockets can do that, an SSL object cannot; so one thread
copies between the two.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path

from minidock.errors import InvalidInput

_HANDSHAKE = 20.0  # seconds
_BLOCK = 1 << 16


def context(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """What we show, and by whom a client's certificate must be signed. Raises InvalidInput."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_cert_chain(certificate, key)
        made.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"TLS: {certificate}, {key} or {authority}: {error.strerror or error}") from None
    return made


def unwrapped(connection: socket.socket, secret: ssl.SSLContext) -> socket.socket | None:
    """A plain socket that leads to the other end of *connection*; None for who has no certificate."""
    connection.settimeout(_HANDSHAKE)
    try:
        outside = secret.wrap_socket(connection, server_side=True)
    except OSError:
        connection.close()
        return None
    inside, ours = socket.socketpair()
    threading.Thread(target=_relay, args=(outside, ours), name="tls", daemon=True).start()
    return inside


def _relay(outside: ssl.SSLSocket, inside: socket.socket) -> None:
    """Copy both ways until both are done."""
    outside.setblocking(False)
    inside.setblocking(False)
    with outside, inside, contextlib.suppress(OSError):
        there, back = _Pipe(), _Pipe()  # from the client, to the client
        while not (there.closed and back.closed):
            poll = select.poll()
            wanted = select.POLLIN if there.room else 0
            poll.register(outside, wanted | (select.POLLOUT if back.data else 0))
            inner = (select.POLLIN if back.room else 0) | (select.POLLOUT if there.data else 0)
            poll.register(inside, inner)
            if not outside.pending():
                for _, events in poll.poll():
                    if events & (select.POLLERR | select.POLLNVAL):
                        return
            there.fill(outside)
            there.drain(inside)
            back.fill(inside)
            back.drain(outside)
            if there.over:
                inside.shutdown(socket.SHUT_WR)
                there.closed = True
            if back.over:  # close_notify, and with it the end: HTTP needs no more
                return


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = self.closed = False

    @property
    def room(self) -> bool:
        return not self.ended and len(self.data) < _BLOCK

    @property
    def over(self) -> bool:
        return self.ended and not self.data and not self.closed

    def fill(self, source: socket.socket) -> None:
        if not self.room:
            return
        try:
            found = source.recv(_BLOCK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        self.data += found
        self.ended = not found

    def drain(self, target: socket.socket) -> None:
        if self.data:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self.data = self.data[target.send(self.data) :]
