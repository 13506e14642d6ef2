"""What networks leave on a machine (bridges, cables, the packet filter's table, settings), and its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from minidock import files
from minidock.containers import bridges, forwarding, networks
from minidock.containers.state import Container
from minidock.errors import MinidockError
from minidock.kernel import nat, net
from minidock.kernel.netlink import Netlink


def find(root: Path) -> Iterator[tuple[str, str, str]]:
    """(kind, what, where) of what no living container or network needs. Looks only."""
    known = networks.load(root)
    for path in sorted((root / "networks").glob("[!.]*.json")):
        if path.stem not in known:
            yield "network", "its file cannot be read", str(path)
    plugged = set()
    for network in known.values():
        for key, endpoint in network.endpoints.items():
            plugged.add(endpoint.cable)
            if not Container(root, key).alive():
                yield "address", f"{endpoint.ip} of {endpoint.name}, whose shim was killed", network.name
    with Netlink() as door:
        links = net.links(door)
    ours = {network.bridge for network in known.values()}
    numbers = {link.index for link in links if networks.is_bridge_of(root, link.name) or link.name in ours}
    for link in links:
        if networks.is_bridge_of(root, link.name) and link.name not in ours:
            yield "bridge", "bridge of a network that is gone", link.name
        if link.master in numbers and link.kind == "veth" and link.name not in plugged:
            yield "cable", "cable that no container has", link.name
    if not any(network.bridge for network in known.values()) and _has_table(root):
        yield "nft table", "rules without a network", networks.table(root)


def clear(root: Path) -> list[str]:
    """Remove all of it, and what is in use, too: one line for each thing. No container runs any more."""
    done = []
    with Netlink() as door:
        names = [link.name for link in net.links(door) if networks.is_bridge_of(root, link.name)]
    names += [network.bridge for network in networks.load(root).values() if network.bridge]
    for name in dict.fromkeys(names):
        if bridges.take_down(name):
            done.append(f"bridge {name}")
    if _has_table(root):
        nat.remove(networks.table(root))
        done.append(f"nft table inet {networks.table(root)}")
    done += forwarding.restore(root)
    files.remove_tree(root / "networks")
    return done


def _has_table(root: Path) -> bool:
    with contextlib.suppress(MinidockError):  # no nft, or not root: then there is none of ours
        return nat.exists(networks.table(root))
    return False
