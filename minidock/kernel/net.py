"""The network of a container: a cable from its own network to a bridge on the host.

Lesson 11. A new network namespace has nothing but a loopback, switched off. A *veth* pair is a cable with
two ends: one goes into the namespace and is called ``eth0`` there, the other is plugged into a *bridge*, a
switch made of software. All containers on one bridge see each other; the bridge's own address is their
gateway to everything else (see nat.py).
"""

from __future__ import annotations

import _socket  # `socket` adds selectors and enums, milliseconds that every start would pay
import struct
from dataclasses import dataclass

from minidock import trace
from minidock.kernel import netlink, syscalls
from minidock.kernel.netlink import Netlink, attribute, nested

IFF_UP = 0x1
_REQUEST = "16sh22x"  # struct ifreq: the interface's name, its flags, the rest of the union
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which flags to change
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, dst, src, tos, table, protocol, scope, type; flags
_MAIN, _BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1  # the table that `ip route` shows, and a plain route in it
_NODAD = 0x02  # an IPv6 address that is ours for certain: use it at once, ask nobody
_HAIRPIN = 1


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. *peer* is the other end's number (of a veth), *master* its bridge's."""

    index: int
    name: str
    up: bool
    kind: str = ""  # bridge, veth; empty for what the machine has by itself
    mac: str = ""
    mtu: int = 0
    master: int = 0
    peer: int = 0


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


@trace.mechanism(lesson=11)
def add_bridge(door: Netlink, name: str, mac: str, mtu: int = 1500) -> int:
    """Make a switch for the containers of one network, and switch it on. Returns its number.

    A bridge without a *mac* of its own would take one from its ports, and change it when they come and go:
    then the containers would lose their gateway for as long as their neighbour tables remember the old one.
    Raises KernelError: EEXIST when the name is taken.
    """
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + attribute(netlink.IFLA_IFNAME, name)
    body += attribute(netlink.IFLA_ADDRESS, _mac(mac)) + attribute(netlink.IFLA_MTU, mtu)
    body += nested(netlink.IFLA_LINKINFO, attribute(netlink.IFLA_INFO_KIND, "bridge"))
    door.ask(netlink.RTM_NEWLINK, _NEW, body, name=name, kind="bridge")
    return index_of(door, name)


@trace.mechanism(lesson=11)
def add_cable(
    door: Netlink, name: str, bridge: int, namespace: int, inside: str, mac: str, mtu: int = 1500
) -> None:
    """Lay a cable between the bridge and the container: a veth pair, one end in each network.

    *name* is the end on the host, plugged into *bridge*; *inside* the end in the network *namespace* (a
    descriptor). What goes into one end comes out of the other. One message does all of it, so that a killed
    process leaves a whole cable or none; the kernel takes it away with the namespace.
    """
    peer = _LINK.pack(0, 0, 0, 0, 0) + attribute(netlink.IFLA_IFNAME, inside)
    peer += attribute(netlink.IFLA_ADDRESS, _mac(mac)) + attribute(netlink.IFLA_MTU, mtu)
    peer += attribute(netlink.IFLA_NET_NS_FD, namespace)
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + attribute(netlink.IFLA_IFNAME, name)
    body += attribute(netlink.IFLA_MTU, mtu) + attribute(netlink.IFLA_MASTER, bridge)
    body += nested(
        netlink.IFLA_LINKINFO,
        attribute(netlink.IFLA_INFO_KIND, "veth"),
        nested(netlink.IFLA_INFO_DATA, nested(netlink.VETH_INFO_PEER, peer)),
    )
    door.ask(netlink.RTM_NEWLINK, _NEW, body, name=name, kind="veth", peer=inside, bridge=bridge)


@trace.mechanism(lesson=11)
def allow_hairpin(door: Netlink, index: int) -> None:
    """Let packets leave by the port where they came in: a container may call its own published port."""
    body = _LINK.pack(_socket.AF_BRIDGE, 0, index, 0, 0)
    body += nested(netlink.IFLA_PROTINFO, attribute(netlink.IFLA_BRPORT_MODE, bytes([_HAIRPIN])))
    door.ask(netlink.RTM_SETLINK, 0, body, port=index, hairpin="on")


@trace.mechanism(lesson=11)
def isolate(door: Netlink, index: int) -> None:
    """Let nothing pass between this port of the bridge and others that are isolated, only to the host."""
    body = _LINK.pack(_socket.AF_BRIDGE, 0, index, 0, 0)
    body += nested(netlink.IFLA_PROTINFO, attribute(netlink.IFLA_BRPORT_ISOLATED, b"\1"))
    door.ask(netlink.RTM_SETLINK, 0, body, port=index, isolated="on")


@trace.mechanism(lesson=11)
def link_up(door: Netlink, index: int, *, ipv6: bool = True) -> None:
    """Switch an interface on. Without *ipv6* it gives itself no IPv6 address."""
    body = _LINK.pack(0, 0, index, IFF_UP, IFF_UP)
    if not ipv6:
        mode = attribute(netlink.IFLA_INET6_ADDR_GEN_MODE, b"\1")
        body += nested(netlink.IFLA_AF_SPEC, nested(_socket.AF_INET6, mode))
    door.ask(netlink.RTM_SETLINK, 0, body, index=index, flags="IFF_UP")


@trace.mechanism(lesson=11)
def add_address(door: Netlink, index: int, address: str, prefix: int) -> None:
    """Give an interface an address; with its *prefix* the kernel knows who else is on the same wire.

    Raises KernelError: EEXIST when it has the address already.
    """
    family, packed = _packed(address)
    flags = _NODAD if family == _socket.AF_INET6 else 0
    body = _ADDRESS.pack(family, prefix, flags, _UNIVERSE, index)
    body += attribute(netlink.IFA_LOCAL, packed) + attribute(netlink.IFA_ADDRESS, packed)
    if family == _socket.AF_INET and prefix < 31:
        last = int.from_bytes(packed, "big") | (1 << (32 - prefix)) - 1
        body += attribute(netlink.IFA_BROADCAST, last.to_bytes(4, "big"))
    door.ask(netlink.RTM_NEWADDR, _NEW, body, index=index, address=f"{address}/{prefix}")


@trace.mechanism(lesson=11)
def default_route(door: Netlink, gateway: str) -> None:
    """Say where everything goes that is not on the wire: to the bridge, which is the host.

    Replaces the default route of the address's family. Raises KernelError: ENETUNREACH when no interface
    has an address beside *gateway*.
    """
    family, packed = _packed(gateway)
    body = _ROUTE.pack(family, 0, 0, 0, _MAIN, _BOOT, _UNIVERSE, _UNICAST, 0)
    body += attribute(netlink.RTA_GATEWAY, packed)
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
    door.ask(netlink.RTM_NEWROUTE, flags, body, destination="default", gateway=gateway)


@trace.mechanism(lesson=11)
def remove_link(door: Netlink, index: int) -> None:
    """Take an interface away; of a veth pair both ends go."""
    door.ask(netlink.RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), index=index)


# ---- looking --------------------------------------------------------------------------------------------


def index_of(door: Netlink, name: str) -> int:
    """The number of the interface called *name*; 0 when there is none."""
    return next((link.index for link in links(door, name)), 0)


def links(door: Netlink, name: str = "") -> list[Link]:
    """The interfaces of this network, or the one called *name*."""
    # A bridge with a hundred ports makes a long dump: where the name is known, the kernel is asked for it.
    body = _LINK.pack(0, 0, 0, 0, 0)
    if not name:
        return [_link(message) for message in door.dump(netlink.RTM_GETLINK, body)]
    return [
        _link(message)
        for message in door.look(netlink.RTM_GETLINK, body + attribute(netlink.IFLA_IFNAME, name))
    ]


def addresses(door: Netlink) -> list[tuple[int, str, int]]:
    """(number of the interface, address, prefix) of all interfaces."""
    found = []
    for message in door.dump(netlink.RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        family, prefix, _, _, index = _ADDRESS.unpack_from(message)
        known = netlink.attributes(message[_ADDRESS.size :])
        packed = known.get(netlink.IFA_LOCAL) or known.get(netlink.IFA_ADDRESS)
        if packed:
            found.append((index, _socket.inet_ntop(family, packed), prefix))
    return found


def routes(door: Netlink) -> list[tuple[str, int, str, int]]:
    """(destination, prefix, gateway, interface's number) of the main table; ``0.0.0.0``/0 is the default."""
    found = []
    for message in door.dump(netlink.RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, prefix, _, _, table, *_ = _ROUTE.unpack_from(message)
        known = netlink.attributes(message[_ROUTE.size :])
        if table != _MAIN or family not in (_socket.AF_INET, _socket.AF_INET6):
            continue
        nowhere = bytes(4 if family == _socket.AF_INET else 16)
        destination = _socket.inet_ntop(family, known.get(netlink.RTA_DST, nowhere))
        via = known.get(netlink.RTA_GATEWAY)
        gateway = _socket.inet_ntop(family, via) if via else ""
        found.append((destination, prefix, gateway, _number(known.get(netlink.RTA_OIF))))
    return found


_NEW = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL


def _link(message: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(message)
    known = netlink.attributes(message[_LINK.size :])
    kind = netlink.attributes(known.get(netlink.IFLA_LINKINFO, b"")).get(netlink.IFLA_INFO_KIND, b"")
    return Link(
        index,
        known[netlink.IFLA_IFNAME].rstrip(b"\0").decode(),
        bool(flags & IFF_UP),
        kind.rstrip(b"\0").decode(),
        known.get(netlink.IFLA_ADDRESS, b"").hex(":"),
        _number(known.get(netlink.IFLA_MTU)),
        _number(known.get(netlink.IFLA_MASTER)),
        _number(known.get(netlink.IFLA_LINK)),
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value, "little") if value else 0


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _packed(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)
