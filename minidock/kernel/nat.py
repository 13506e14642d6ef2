"""Who may talk to whom, and under which address: the packet filter's table for the bridges of one state root.

Lesson 11. Containers have private addresses, which mean nothing outside of this machine. On the way out the
kernel writes the host's address over theirs (*masquerade*); what comes to a published port of the host gets a
container's address written over the host's (*DNAT*), and the answers are translated back. No program of ours
sees a packet: it is all done by nftables rules, in one table of our own that one command removes:
``nft delete table inet minidock``.

The rules never change. What changes stands in sets and maps, which the kernel looks up in one step however
many containers there are. Source: nft(8), nftables wiki, "Concatenations" and "Maps".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from minidock import trace
from minidock.errors import KernelError, MinidockError
from minidock.kernel import netlink, syscalls
from minidock.kernel.door import request


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge: its *subnets* (``172.17.0.0/16``); an *internal* one has no way out nor in.

    Without *talk* its containers do not reach each other, nor each other's published ports.
    """

    bridge: str
    subnets: tuple[str, ...]
    internal: bool = False
    masquerade: bool = True
    talk: bool = True


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: what comes to *host*:*host_port* goes to *to*:*to_port*.

    *host* ``0.0.0.0`` or ``::`` means every address of the host.
    """

    protocol: str  # tcp, udp, sctp
    host: str
    host_port: int
    to: str
    to_port: int


# The order of the lines matters: the first that decides, decides.
_CHAINS = """
  chain publish {
    meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @published
    meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @published_at
    ip6 daddr ::1 return
    meta l4proto { tcp, udp, sctp } dnat ip6 to meta l4proto . th dport map @published6
    meta l4proto { tcp, udp, sctp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
  }
  chain prerouting {
    comment "from outside, and from containers, to an address of this host"
    type nat hook prerouting priority -100
    fib daddr type local jump publish
  }
  chain output {
    comment "from this host to itself"
    type nat hook output priority -100
    fib daddr type local jump publish
  }
  chain postrouting {
    type nat hook postrouting priority 100
    oifname @bridges ip saddr 127.0.0.0/8 masquerade comment "the answer must find back to the host"
    oifname @bridges ip saddr @subnets ct status dnat masquerade comment "container to container"
    oifname @bridges ip6 saddr @subnets6 ct status dnat masquerade
    oifname != @bridges ip saddr @hidden masquerade comment "container to the world"
    oifname != @bridges ip6 saddr @hidden6 masquerade
  }
  chain forward {
    type filter hook forward priority 0
    meta nfproto ipv4 iifname @apart oifname @apart drop comment "this host leads nowhere else"
    meta nfproto ipv6 iifname @apart6 oifname @apart6 drop
    ct state established,related accept
    iifname . oifname vmap @inside comment "two containers of one network"
    iifname @internal drop
    oifname @internal drop
    ct status dnat accept comment "a published port"
    oifname @bridges drop comment "from elsewhere nothing else"
  }
"""


@trace.mechanism(lesson=11)
def replace(
    table: str,
    networks: Iterable[Network],
    ports: Iterable[Port],
    apart: Iterable[str] = (),
    apart6: Iterable[str] = (),
) -> None:
    """Write the table anew: masquerade on the way out, published ports on the way in, walls between networks.

    From one of the host's interfaces *apart* (for IPv6 *apart6*) to another nothing passes.
    One transaction: every packet meets the old table or the new one. Raises KernelError, MinidockError.
    """
    known, parts = list(networks), _Elements()
    for network in known:
        parts.add("bridges", f'"{network.bridge}"')
        verdict = "accept" if network.talk else "drop"
        parts.add("inside", f'"{network.bridge}" . "{network.bridge}" : {verdict}')
        if network.internal:
            parts.add("internal", f'"{network.bridge}"')
        for subnet in network.subnets:
            six = "6" if ":" in subnet else ""
            parts.add(f"subnets{six}", subnet)
            if network.masquerade and not network.internal:
                parts.add(f"hidden{six}", subnet)
    for port in ports:
        parts.add(*_element(port))
    for name, interfaces in (("apart", apart), ("apart6", apart6)):
        for interface in interfaces:
            parts.add(name, f'"{interface}"')
    text = "".join(parts.declare(name, kind) for name, kind in _SETS.items())
    # "add" first: the kernel refuses to delete a table that is not there.
    run(f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{text}{_CHAINS}}}\n")


@trace.mechanism(lesson=11)
def publish(table: str, ports: Iterable[Port]) -> Pending:
    """Publish ports: from now on what comes to them goes to the container. Call `finish` on the answer.

    The program nft takes as long as the rest of a container's network, so it runs beside.
    """
    return Pending(_changes("add", table, ports))


@trace.mechanism(lesson=11)
def redirect(namespace: int, address: str, port: int, udp: int, tcp: int) -> Pending:
    """Let a service inside a container be found at a port that the container's own programs may take, too.

    What they send to *address*:*port* comes to the ports *udp* and *tcp* of the same address; the answers
    look as if they came from *port*. The rules stand in the network *namespace* itself.
    """
    lines = [
        f"    ip daddr {address} {protocol} dport {port} dnat to {address}:{to}\n"
        for protocol, to in (("udp", udp), ("tcp", tcp))
    ]
    hook = "    type nat hook output priority -100\n"
    with netlink.inside(namespace):  # a program begins where its starter is
        return Pending(f"table ip minidock {{\n  chain output {{\n{hook}{''.join(lines)}  }}\n}}\n")


@trace.mechanism(lesson=11)
def withdraw(table: str, ports: Iterable[Port]) -> None:
    """Take published ports back."""
    run(_changes("delete", table, ports))


@trace.mechanism(lesson=11)
def remove(table: str) -> None:
    """Remove the table; nothing happens when it is not there."""
    run(f"add table inet {table}\ndelete table inet {table}\n")


def exists(table: str) -> bool:
    """Whether the kernel has the table."""
    try:
        run(f"list set inet {table} bridges\n")
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def elements(table: str) -> dict[str, list[tuple[str, str]]]:
    """What stands in the table's sets and maps, as the kernel has it: ``{"published": [("tcp 80", "…")]}``.

    Raises MinidockError when there is no such table. Unrecorded, as every look.
    """
    import json
    import subprocess

    listed = subprocess.run(
        [_program(), "-j", "list", "table", "inet", table], capture_output=True, text=True
    )
    if listed.returncode:
        raise MinidockError(f"nft: {listed.stderr.strip().partition(chr(10))[0]}")
    found: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(listed.stdout)["nftables"]:
        held = each.get("map") or each.get("set")
        for entry in (held or {}).get("elem", []):
            key, value = entry if "map" in each else (entry, "")
            found.setdefault(held["name"], []).append((_told(key), _told(value)))
    return found


def _told(value: object) -> str:
    """An element of nft's JSON as text: ``tcp 80``, ``172.17.0.2:80``, ``172.17.0.0/16``."""
    if isinstance(value, dict) and "concat" in value:
        parts = [str(part) for part in value["concat"]]
        if len(parts) == 2 and ("." in parts[0] or ":" in parts[0]):
            return f"[{parts[0]}]:{parts[1]}" if ":" in parts[0] else ":".join(parts)
        return " ".join(parts)
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


def run(script: str) -> None:
    """Give *script* to the program nft. Raises KernelError when it is missing or the kernel refuses."""
    Pending(script).finish()


class Pending:
    """A script that nft is working on."""

    def __init__(self, script: str) -> None:
        self._script = script
        self._errors = os.memfd_create("nft-errors", syscalls.MFD_CLOEXEC)
        given = os.memfd_create("nft-script", syscalls.MFD_CLOEXEC)
        os.write(given, script.encode())
        os.lseek(given, 0, os.SEEK_SET)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        moves = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in ((given, 0), (null, 1), (self._errors, 2))]
        try:
            with request("nft", script=_short(script)):
                # C: its messages are read below.
                self._pid = os.posix_spawn(
                    _program(), ["nft", "-f", "-"], {"LC_ALL": "C"}, file_actions=moves
                )
        finally:
            os.close(given)
            os.close(null)

    def finish(self) -> None:
        """Wait until the kernel has taken all of it, or nothing."""
        _, status = os.waitpid(self._pid, 0)
        os.lseek(self._errors, 0, os.SEEK_SET)
        told = os.read(self._errors, 4096).decode(errors="replace")
        os.close(self._errors)
        if status == 0:
            return
        with request("nft", script=_short(self._script)):
            for number in (errno.ENOENT, errno.EEXIST, errno.EPERM, errno.EOPNOTSUPP, errno.EBUSY):
                if os.strerror(number) in told:
                    raise OSError(number, told)
            raise MinidockError(f"nft: {told.strip().partition(chr(10))[0] or 'failed without a word'}")


def _short(script: str) -> str:
    """A script on one line, for the record."""
    line = " ".join(script.split())
    return line if len(line) <= 160 else f"{line[:159]}…"


def _program() -> str:
    """Where nft is; PATH of a plain user lacks /usr/sbin."""
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]:
        if directory and os.access(f"{directory}/nft", os.X_OK):
            return f"{directory}/nft"
    return "nft"


# name → "set" or "map", and what it holds
_SETS = {
    "bridges": "type ifname",
    "internal": "type ifname",
    "apart": "type ifname",
    "apart6": "type ifname",
    "inside": "type ifname . ifname : verdict",
    "subnets": "type ipv4_addr; flags interval",
    "subnets6": "type ipv6_addr; flags interval",
    "hidden": "type ipv4_addr; flags interval",
    "hidden6": "type ipv6_addr; flags interval",
    "published": "type inet_proto . inet_service : ipv4_addr . inet_service",
    "published_at": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "published6": "type inet_proto . inet_service : ipv6_addr . inet_service",
    "published6_at": "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
}


class _Elements:
    """What stands in the sets and maps."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, None]] = {}

    def add(self, name: str, element: str) -> None:
        self._held.setdefault(name, {})[element] = None

    def declare(self, name: str, kind: str) -> str:
        word = "map" if " : " in kind else "set"
        lines = [f"  {word} {name} {{", *(f"    {part}" for part in kind.split("; "))]
        if name in self._held:
            lines.append(f"    elements = {{ {', '.join(self._held[name])} }}")
        return "\n".join([*lines, "  }", ""])


def _element(port: Port) -> tuple[str, str]:
    """The map in which a published port stands, and how."""
    key = f"{port.protocol} . {port.host_port}"
    name = "published6" if ":" in port.to else "published"
    if port.host not in ("0.0.0.0", "::"):
        name, key = f"{name}_at", f"{port.host} . {key}"
    return name, f"{key} : {port.to} . {port.to_port}"


def _changes(verb: str, table: str, ports: Iterable[Port]) -> str:
    lines = []
    for port in ports:
        name, element = _element(port)
        lines.append(f"{verb} element inet {table} {name} {{ {element} }}\n")
    return "".join(lines)
