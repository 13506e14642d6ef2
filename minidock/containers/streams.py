"""How bytes move in a shim: one thread, one epoll, nothing lost, and nobody blocks anybody for ever.

A :class:`Console` is the input and output of one process. What the process writes goes to the log and to
every attached client. A client that reads too slowly makes the console stop reading: the pipe fills, the
process waits, as it would wait for a slow terminal (Docker does the same). A client that hangs up is
dropped at once, and the others go on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from minidock.containers import protocol
from minidock.containers.logs import LogFile
from minidock.errors import InvalidInput

BLOCK = 1 << 18  # bytes read at once
BACKLOG = 1 << 20  # bytes waiting for a slow reader before its writer must wait
_PIPE_SIZE = 1 << 20

_buffer = bytearray(BLOCK)  # every read goes here first: no allocation per read
_view = memoryview(_buffer)

READ, WRITE, HANGUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
Handler = Callable[[int], None]


class Loop:
    """Calls a handler when its descriptor is ready, and timers when they are due."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call ``handler(events)`` whenever *descriptor* is ready; events 0 reports a hangup only."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Call nobody any more. Before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, *seconds* from now."""
        self._timers.append((time.monotonic() + seconds, call))
        self._timers.sort(key=lambda timer: timer[0])

    def turn(self) -> None:
        """Wait for the next event or timer and handle it."""
        pause = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for descriptor, events in self._epoll.poll(pause):
            handler = self._handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this turn may have forgotten it
                handler(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._timers.pop(0)[1]()


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
        self.console: Console | None = None
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
            count = self._connection.recv_into(_buffer)
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
        data: bytes | memoryview = _view[:count]
        if self._line is not None:
            self._line += data
            if b"\n" not in self._line:
                if len(self._line) > protocol.LARGEST:
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

    def _call(self, act: Callable[[], None]) -> None:
        """Whatever a client says, the shim lives on: errors go back to whoever made them."""
        try:
            act()
        except Exception as error:
            self.finish(error=protocol.describe(error))

    def _take_frames(self) -> None:
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

    def release(self) -> socket.socket:
        """Give the connection away."""
        self.closed = True
        self._loop.forget(self._connection.fileno())
        return self._connection


class Console:
    """The input and output of one process, as the shim holds them."""

    def __init__(self, loop: Loop, log: LogFile | None, *, keep_stdin: bool) -> None:
        self._loop, self._log = loop, log
        self._keep_stdin = keep_stdin  # stdin outlives the client that sent it (-i without stdin_once)
        self._outputs: dict[int, int] = {}  # descriptor → stream
        self._reading = False
        self._input: int | None = None
        self._queued: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._close_input_when_empty = False
        self._slave: int | None = None
        self.terminal: int | None = None
        self.clients: list[Client] = []
        self.on_control: Callable[[dict[str, Any]], None] | None = None
        self.on_log: Callable[[], None] | None = None

    # --- wiring ----------------------------------------------------------------------------------

    def use_pipes(self, stdin: int | None, stdout: int, stderr: int) -> None:
        """The shim's ends of the three pipes (stdin None: the process has /dev/null)."""
        self._input = stdin
        self._outputs = {stdout: 1, stderr: 2}
        for descriptor in (stdin, stdout, stderr):
            if descriptor is not None:
                os.set_blocking(descriptor, False)
        for descriptor in (stdout, stderr):
            with contextlib.suppress(OSError):  # a smaller pipe is only slower
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def use_terminal(self, master: int, slave: int) -> None:
        """The master of a pty. The slave is kept open: else each moment without a reader would hang up."""
        os.set_blocking(master, False)
        self.terminal = self._input = master
        self._slave = slave
        self._outputs = {master: 1}

    def start(self) -> None:
        """Begin to read what the process writes."""
        self._reading = True
        self._rewatch()

    def _rewatch(self) -> None:
        for descriptor in {*self._outputs, *([self._input] if self._input is not None else [])}:
            events = READ if self._reading and descriptor in self._outputs else 0
            if self._queued and descriptor == self._input:
                events |= WRITE
            if events or descriptor in self._outputs:
                self._loop.watch(descriptor, events, lambda found, fd=descriptor: self._ready(fd, found))  # type: ignore[misc]
            else:
                self._loop.forget(descriptor)

    def attach(self, client: Client, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        """Show the process to *client* from now on."""
        client.console = self
        client.wants = ({1} if stdout else set()) | ({2} if stderr else set())
        client.sends_input = stdin and self._input is not None
        self.clients.append(client)

    def detach(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            client.console = None
            self.balance()

    # --- output ----------------------------------------------------------------------------------

    def _ready(self, descriptor: int, events: int) -> None:
        if events & WRITE:
            self._drain_input()
        if descriptor in self._outputs and (events & READ or (events & HANGUP and self._reading)):
            self._copy(descriptor)
            self.balance()
        elif events & HANGUP and descriptor == self._input and descriptor not in self._outputs:
            self._close_input()  # the process closed its stdin: what else comes is dropped

    def _copy(self, descriptor: int) -> int:
        """Copy one block to log and clients; the bytes copied, 0 at the end, -1 when nothing is there now."""
        try:
            count = os.readv(descriptor, [_buffer])
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: no process has the terminal open any more
                raise
            count = 0
        if not count:
            stream = self._outputs.pop(descriptor)
            self._loop.forget(descriptor)
            if descriptor != self._input:
                os.close(descriptor)
            del stream
            return 0
        stream = self._outputs[descriptor]
        data = _view[:count]
        for client in tuple(self.clients):
            if stream in client.wants:
                client.send(stream, data)
        if self._log is not None:
            self._log.write(stream, data)
            if self.on_log is not None:
                self.on_log()
        return count

    def balance(self) -> None:
        """Read only while every client keeps up."""
        reading = all(client.backlog < BACKLOG for client in self.clients)
        if reading != self._reading:
            self._reading = reading
            self._rewatch()

    def drain(self) -> None:
        """After the process ended: copy all it wrote. What is not in the pipe by now never comes."""
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        budget = 64 << 20  # a stranger outside who holds the pipe and writes on must not keep us
        for descriptor in tuple(self._outputs):
            while (count := self._copy(descriptor)) > 0 and budget > 0:
                budget -= count

    def close_log(self) -> None:
        """Write what is left of the last lines."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def close(self) -> None:
        """Let go of all descriptors."""
        for descriptor in {*self._outputs, *([self._input] if self._input is not None else [])}:
            self._loop.forget(descriptor)
            os.close(descriptor)
        self._outputs, self._input, self.terminal = {}, None, None
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None

    # --- input -----------------------------------------------------------------------------------

    def feed(self, data: bytes, client: Client) -> None:
        """Write *data* to the process's stdin; a client that sends faster than it reads is held."""
        if self._input is None:
            return
        self._queued.append(memoryview(data))
        self._queued_bytes += len(data)
        if len(self._queued) == 1:
            self._drain_input()
        if self._queued_bytes >= BACKLOG:
            client.hold_input(True)

    def _drain_input(self) -> None:
        if self._input is None:
            return
        try:
            while self._queued:
                written = os.write(self._input, self._queued[0])
                self._queued_bytes -= written
                if written == len(self._queued[0]):
                    self._queued.popleft()
                else:
                    self._queued[0] = self._queued[0][written:]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE: nobody reads any more
            self._close_input()
            return
        if not self._queued and self._close_input_when_empty:
            self._close_input()
            return
        self._rewatch()
        if self._queued_bytes < BACKLOG // 2:
            for client in self.clients:
                if client.wait_for_input:
                    client.hold_input(False)

    def end_of_input(self) -> None:
        """A client has no more input: the process reads end of file, unless its stdin is to stay open."""
        if self._keep_stdin or self.terminal is not None:
            return
        if self._queued:
            self._close_input_when_empty = True
        else:
            self._close_input()

    def _close_input(self) -> None:
        descriptor, self._input = self._input, None
        self._queued.clear()
        self._queued_bytes = 0
        if descriptor is not None and descriptor not in self._outputs:
            self._loop.forget(descriptor)
            os.close(descriptor)
        for client in self.clients:
            if client.wait_for_input:
                client.hold_input(False)

    # --- control ---------------------------------------------------------------------------------

    def control(self, message: dict[str, Any]) -> None:
        """A control frame from a client: ``resize`` is ours, the rest is our owner's."""
        if "resize" in message:
            self.resize(*message["resize"])
        elif self.on_control is not None:
            self.on_control(message)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal; the kernel sends SIGWINCH to its foreground processes."""
        if self.terminal is not None:
            size = struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)
