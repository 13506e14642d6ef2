"""The network of a container. So far: its loopback, which a new namespace has, but switched off."""

from __future__ import annotations

import _socket  # `socket` adds selectors and enums, milliseconds that every start would pay
import struct

from minidock import trace
from minidock.kernel import syscalls

IFF_UP = 0x1
_REQUEST = "16sh22x"  # struct ifreq: the interface's name, its flags, the rest of the union


@trace.mechanism(lesson=11)
def loopback_up() -> None:
    """Switch the loopback on: without it a process cannot even reach itself at 127.0.0.1.

    The kernel adds the addresses 127.0.0.1/8 and ::1 by itself. Needs CAP_NET_ADMIN in this network
    namespace. Source: netdevice(7).
    """
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        now = syscalls.ioctl(socket.fileno(), "SIOCGIFFLAGS", struct.pack(_REQUEST, b"lo", 0))
        flags: int = struct.unpack(_REQUEST, now)[1]
        if not flags & IFF_UP:
            syscalls.ioctl(socket.fileno(), "SIOCSIFFLAGS", struct.pack(_REQUEST, b"lo", flags | IFF_UP))
    finally:
        socket.close()
