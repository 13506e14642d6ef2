"""A container's terminal: a pty taken from its own /dev/pts."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
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
