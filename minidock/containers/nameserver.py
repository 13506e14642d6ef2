"""The name server of one container, at 127.0.0.11: who is called what in the networks that it is in.

The shim answers it, on sockets that it opened in the container's network. They have ports by chance, to
which the kernel leads what is sent to port 53: that port stays free for a name server of the container's
own. Names of containers come from the
networks' files, so that whoever starts later is found as well; every other name is asked of the host's own
resolvers, from the host's network. One thread, no waiting: an answer that is still to come has its own
socket and its own deadline.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from minidock.containers import dns, networks
from minidock.containers.loop import READ, WRITE, Loop
from minidock.containers.networks import Endpoint, Network
from minidock.containers.state import Container
from minidock.kernel import nat, netlink

ADDRESS, PORT = "127.0.0.11", 53
PATIENCE = 3.0  # seconds for a resolver of the host to answer
_MOST = 512  # questions under way at once; more are answered with "try later"
_DATAGRAM = 65536
_IDLE = 10.0  # seconds that a TCP connection may say nothing


class NameServer:
    """Answers for *container*. *servers* are where other names are asked; none: nobody is asked."""

    def __init__(self, loop: Loop, container: Container, namespace: int, servers: list[str]) -> None:
        self._loop, self._container, self._servers = loop, container, servers
        self._book = Book(container)
        self._under_way = 0
        with netlink.inside(namespace):
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for each in (self._datagrams, self._listener):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setblocking(False)
            each.bind((ADDRESS, 0))
        self._listener.listen(16)
        udp, tcp = (each.getsockname()[1] for each in (self._datagrams, self._listener))
        self._redirection = nat.redirect(namespace, ADDRESS, PORT, udp, tcp)
        loop.watch(self._datagrams.fileno(), READ, self._hear)
        loop.watch(self._listener.fileno(), READ, self._accept)

    def finish(self) -> None:
        """Wait until the container can ask."""
        self._redirection.finish()

    def close(self) -> None:
        for each in (self._datagrams, self._listener):
            self._loop.forget(each.fileno())
            each.close()

    # --- UDP -------------------------------------------------------------------------------------

    def _hear(self, _: int) -> None:
        for _turn in range(64):  # then the container's output has its turn again
            try:
                message, sender = self._datagrams.recvfrom(_DATAGRAM)
            except OSError:
                return
            self.answer(message, lambda text, to=sender: self._say(text, to))  # type: ignore[misc]

    def _say(self, text: bytes, sender: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # it does not listen any more
            self._datagrams.sendto(text if len(text) <= 4096 else dns.truncated(text[:512]), sender)

    # --- TCP -------------------------------------------------------------------------------------

    def _accept(self, _: int) -> None:
        with contextlib.suppress(OSError):
            connection, _address = self._listener.accept()
            Conversation(self._loop, connection, self.answer)

    # --- answers ---------------------------------------------------------------------------------

    def answer(self, message: bytes, say: Callable[[bytes], None], *, tcp: bool = False) -> None:
        """Answer a query now, or when a resolver of the host has answered it."""
        try:
            asked = dns.question(message)
        except ValueError:
            return
        known = self._book.look_up(asked)
        if known is not None:
            say(dns.reply(asked, known))
        elif not self._servers or self._under_way >= _MOST:
            say(dns.reply(asked, [], dns.SERVFAIL))
        else:
            self._under_way += 1
            Errand(self._loop, self._servers, message, asked, tcp, lambda text: self._return(text, say))

    def _return(self, text: bytes, say: Callable[[bytes], None]) -> None:
        self._under_way -= 1
        say(text)


class Book:
    """Who is called what, as the container sees it. Read again when the networks' files change."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._networks: list[Network] = []
        self._stamp: object = None

    def look_up(self, asked: dns.Question) -> list[str] | None:
        """The records that answer, perhaps none; None when the name is not one of a container."""
        if asked.kind == dns.PTR:
            address = dns.address_of(asked.name)
            found = [
                f"{each.name}.{network.name}"
                for network, _, each in self._others()
                if address and address in (each.ip, each.ip6)
            ]
            return found or None
        fitting = [
            each for network, key, each in self._others() if self._fits(asked.name, network, key, each)
        ]
        if not fitting:
            return None
        wanted = {dns.A: ("ip",), dns.AAAA: ("ip6",), dns.ANY: ("ip", "ip6")}.get(asked.kind, ())
        records = [getattr(each, field) for each in fitting for field in wanted if getattr(each, field)]
        turn = os.urandom(1)[0] % max(len(records), 1)  # several containers behind one name share the work
        return list(dict.fromkeys(records[turn:] + records[:turn]))

    def _fits(self, name: str, network: Network, key: str, endpoint: Endpoint) -> bool:
        name = name.removesuffix(f".{network.name.lower()}")
        names = [endpoint.name, key[:12], *endpoint.aliases]
        for attachment in self._container.spec.wiring.attachments:
            for link in attachment.links if attachment.network == network.name else ():
                other, _, alias = link.partition(":")
                if other in (endpoint.name, key, key[:12]):
                    names.append(alias)
        return name in [each.lower() for each in names]

    def _others(self) -> list[tuple[Network, str, Endpoint]]:
        """Everybody alive in the networks that resolve names and that the container is in."""
        self._read()
        return [
            (network, key, endpoint)
            for network in self._networks
            if network.resolves_names and self._container.id in network.endpoints
            for key, endpoint in network.endpoints.items()
            if key == self._container.id or Container(self._container.root, key).alive()
        ]

    def _read(self) -> None:
        stamp = _stamp(self._container.root / "networks")
        if stamp != self._stamp:
            self._networks = list(networks.load(self._container.root).values())
            self._stamp = stamp


def _stamp(directory: Path) -> object:
    """What changes when a file in *directory* is replaced."""
    with contextlib.suppress(OSError):
        entries = [entry for entry in os.scandir(directory) if entry.name.endswith(".json")]
        return sorted((entry.name, entry.inode(), entry.stat().st_mtime_ns) for entry in entries)
    return None


class Errand:
    """One question carried to the host's resolvers, one after the other until one answers."""

    def __init__(
        self,
        loop: Loop,
        servers: list[str],
        message: bytes,
        asked: dns.Question,
        tcp: bool,
        done: Callable[[bytes], None],
    ) -> None:
        self._loop, self._waiting, self._message = loop, list(servers), message
        self._asked, self._tcp, self._done = asked, tcp, done
        self._socket: socket.socket | None = None
        self._received = b""
        self._next()

    def _next(self) -> None:
        self._drop()
        while self._waiting:
            server = self._waiting.pop(0)
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
            try:
                self._socket = one = socket.socket(family, kind)
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect((server, PORT))
                if not self._tcp:
                    one.send(self._message)
            except OSError:
                self._drop()
                continue
            self._received = b""
            self._loop.watch(one.fileno(), WRITE if self._tcp else READ, self._ready)
            self._loop.after(PATIENCE, lambda tried=one: self._give_up(tried))  # type: ignore[misc]
            return
        self._done(dns.reply(self._asked, [], dns.SERVFAIL))

    def _give_up(self, tried: socket.socket) -> None:
        if self._socket is tried:
            self._next()

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if events & WRITE:
                self._socket.send(len(self._message).to_bytes(2, "big") + self._message)
                self._loop.watch(self._socket.fileno(), READ, self._ready)
                return
            data = self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if self._tcp:
            self._received += data
            if data and (len(self._received) < 2 or len(self._received) - 2 < _length(self._received)):
                return
            data = self._received[2:]
        if data[:2] != self._message[:2]:  # not the answer to this question
            if self._tcp:
                self._next()
            return
        self._drop()
        self._done(data)


class Conversation:
    """One TCP connection of a program that asks: messages with their length before them."""

    def __init__(self, loop: Loop, connection: socket.socket, answer: Callable[..., None]) -> None:
        self._loop, self._connection, self._answer = loop, connection, answer
        self._received, self._busy, self._open = b"", 0, True
        connection.setblocking(False)
        loop.watch(connection.fileno(), READ, self._ready)
        loop.after(_IDLE, self._close)

    def _ready(self, _: int) -> None:
        try:
            data = self._connection.recv(_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._received += data
        while len(self._received) >= 2 and len(self._received) - 2 >= (length := _length(self._received)):
            message, self._received = self._received[2 : 2 + length], self._received[2 + length :]
            self._answer(message, self._say, tcp=True)

    def _say(self, text: bytes) -> None:
        if not self._open:
            return
        try:
            self._connection.send(len(text).to_bytes(2, "big") + text)
        except OSError:  # an answer fits into the socket's buffer, unless nobody reads
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.forget(self._connection.fileno())
            self._connection.close()


def _length(received: bytes) -> int:
    return int.from_bytes(received[:2], "big")
