"""Networks as files: ``<root>/networks/<name>.json`` tells what a network is and who is in it now.

An *endpoint* is one container's place in one network: its address, its end of the cable, its published
ports. The shim writes it before its container runs and takes it out afterwards. What a killed shim left
there, the next one who takes the lock clears away: the lock on shim.lock says who is alive. So no address
is ever given twice, and none is lost.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from minidock import events, files
from minidock.config import DEFAULT_ROOT
from minidock.containers import forwarding
from minidock.containers.wiring import DEFAULT
from minidock.errors import InvalidInput, KernelError, MinidockError, NotFound
from minidock.kernel import nat, net
from minidock.kernel.netlink import Netlink

BRIDGE_NAME = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
TALK = "com.docker.network.bridge.enable_icc"  # "inter-container communication"


@dataclass(slots=True)
class Endpoint:
    """One container's place in a network, while it runs."""

    id: str
    name: str  # the container's
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    cable: str = ""  # the end on the host, "veth…"
    inside: str = "eth0"  # the end in the container
    aliases: list[str] = field(default_factory=list)
    link_local: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # in the default network: "container's id:alias"
    ports: list[nat.Port] = field(default_factory=list)
    gateway: bool = False  # what goes to the world goes this way


@dataclass(slots=True)
class Block:
    """One subnet of a network; containers get addresses from *ip_range*, if it is set."""

    subnet: str
    gateway: str
    ip_range: str = ""
    asked: bool = False  # the user chose it: then addresses may be chosen, too
    kept: dict[str, str] = field(default_factory=dict)  # addresses of other machines there, by a name

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.subnet


@dataclass(slots=True)
class Network:
    """One network. *bridge* is the name of its switch on this machine; host and none have none."""

    id: str
    name: str
    created: str
    driver: str = "bridge"
    bridge: str = ""
    internal: bool = False
    ipv6: bool = False
    attachable: bool = False
    blocks: list[Block] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # container id → its place

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Network:
        known = {each.name for each in fields(cls)}
        network = cls(**{key: item for key, item in value.items() if key in known})
        network.blocks = [Block(**item) for item in value.get("blocks", [])]
        network.endpoints = {
            key: Endpoint(**{**item, "ports": [nat.Port(**port) for port in item.get("ports", [])]})
            for key, item in value.get("endpoints", {}).items()
        }
        return network

    @property
    def resolves_names(self) -> bool:
        """Whether containers find each other by name here: in all but the default one, as in Docker."""
        return self.driver == "bridge" and self.name != DEFAULT

    @property
    def mtu(self) -> int:
        return int(self.options.get(MTU, "1500"))

    @property
    def isolates(self) -> bool:
        """Whether its containers must not reach each other."""
        return self.options.get(TALK, "true") == "false"

    def filtered(self) -> nat.Network:
        """What the packet filter has to know of it."""
        masquerade = self.options.get(MASQUERADE, "true") != "false"
        subnets = tuple(block.subnet for block in self.blocks)
        return nat.Network(self.bridge, subnets, self.internal, masquerade, not self.isolates)


def mark(root: Path) -> str:
    """Eight digits that tell what belongs to *root*: bridges and tables of two roots must not meet."""
    return f"{zlib.crc32(os.fsencode(root)):08x}"


def table(root: Path) -> str:
    """The name of our table in the packet filter."""
    return "minidock" if root == DEFAULT_ROOT else f"minidock-{mark(root)}"


def bridge_prefix(root: Path) -> str:
    """What the names of our bridges begin with (the kernel allows 15 characters in all)."""
    return f"md{mark(root)}-"


def is_bridge_of(root: Path, name: str) -> bool:
    return name.startswith(bridge_prefix(root)) or (root == DEFAULT_ROOT and name == "minidock0")


# --- files ---------------------------------------------------------------------------------------


@contextmanager
def locked(root: Path, *, make: bool = True) -> Iterator[dict[str, Network]]:
    """Be the only one who changes networks in *root*; yields them by name, freed of the dead.

    Without *make*: raises FileNotFoundError where *root* has no networks any more.
    """
    if make:
        files.make_private(root / "networks")
    with files.lock(root / "networks" / ".lock"):
        for path in files.unfinished(root / "networks"):
            path.unlink(missing_ok=True)
        networks = load(root)
        sweep(root, networks)
        yield networks


def load(root: Path) -> dict[str, Network]:
    """All networks by name. A damaged file is left out: its network is named by `doctor`."""
    try:
        names = sorted(os.listdir(root / "networks"))
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            with contextlib.suppress(MinidockError, TypeError, KeyError, AttributeError):
                network = Network.from_json(files.read_json(root / "networks" / name))
                found[network.name] = network
    return found


def save(root: Path, network: Network, *, sync: bool = False) -> None:
    """Write a network down. Who is in it need not survive a power cut: no container does."""
    value = asdict(network)
    files.write_json(root / "networks" / f"{network.name}.json", value, sync=sync, squeeze=True)


def note(root: Path, network: Network, action: str, **attributes: str) -> None:
    """Add a line to what `events` shows."""
    about = {"name": network.name, "type": network.driver, **attributes}
    events.record(root, "network", action, network.id, **about)


def find(networks: dict[str, Network], text: str) -> Network:
    """The network with this name, id, or unique beginning of an id. Raises NotFound, InvalidInput."""
    if text in networks:
        return networks[text]
    fitting = [network for network in networks.values() if text and network.id.startswith(text)]
    if len(fitting) > 1:
        raise InvalidInput(f"network {text} is ambiguous ({len(fitting)} matches found on ID prefix)")
    if not fitting:
        raise NotFound(f"network {text} not found", hint="minidock network ls shows all.")
    return fitting[0]


def forget_dead(root: Path) -> None:
    """Clear away what killed shims left in the networks of *root*."""
    with contextlib.suppress(FileNotFoundError), locked(root, make=False):
        pass


def rename(root: Path, identifier: str, name: str) -> None:
    """Let a running container be found under its new name."""
    with contextlib.suppress(FileNotFoundError), locked(root, make=False) as known:
        for network in known.values():
            if identifier in network.endpoints:
                network.endpoints[identifier].name = name
                save(root, network)


def sweep(root: Path, networks: dict[str, Network]) -> None:
    """Take out what killed shims left: their endpoints, cables, and the ports published for them."""
    dead = {
        endpoint.id
        for network in networks.values()
        for key, endpoint in network.endpoints.items()
        if not files.is_locked(_lock_of(root, key))
    }
    evict(root, networks, dead)


def evict(root: Path, networks: dict[str, Network], endpoints: set[str]) -> None:
    """Take *endpoints* (their ids) out of all networks, with their ports and cables. The lock is held."""
    for network in networks.values():
        leaving = {key: each for key, each in network.endpoints.items() if each.id in endpoints}
        if not leaving:
            continue
        for key in leaving:
            del network.endpoints[key]
        save(root, network)
        withdraw(root, networks, [port for endpoint in leaving.values() for port in endpoint.ports])
        with Netlink() as door:
            for endpoint in leaving.values():
                # The kernel does it when the network namespace goes. But another container may share that,
                # and would keep using an address that is soon somebody else's.
                index = net.index_of(door, endpoint.cable)
                if index:
                    with contextlib.suppress(KernelError):  # the kernel was quicker
                        net.remove_link(door, index)


def _lock_of(root: Path, identifier: str) -> Path:
    return root / "containers" / identifier / "shim.lock"


def withdraw(root: Path, networks: dict[str, Network], ports: list[nat.Port]) -> None:
    """Unpublish ports. Where they are not published as we remember it, the whole table is written anew."""
    direct = [port for port in ports if by_kernel(port)]
    if direct:
        try:
            nat.withdraw(table(root), direct)
        except MinidockError:
            filter_packets(root, networks)


def by_kernel(port: nat.Port) -> bool:
    """Whether the packet filter can serve a port; else it is the shim itself that does (proxy.py).

    Not for ::1, whose packets never leave the loopback, nor from IPv6 to a container that has IPv4 only.
    """
    return port.host != "::1" and ((":" in port.host) == (":" in port.to))


def filter_packets(root: Path, networks: dict[str, Network]) -> None:
    """Write the packet filter's table as the files have it."""
    bridges = [network for network in networks.values() if network.bridge]
    ports = [
        port
        for network in bridges
        for endpoint in network.endpoints.values()
        for port in endpoint.ports
        if by_kernel(port)
    ]
    nat.replace(table(root), [network.filtered() for network in bridges], ports, *forwarding.apart(root))
