"""The networks of containers as they are now: read from the kernel, not from our own files.

A tree of :class:`Node`, which `minidock network show` draws: the host, its bridges, the cables plugged into
them with the container at the other end, and what the packet filter does with whom.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from minidock.containers import networks, state
from minidock.containers.state import Container
from minidock.errors import MinidockError
from minidock.kernel import nat, net
from minidock.kernel.net import Link
from minidock.kernel.netlink import Netlink


@dataclass(slots=True)
class Node:
    """One thing. *kind* is host, bridge, cable, container, filter, rule or port; *detail* is said softly."""

    kind: str
    name: str
    detail: str = ""
    below: list[Node] = field(default_factory=list)


def view(root: Path) -> Node:
    """Everything, from the host's point of view."""
    with Netlink() as door:
        links, addresses = net.links(door), net.addresses(door)
    known = networks.load(root)
    bridges = {network.bridge: network.name for network in known.values() if network.bridge}
    others = [link.name for link in links if link.name not in bridges and link.kind != "veth" and link.up]
    here = os.readlink("/proc/thread-self/ns/net")
    host = Node("host", "this host", f"{here}, interfaces {', '.join(others)}")
    insides = _insides(root)
    for link in links:
        if link.name in bridges:
            host.below.append(_bridge(link, bridges[link.name], links, addresses, insides))
    for name in bridges.keys() - {link.name for link in links}:
        host.below.append(Node("bridge", name, f"network {bridges[name]}: made when a container needs it"))
    host.below += _filter(networks.table(root))
    return host


Addresses = list[tuple[int, str, int]]
Inside = tuple[Container, str, list[Link], Addresses]


def _insides(root: Path) -> list[Inside]:
    """Each running container with a cable: its namespace, links and addresses, seen from inside."""
    found = []
    for container in state.containers(root):
        if container.spec.namespaces.network in ("none", "host") or not container.running():
            continue
        with contextlib.suppress(OSError):  # it ends while we look
            space = f"/proc/{container.state().pid}/ns/net"
            descriptor = os.open(space, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with Netlink(descriptor) as door:
                    found.append((container, os.readlink(space), net.links(door), net.addresses(door)))
            finally:
                os.close(descriptor)
    return found


def _bridge(
    bridge: Link, network: str, links: list[Link], addresses: Addresses, insides: list[Inside]
) -> Node:
    own = _addresses_of(bridge.index, addresses)
    node = Node("bridge", bridge.name, f"network {network}, {own}{'' if bridge.up else ', switched off'}")
    for link in links:
        if link.master == bridge.index:
            node.below.append(Node("cable", link.name, link.kind, _other_ends(link, insides)))
    return node


def _other_ends(cable: Link, insides: list[Inside]) -> list[Node]:
    """Who is at the other end of a cable: several containers, where they share a network."""
    ends = []
    for container, space, links, addresses in insides:
        for link in links:
            if link.kind == "veth" and link.index == cable.peer and link.peer == cable.index:
                own = _addresses_of(link.index, addresses)
                ends.append(Node("container", container.name, f"{link.name} {own}, {link.mac}, {space}"))
    return ends


def _addresses_of(index: int, addresses: Addresses) -> str:
    own = [
        f"{address}/{prefix}"
        for number, address, prefix in addresses
        if number == index and not address.startswith("fe80:")
    ]
    return " ".join(own) or "no address"


def _filter(table: str) -> list[Node]:
    try:
        held = nat.elements(table)
    except MinidockError:
        return []
    node = Node("filter", f"nft table inet {table}")
    for name in ("published", "published_at", "published6", "published6_at"):
        for key, value in held.get(name, []):
            node.below.append(Node("port", f"{key} → {value}", "DNAT: the address is written over"))
    for name in ("hidden", "hidden6"):
        for key, _ in held.get(name, []):
            node.below.append(Node("rule", f"{key} → outside", "masquerade: leaves under the host's address"))
    for key, _ in held.get("internal", []):
        node.below.append(Node("rule", f"{key} → outside", "dropped: an internal network"))
    return [node]
