"""Published ports that the kernel cannot translate: the shim carries their bytes itself.

The packet filter (kernel/nat.py) serves nearly all: this here sees only what comes to ``::1``, whose packets
never leave the loopback, and IPv6 to a container that has IPv4 only. The sockets serve a second purpose, too:
as long as the shim holds them, no other program of the host can take the port.
"""

from __future__ import annotations

import contextlib
import socket

from minidock.containers.loop import BACKLOG, READ, WRITE, Loop, view
from minidock.kernel import nat

_IDLE = 90.0  # seconds after which a silent UDP client is forgotten
_MOST = 1024  # UDP clients of one port at a time
Address = tuple[str, int]


class Door:
    """A socket that holds a published port."""

    def __init__(self, port: nat.Port, held: socket.socket) -> None:
        self.port, self.socket = port, held

    def open(self, loop: Loop) -> None:
        """Let in who comes."""
        if self.port.protocol == "tcp":
            loop.watch(self.socket.fileno(), READ, lambda _: self._accept(loop))
        elif self.port.protocol == "udp":
            clients = _Clients(loop, self)
            loop.watch(self.socket.fileno(), READ, lambda _: clients.hear())

    def close(self, loop: Loop) -> None:
        loop.forget(self.socket.fileno())
        self.socket.close()

    def _accept(self, loop: Loop) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.socket.accept()
            Relay(loop, connection, self.port)


def _towards(port: nat.Port, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in port.to else socket.AF_INET, kind)
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        made.connect((port.to, port.to_port))
    return made


class Relay:
    """Two TCP connections, to the client and to the container: what comes from one goes to the other."""

    def __init__(self, loop: Loop, client: socket.socket, port: nat.Port) -> None:
        client.setblocking(False)
        try:
            server = _towards(port, socket.SOCK_STREAM)
        except OSError:
            client.close()
            return
        self._loop = loop
        self._open = True
        # The container's end writes first: that tells when its connection stands.
        self._flows = [_Flow(client, server), _Flow(server, client)]
        self._connecting = True
        loop.watch(server.fileno(), WRITE, self._connected)
        loop.watch(client.fileno(), 0, lambda _: self._close())

    def _connected(self, _: int) -> None:
        server = self._flows[1].source
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._close()
            return
        for flow in self._flows:
            self._loop.watch(flow.source.fileno(), READ, self._move)
        self._move(0)

    def _move(self, _: int) -> None:
        try:
            for flow in self._flows:
                flow.move()
        except OSError:
            self._close()
        if not self._open:
            return
        if all(flow.over for flow in self._flows):
            self._close()
            return
        there, back = self._flows
        for flow, other in ((there, back), (back, there)):
            events = (READ if flow.hungry else 0) | (WRITE if other.waiting else 0)
            if events:
                self._loop.watch(flow.source.fileno(), events, self._move)
            else:  # else the end of a connection would be reported again and again, while its bytes wait here
                self._loop.forget(flow.source.fileno())

    def _close(self) -> None:
        if self._open:
            self._open = False
            for flow in self._flows:
                self._loop.forget(flow.source.fileno())
                flow.source.close()


class _Flow:
    """One direction. *over* when its source said its last word and all of it was passed on."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.waiting = bytearray()
        self.ended = self.over = False

    @property
    def hungry(self) -> bool:
        return not self.ended and len(self.waiting) < BACKLOG

    def move(self) -> None:
        """Take what is there and pass on what the other side takes now. Raises OSError when one is gone."""
        if self.hungry:
            try:
                count = self.source.recv_into(view)
                self.waiting += view[:count]
                self.ended = count == 0
            except BlockingIOError:
                pass
        while self.waiting:
            try:
                del self.waiting[: self.target.send(self.waiting)]
            except BlockingIOError:
                break
        if self.ended and not self.waiting and not self.over:
            self.over = True
            self.target.shutdown(socket.SHUT_WR)


class _Clients:
    """UDP knows no connections: each client has a socket to the container, until it is silent for long."""

    def __init__(self, loop: Loop, door: Door) -> None:
        self._loop, self._door = loop, door
        self._known: dict[Address, socket.socket] = {}
        self._heard: dict[Address, int] = {}

    def hear(self) -> None:
        with contextlib.suppress(OSError):
            message, sender = self._door.socket.recvfrom(65536)
            if sender not in self._known:
                if len(self._known) >= _MOST:
                    return
                self._known[sender] = _towards(self._door.port, socket.SOCK_DGRAM)
                self._heard[sender] = 0
                self._loop.watch(self._known[sender].fileno(), READ, lambda _: self._answer(sender))
                self._loop.after(_IDLE, lambda: self._forget_if_silent(sender, 0))
            self._heard[sender] += 1
            self._known[sender].send(message)

    def _answer(self, sender: Address) -> None:
        with contextlib.suppress(OSError):
            self._door.socket.sendto(self._known[sender].recv(65536), sender)
            self._heard[sender] += 1

    def _forget_if_silent(self, sender: Address, heard: int) -> None:
        if self._heard[sender] != heard:
            now = self._heard[sender]
            self._loop.after(_IDLE, lambda: self._forget_if_silent(sender, now))
            return
        one = self._known.pop(sender)
        del self._heard[sender]
        self._loop.forget(one.fileno())
        one.close()
