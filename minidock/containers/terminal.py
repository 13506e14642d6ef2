"""Terminals: a pty taken from the container's own /dev/pts, and the user's terminal in raw mode."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidock import trace
from minidock.errors import MinidockError
from minidock.kernel import syscalls

_TIOCSPTLCK, _TIOCGPTN, _TIOCGPTPEER = 0x40045431, 0x80045430, 0x5441
_PTMX = os.makedev(5, 2)


@trace.mechanism(lesson=9)
def open_pair() -> tuple[int, int]:
    """Take a terminal from the container's own devpts: a host's pty would be "not a tty" inside.

    Returns the descriptors of master and slave. Called inside the container, whose /dev may be a trap:
    only the real multiplexer is accepted, and the slave is opened through the master, not by its name.
    Source: ioctl_tty(2), pts(4).
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if os.fstat(master).st_rdev != _PTMX:
        raise MinidockError("/dev/pts/ptmx in the container is not a terminal multiplexer")
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def show_as_console(master: int) -> None:
    """Bind the terminal to /dev/console, where programs look for it."""
    number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, b"\0\0\0\0"))[0]
    console = Path("/dev/console")
    console.touch(mode=0o600)
    syscalls.mount(f"/dev/pts/{number}", console, flags=syscalls.MS_BIND)


def take_control(slave: int) -> None:
    """Make the terminal this session's own: Ctrl-C then reaches the session's foreground processes."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def size(descriptor: int) -> tuple[int, int] | None:
    """Rows and columns of the terminal behind *descriptor*; None when it is none."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return found.lines, found.columns


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Pass every key on as it is, Ctrl-C too; afterwards the terminal is as before.

    Source: termios(3), cfmakeraw.
    """
    before = termios.tcgetattr(descriptor)
    mode = termios.tcgetattr(descriptor)
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
    try:
        yield
    finally:
        try:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal's window was closed
                raise
