"""The input and output of one process: nothing lost, and nobody blocks anybody for ever.

What the process writes goes to the log and to every attached client. A client that reads too slowly
makes the console stop reading: the pipe fills, and the process waits as it would wait for a slow
terminal (Docker does the same). A client that hangs up is dropped at once, and the others go on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minidock.containers import terminal
from minidock.containers.client import Client
from minidock.containers.loop import BACKLOG, HANGUP, READ, WRITE, Loop, buffer, view

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a start does not wait for the real one

_PIPE_SIZE = 1 << 20
_LAST_GASP = (
    64 << 20
)  # bytes read after the end: a stranger who holds the pipe and writes on must not keep us


class Log(Protocol):
    """Where all output goes, whoever else sees it."""

    def write(self, stream: int, data: bytes | memoryview) -> None: ...
    def close(self) -> None: ...


class Console:
    """The input and output of one process, as the shim holds them."""

    def __init__(self, loop: Loop, log: Log | None, *, keep_stdin: bool) -> None:
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

    def use(self, pipes: tuple[int | None, int, int] | None, pty: tuple[int, int] | None) -> None:
        """Take the shim's ends of the pipes (stdin None: the process has /dev/null), or a terminal's.

        The terminal's slave is kept open, too: else each moment without a reader would hang up.
        """
        if pty is not None:
            self.terminal, self._slave = pty
            self._input = self.terminal
            self._outputs = {self.terminal: 1}
        elif pipes is not None:
            self._input, stdout, stderr = pipes
            self._outputs = {stdout: 1, stderr: 2}
            for descriptor in (stdout, stderr):
                with contextlib.suppress(OSError):  # a smaller pipe is only slower
                    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        for descriptor in self._descriptors():
            os.set_blocking(descriptor, False)

    def _descriptors(self) -> set[int]:
        return {*self._outputs, *([self._input] if self._input is not None else [])}

    def start(self) -> None:
        """Begin to read what the process writes."""
        self._reading = True
        self._rewatch()

    def _rewatch(self) -> None:
        for descriptor in self._descriptors():
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
            count = os.readv(descriptor, [buffer])
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: no process has the terminal open any more
                raise
            count = 0
        if not count:
            del self._outputs[descriptor]
            self._loop.forget(descriptor)
            if descriptor != self._input:
                os.close(descriptor)
            return 0
        stream = self._outputs[descriptor]
        data = view[:count]
        if self._log is not None:  # first: a line that someone was shown is in the log, whoever is killed
            self._log.write(stream, data)
            if self.on_log is not None:
                self.on_log()
        for client in tuple(self.clients):
            if stream in client.wants:
                client.send(stream, data)
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
        budget = _LAST_GASP
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
        for descriptor in self._descriptors():
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
            terminal.set_size(self.terminal, rows & 0xFFFF, columns & 0xFFFF)
