"""``--link`` in the default network, as of old: names by lines in /etc/hosts, addresses in the environment.

Nothing resolves names there, so what a container is to know of another it is told when it starts, and
the address again when the other one starts anew. In networks of one's own the name server answers instead,
at any time (nameserver.py).

Source: Docker, "Legacy container links"; moby, daemon/links/links.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minidock.containers import networks
from minidock.containers.networks import Network
from minidock.containers.state import Container
from minidock.containers.wiring import DEFAULT
from minidock.errors import Conflict

_LARGEST = 1 << 20  # bytes of a hosts file that is still one; its container may write what it likes
_OWN = ("HOME", "PATH")  # variables that each container has for itself


class Linked(NamedTuple):
    """Another container, what it is called here, and where it is: nowhere when it does not run."""

    container: Container
    alias: str
    ip: str


def hosts(container: Container, known: Iterable[Network]) -> list[tuple[str, str]]:
    """Lines for /etc/hosts: (address, names). Raises Conflict when a linked container does not run."""
    lines = []
    for each in _linked(container, known):
        short = each.container.id[:12]
        if not each.ip:
            raise Conflict(
                f"Cannot link to a non running container: {short} AS {each.alias}",
                hint=f"minidock start {short}",
            )
        lines.append((each.ip, f"{each.alias} {short} {each.container.name}"))
    return lines


def environment(container: Container) -> list[str]:
    """``DB_PORT_5432_TCP_ADDR=172.17.0.2`` and the like: where a linked one is, and what it was told."""
    found = []
    for each in _linked(container, networks.load(container.root).values()):
        if not each.ip:  # it has ended since: so much the less to tell an `exec`
            continue
        head, spec = each.alias.upper().replace("-", "_"), each.container.spec
        ports = sorted(_port(text) for text in spec.exposed_ports)
        for number, protocol in ports[:1]:
            found.append(f"{head}_PORT={protocol}://{each.ip}:{number}")
        for number, protocol in ports:
            name = f"{head}_PORT_{number}_{protocol.upper()}"
            values = {"": f"{protocol}://{each.ip}:{number}", "_ADDR": each.ip, "_PORT": number}
            values["_PROTO"] = protocol
            found += [f"{name}{end}={value}" for end, value in values.items()]
        found.append(f"{head}_NAME=/{container.name}/{each.alias}")
        own = (entry.partition("=") for entry in spec.environment)
        found += [f"{head}_ENV_{name}={value}" for name, _, value in own if name not in _OWN]
    return found


def tell(container: Container, network: Network) -> None:
    """Correct /etc/hosts of those that are linked to *container*, which has a new place in *network*."""
    address = network.endpoints[container.id].ip.encode()
    for identifier, endpoint in network.endpoints.items() if network.name == DEFAULT else ():
        for link in endpoint.links:
            target, _, alias = link.partition(":")
            file = container.root / "containers" / identifier / "hosts"
            if target == container.id and file.exists() and file.stat().st_size < _LARGEST:
                line = re.compile(rf"^\S+(?=\t{re.escape(alias)} {target[:12]} )".encode(), re.MULTILINE)
                # Into the same file: what the container sees is bound to it.
                file.write_bytes(line.sub(address, file.read_bytes()))


def _linked(container: Container, known: Iterable[Network]) -> Iterator[Linked]:
    network = next((each for each in known if each.name == DEFAULT), None)
    for attachment in container.spec.wiring.attachments:
        for link in attachment.links if network and attachment.network == DEFAULT else ():
            identifier, _, alias = link.partition(":")
            there = network.endpoints.get(identifier) if network else None
            yield Linked(Container(container.root, identifier), alias, there.ip if there else "")


def _port(text: str) -> tuple[int, str]:
    number, _, protocol = text.partition("/")
    return int(number), protocol or "tcp"
