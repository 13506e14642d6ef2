"""The line between the shim and a process being born: a pair of sockets that keeps messages whole.

The newborn sends what it did (the steps of its trace), its terminal, and the error when it fails.
A successful exec closes the newborn's end: end of file means "it lives".
"""

from __future__ import annotations

import _socket
import json
import marshal
import os
import struct
from dataclasses import dataclass, field

from minidock import trace
from minidock.containers import launcher, protocol
from minidock.errors import MinidockError

PATIENCE = 60.0  # seconds; the shim must not wait for ever for a process that a hung mount holds
_LARGEST = 128 * 1024  # bytes of one message; the socket's buffer holds more
_LONGEST_SHOWN = 1000  # characters of an argument that does not fit; a command may have 2 MiB of words
_SCM_RIGHTS = 1


def pair() -> tuple[Channel, Channel]:
    """The shim's end and the newborn's end."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
    return Channel(ours), Channel(theirs)


@dataclass(slots=True)
class News:
    """What a newborn told: its trace, its terminal (master, slave), the errno of the last exec."""

    steps: list[trace.Step] = field(default_factory=list)
    terminal: tuple[int, int] | None = None
    refused: int | None = None
    error: MinidockError | None = None


class Channel:
    """One end."""

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    # --- the newborn's side ----------------------------------------------------------------------

    def settle(self, number: int) -> None:
        """Move to the descriptor *number*, which an exec leaves open."""
        moved = os.dup(self._socket.fileno())  # *number* itself may be the one we have
        os.dup2(moved, number)
        self._socket.detach()
        self._socket = _socket.socket(fileno=number)

    def hand_over(self) -> None:
        """Say that the launcher comes next: from then on only its report is believed.

        Until its own exec the launcher can be traced by the container's root, who could speak in its
        name. We cannot be: Python here is not dumpable.
        """
        self._send(b"L")

    def wait_for_network(self) -> None:
        """Until the shim has laid the cables. When it cannot, it ends us."""
        self._socket.recv(1)

    def report(self, error: BaseException) -> None:
        """Tell why it failed."""
        self._send(b"E" + json.dumps(protocol.describe(error)).encode())

    def send_terminal(self, master: int, slave: int) -> None:
        """Hand the terminal to the shim."""
        rights = (_socket.SOL_SOCKET, _SCM_RIGHTS, struct.pack("ii", master, slave))
        self._socket.sendmsg([b"T"], [rights])

    def send_steps(self, steps: list[trace.Step]) -> None:
        """Send recorded steps, in messages of a size that fits. JSON would take three times as long."""
        try:
            message = marshal.dumps([step.row() for step in steps])
        except ValueError:  # an argument is no plain data
            message = b""
        if 0 < len(message) < _LARGEST:
            self._send(b"S" + message)
        elif len(steps) > 1:
            middle = len(steps) // 2
            self.send_steps(steps[:middle])
            self.send_steps(steps[middle:])
        else:
            _shorten(steps[0])
            self._send(b"S" + marshal.dumps([steps[0].row()]))

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message[:_LARGEST])
        except OSError:  # the shim is gone, and so are we in a moment
            return

    # --- the shim's side -------------------------------------------------------------------------

    def network_stands(self) -> None:
        """Let the newborn go on."""
        self._send(b"N")

    def listen(self) -> News:
        """Collect all that the newborn tells until it runs the user's program, or has failed."""
        news = News()
        handed_over = False
        self._socket.settimeout(PATIENCE)
        while True:
            try:
                message, ancillary, _, _ = self._socket.recvmsg(_LARGEST + 64, 64)
            except ConnectionResetError:
                # It ended with something of ours unread, and the kernel says that first: what it told us
                # before (perhaps why it failed) is still there.
                continue
            except TimeoutError:
                raise MinidockError(f"the new process did not start within {PATIENCE} seconds") from None
            if not message:
                return news
            refused = launcher.failure(message)
            if refused is not None:
                news.refused = refused
            elif handed_over:
                continue
            elif message == b"L":
                handed_over = True
            elif message[:1] == b"E":
                news.error = protocol.revive(json.loads(message[1:]))
            elif message[:1] == b"T":
                for _, _, data in ancillary:
                    master, slave = struct.unpack("ii", data)
                    news.terminal = (master, slave)
                    os.set_inheritable(master, False)
                    os.set_inheritable(slave, False)
            elif message[:1] == b"S":
                news.steps += [trace.Step(*row) for row in marshal.loads(message[1:])]
        return news


def _shorten(step: trace.Step) -> None:
    """Show arguments that are too long, or no plain data, by their beginning."""
    step.arguments = {name: f"{value!s:.{_LONGEST_SHOWN}}" for name, value in step.arguments.items()}


class Messenger(trace.Recorder):
    """A recorder that sends its steps to the shim, which has time to write them down."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def flush(self) -> None:
        fresh, self.unwritten = self.steps[self.unwritten :], len(self.steps)
        if fresh:
            self._channel.send_steps(fresh)
            if fresh[-1].operation == "execve" and not fresh[-1].error:
                self._channel.hand_over()
