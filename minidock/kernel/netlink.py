"""The door to rtnetlink: the kernel's own way to make links, addresses and routes, one message each.

What ``ip link add …`` does, this does, without the program. A request is a header, a fixed structure and
attributes (length, type, value, padded to four bytes); the kernel answers with an acknowledgement that
carries an errno. The package pyroute2 knows every message there is, but to import it takes longer than to
start a container. Source: netlink(7), rtnetlink(7), <linux/rtnetlink.h>, <linux/if_link.h>.
"""

from __future__ import annotations

import _socket  # `socket` adds selectors and enums, milliseconds that every start would pay
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidock.kernel import syscalls
from minidock.kernel.door import request

# Messages.
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 22, 24, 26
# Flags of a request: an acknowledgement, please; make it; it must be new; replace it; all of them.
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
# Attributes of links, addresses and routes.
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_PROTINFO, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 12, 18, 26, 28
IFLA_LINK_NETNSID, IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 37, 1, 2, 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED, IFLA_INET6_ADDR_GEN_MODE = 4, 33, 8
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NLA_F_NESTED = 0x8000

_NETLINK_ROUTE, _SOL_NETLINK, _NETLINK_EXT_ACK = 0, 270, 11
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NAMES = {value: name for name, value in globals().items() if name.startswith("RTM_")}


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute; text ends with a null byte, a number has 32 bits."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in *data* by their kind."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(max(length, 4) + 3) & ~3 :]
    return found


class Netlink:
    """One connection to the kernel's network, of this namespace or of the one behind a descriptor."""

    def __init__(self, namespace: int | None = None) -> None:
        with inside(namespace):
            kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, message: int, flags: int, body: bytes, /, **shown: Any) -> None:
        """Send a request that changes something and wait for its acknowledgement.

        *shown* is what the recorded step tells of it. Raises KernelError.
        """
        with request(_NAMES[message], **shown):
            for _ in self._converse(message, flags | NLM_F_ACK, body):
                pass

    def dump(self, message: int, body: bytes) -> list[bytes]:
        """All things of a kind: the structure and attributes of each. Unrecorded, as every look."""
        return list(self._converse(message, NLM_F_DUMP, body))

    def look(self, message: int, body: bytes) -> list[bytes]:
        """The one thing that *body* names; nothing when there is none."""
        try:
            return list(self._converse(message, NLM_F_ACK, body))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []
            raise

    def _converse(self, message: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, message, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                length, kind, _, sequence, _ = _HEADER.unpack_from(data)
                payload, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue  # what is left of an answer that nobody read to its end
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                    return
                if kind == _DONE:
                    return
                yield payload


@contextmanager
def inside(namespace: int | None) -> Iterator[None]:
    """Be in another network namespace for a moment: a socket stays in the one where it was made.

    Only this thread moves. None: stay here.
    """
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)
