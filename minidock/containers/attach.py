"""The client's side of an attached container: this terminal (or these streams) joined to the shim's socket.

Used by a foreground `run`, by `attach`, `start -a` and `exec`: they differ only in the request that
came before. Reads and writes never block each other: a container that does not read its stdin cannot
keep us from showing its output, and the other way round.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without the enums, which cost time
import contextlib
import json
import os
import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidock.containers import protocol, terminal
from minidock.containers.protocol import CONTROL, STDERR, STDIN, STDOUT
from minidock.containers.streams import Streams, keys
from minidock.errors import MinidockError

DETACHED = -1  # what `converse` returns when the user typed the detach keys

_BLOCK = 1 << 18
_QUEUE = 1 << 20  # bytes of stdin that wait for the container before we read no more
_FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")


class DetachKeys:
    """Watches what is typed for the detach sequence. Other keys pass, also a beginning that went astray."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence, self._matched = sequence, 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the sequence is complete."""
        if not self._sequence:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    return bytes(passed), True
                continue
            passed += self._sequence[: self._matched]
            self._matched = int(byte == self._sequence[0])
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False


def converse(
    connection: socket.socket,
    streams: Streams,
    *,
    tty: bool,
    frames: protocol.Frames | None = None,
) -> int:
    """Join *streams* to the container behind *connection* until it ends; its exit code, or DETACHED.

    Raises what the shim reports. *frames* holds what was read already. Keeps going when the container ends
    its own stdin, or the user ends theirs.
    """
    conversation = _Conversation(connection, streams, tty, frames or protocol.Frames())
    with contextlib.ExitStack() as stack:
        if tty and streams.stdin is not None and os.isatty(streams.stdin):
            stack.enter_context(terminal.raw(streams.stdin))
        stack.enter_context(_signals(conversation))
        return conversation.run()


class _Conversation:
    def __init__(
        self,
        connection: socket.socket,
        streams: Streams,
        tty: bool,
        frames: protocol.Frames,
    ) -> None:
        connection.setblocking(False)
        self._connection, self._streams, self._tty = connection, streams, tty
        self._frames = frames
        self._outgoing: deque[memoryview] = deque()
        self._outgoing_bytes = 0
        self._stdin = streams.stdin
        self._keys = DetachKeys(keys(streams.detach_keys) if tty else b"")
        self._sinks = {STDOUT: streams.stdout, STDERR: streams.stderr}
        self._exit: int | None = None
        self._detached = False
        self.wakeup = -1  # readable when a signal arrived
        self.signals: list[int] = []
        if streams.typed:
            self._type(streams.typed)

    def run(self) -> int:
        self._take_frames()  # some may have come together with the first answer
        while self._exit is None and not self._detached:
            self._wait()
        if self._detached:
            return DETACHED
        assert self._exit is not None
        return self._exit

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        if self._stdin is not None and self._outgoing_bytes < _QUEUE:
            poll.register(self._stdin, select.POLLIN)
        if self.wakeup >= 0:
            poll.register(self.wakeup, select.POLLIN)
        caller = self._streams.caller
        if caller is not None and caller != self._stdin:
            poll.register(caller, 0)  # no more than a hangup
        for descriptor, events in poll.poll():
            if descriptor == caller and events & (select.POLLHUP | select.POLLERR):
                self._hear_last_words()
                self._detached = True
            elif descriptor == self.wakeup:
                self._pass_signals()
            elif descriptor == self._connection.fileno():
                if events & select.POLLOUT:
                    self._flush()
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    self._receive()
            else:
                self._read_input()

    # --- from the container ----------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_BLOCK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            if self._exit is None:
                raise MinidockError("the container's shim was killed", exit_code=137)
            return
        self._frames.feed(data)
        self._take_frames()

    def _take_frames(self) -> None:
        for kind, payload in self._frames:
            if kind == CONTROL:
                message = json.loads(payload)
                if "error" in message:
                    raise protocol.revive(message["error"])
                if "exit" in message:
                    self._exit = int(message["exit"])
            elif kind in self._sinks:
                self._show(kind, payload)

    def _show(self, kind: int, payload: bytes) -> None:
        sink = self._sinks[kind]
        if sink is None:
            return
        if callable(sink):
            sink(payload)
            return
        view = memoryview(payload)
        try:
            while view:
                try:
                    view = view[os.write(sink, view) :]
                except BlockingIOError:  # our own stdout was made non-blocking by someone
                    select.select([], [sink], [])
        except BrokenPipeError:
            # `minidock run … | head`: nobody reads any more. The container goes on; its log has it all.
            self._sinks[kind] = None

    # --- to the container ------------------------------------------------------------------------

    def _read_input(self) -> None:
        if self._stdin is None:  # given up a moment ago
            return
        try:
            data = os.read(self._stdin, _BLOCK)
        except BlockingIOError:
            return
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            self._stdin = None
            self._send(protocol.frame(STDIN, b""))
            return
        self._type(data)

    def _hear_last_words(self) -> None:
        """What was typed just before the hangup came with it, and is input like any other."""
        if self._stdin is not None and self._stdin == self._streams.caller:
            with contextlib.suppress(OSError):
                self._type(os.read(self._stdin, _BLOCK))

    def _type(self, data: bytes) -> None:
        if self._tty:
            data, self._detached = self._keys.feed(data)
        if data:
            self._send(protocol.frame(STDIN, data))

    def _pass_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup, 512)
        pending, self.signals[:] = list(self.signals), []
        for number in pending:
            if number == signal.SIGWINCH:
                size = self._streams.size()
                if size is not None:
                    self._send(protocol.control(resize=list(size)))
            else:
                self._send(protocol.control(signal=number))

    def _send(self, data: bytes) -> None:
        self._outgoing.append(memoryview(data))
        self._outgoing_bytes += len(data)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._connection.send(self._outgoing[0])
                self._outgoing_bytes -= sent
                if sent < len(self._outgoing[0]):
                    self._outgoing[0] = self._outgoing[0][sent:]
                    return
                self._outgoing.popleft()
        except BlockingIOError:
            return
        except OSError:  # the shim closed: what it said before is still to be read
            self._outgoing.clear()
            self._outgoing_bytes = 0
            self._stdin = None


@contextmanager
def _signals(conversation: _Conversation) -> Iterator[None]:
    """Catch signals for the container, and changes of the terminal's size; not outside the main thread."""
    streams = conversation._streams
    wanted = [getattr(signal, name) for name in _FORWARDED] if streams.forward_signals else []
    if conversation._tty:
        wanted.append(signal.SIGWINCH)
    before: dict[int, Any] = {}
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    try:
        previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    except ValueError:  # not the main thread: no signals here
        os.close(reading)
        os.close(writing)
        yield
        return
    conversation.wakeup = reading
    try:
        for number in wanted:
            before[number] = signal.getsignal(number)
            signal.signal(number, lambda caught, _frame: conversation.signals.append(caught))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(previous)
        os.close(reading)
        os.close(writing)
