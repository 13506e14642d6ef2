"""One connection to the shim, from the shim's side: a request first, then frames both ways."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minidock.containers import protocol
from minidock.containers.loop import HANGUP, READ, WRITE, Loop, buffer, view
from minidock.errors import InvalidInput

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a start does not wait for the real one


class Counterpart(Protocol):
    """What a client is attached to: see console.py."""

    def feed(self, data: bytes, client: Client) -> None: ...
    def end_of_input(self) -> None: ...
    def control(self, message: dict[str, Any]) -> None: ...
    def detach(self, client: Client) -> None: ...
    def balance(self) -> None: ...


class Client:
    """One connection to the shim: a request first, then frames both ways."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        on_request: Callable[[Client, dict[str, Any]], None] | None = None,
    ) -> None:
        connection.setblocking(False)
        self._loop, self._connection, self._on_request = loop, connection, on_request
        self._waiting: deque[memoryview] = deque()
        self._frames = protocol.Frames()
        # The request, until it is whole; the starter, whose connection was inherited, makes none.
        self._line = bytearray() if on_request else None
        self._reading, self._ending, self.closed = True, False, False
        self.backlog = 0
        self.console: Counterpart | None = None
        self.wants: set[int] = set()  # which streams it is shown
        self.sends_input = False
        self.wait_for_input = False  # the console's stdin is full: read nothing from here
        self.on_close: Callable[[], None] | None = None
        self._watch()

    def _watch(self) -> None:
        if self.closed:
            return
        events = (READ if self._reading and not self.wait_for_input else 0) | (WRITE if self._waiting else 0)
        self._loop.watch(self._connection.fileno(), events, self._ready)

    def hold_input(self, hold: bool) -> None:
        """Stop or go on reading what the client sends."""
        self.wait_for_input = hold
        self._watch()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and not self.closed:
            self._receive()
        elif events & HANGUP and not self.closed:
            self.close()

    def _receive(self) -> None:
        try:
            count = self._connection.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not count:
            self._reading = False  # half closed: it may still listen
            if self._line is not None:
                self.close()
                return
            self._end_of_input()
            self._watch()
            return
        data: bytes | memoryview = view[:count]
        if self._line is not None:
            self._line += data
            if b"\n" not in self._line:
                if len(self._line) > protocol.LONGEST_REQUEST:
                    self.close()
                return
            line, _, data = bytes(self._line).partition(b"\n")
            self._line = None
            self._call(lambda: self._take_request(line))
        self._frames.feed(data)
        self._call(self._take_frames)

    def _take_request(self, line: bytes) -> None:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise InvalidInput("shim: a request is a JSON object")
        assert self._on_request is not None
        self._on_request(self, request)

    def serve(self, serve: Callable[[Client, dict[str, Any]], None], request: dict[str, Any]) -> None:
        """Have a request served that waited, and read on."""
        self._on_request = serve
        self._call(lambda: serve(self, request))
        self.hold_input(False)

    def _call(self, act: Callable[[], None]) -> None:
        """Whatever a client says, the shim lives on: errors go back to whoever made them."""
        try:
            act()
        except Exception as error:
            self.finish(error=protocol.describe(error))

    def _take_frames(self) -> None:
        if self.console is None:  # what it sends waits until it is attached
            return
        for kind, payload in self._frames:
            if self.console is None:
                return
            if kind == protocol.STDIN and self.sends_input:
                if payload:
                    self.console.feed(payload, self)
                else:
                    self._end_of_input()
            elif kind == protocol.CONTROL:
                self.console.control(json.loads(payload))

    def _end_of_input(self) -> None:
        if self.console is not None and self.sends_input:
            self.sends_input = False
            self.console.end_of_input()

    def send(self, kind: int, payload: bytes | memoryview) -> None:
        """Send a frame; what the socket does not take now waits. *payload* may change afterwards."""
        if self.closed:
            return
        header = protocol.HEADER.pack(kind, len(payload))
        sent = 0
        if not self._waiting:
            try:
                sent = self._connection.sendmsg([header, payload], [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if sent < len(header) + len(payload):
            rest = memoryview((header + bytes(payload))[sent:])
            self._waiting.append(rest)
            self.backlog += len(rest)
            self._watch()

    def tell(self, **message: Any) -> None:
        """Send a control frame."""
        self.send(protocol.CONTROL, json.dumps(message).encode())

    def finish(self, **message: Any) -> None:
        """Send the last word, then close as soon as it is out."""
        if self.closed:
            return
        if self.console is not None:
            self.console.detach(self)
        self.tell(**message)
        self._ending = True
        if not self._waiting:
            self.close()

    def _flush(self) -> None:
        try:
            while self._waiting:
                sent = self._connection.send(self._waiting[0], socket.MSG_NOSIGNAL)
                self.backlog -= sent
                if sent == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = self._waiting[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._waiting and self._ending:
            self.close()
            return
        self._watch()
        if self.console is not None:
            self.console.balance()

    def close(self) -> None:
        """Drop the connection; the console goes on without it."""
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._waiting.clear()
        self.backlog = 0
        if self.console is not None:
            self._end_of_input()
            self.console.detach(self)
        if self.on_close is not None:
            self.on_close()
