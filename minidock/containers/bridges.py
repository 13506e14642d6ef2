"""The switch of a network on this machine: made when the first container needs it, or by `network create`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from minidock import files
from minidock.containers import forwarding, ipam
from minidock.containers import networks as stored
from minidock.containers.networks import Network
from minidock.containers.wiring import PREDEFINED
from minidock.errors import Conflict, MinidockError
from minidock.kernel import firewalls, nat, net, syscalls
from minidock.kernel.netlink import Netlink


def put_up(root: Path, networks: dict[str, Network], network: Network, door: Netlink) -> int:
    """Make the bridge of *network* unless it is there; returns its number. The networks' lock is held.

    It is switched on last of all: one that is off was left half made, and is made anew.
    """
    found = next(iter(net.links(door, network.bridge)), None)
    if found is not None and found.up:
        return found.index
    if found is not None:
        if found.kind != "bridge":
            raise MinidockError(f"{network.bridge}: an interface with this name exists, and is no bridge")
        net.remove_link(door, found.index)
    ipam.make_room(root, networks, network)
    changes = forwarding.note(root, net.links(door), ipv6=network.ipv6)
    stored.filter_packets(root, networks)
    forwarding.switch_on(changes)  # not before there are walls
    gateway = next(block.gateway for block in network.blocks if not block.is_ipv6)
    index = net.add_bridge(door, network.bridge, mac_of(gateway), network.mtu)
    for block in network.blocks:
        net.add_address(door, index, block.gateway, int(block.subnet.rpartition("/")[2]))
    # Packets from 127.0.0.1 are dropped outside of the loopback, unless the interface says otherwise: with
    # this `curl 127.0.0.1:8080` reaches a published port.
    syscalls.write_file(f"/proc/sys/net/ipv4/conf/{network.bridge}/route_localnet", "1")
    net.link_up(door, index)
    firewalls.open_for(network.bridge)
    return index


def take_down(name: str) -> bool:
    """Remove a bridge, and what other firewalls were told of it. Whether it was there."""
    with Netlink() as door:
        index = net.index_of(door, name)
        if index:
            net.remove_link(door, index)
    firewalls.close_for(name)
    return bool(index)


def remove(root: Path, networks: dict[str, Network], network: Network) -> None:
    """Remove a network that nobody is in, its switch and its rules. The lock is held.

    Raises Conflict when containers that run are in it, or for one of Docker's three first.
    """
    if network.name in PREDEFINED:
        raise Conflict(f"{network.name} is a pre-defined network and cannot be removed")
    if network.endpoints:
        who = ", ".join(f'name:"{each.name}"' for each in network.endpoints.values())
        raise Conflict(
            f"error while removing network: network {network.name} has active endpoints ({who})",
            hint=f"minidock network disconnect -f {network.name} NAME, or stop the container.",
        )
    take_down(network.bridge)
    del networks[network.name]
    (root / "networks" / f"{network.name}.json").unlink(missing_ok=True)
    files.sync_directory(root / "networks")
    with contextlib.suppress(MinidockError):  # without nft there is no table either
        if nat.exists(stored.table(root)):
            stored.filter_packets(root, networks)


def mac_of(ip: str) -> str:
    """A hardware address made of the IP address, as Docker does: the same container has the same again."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in ip.split("."))
