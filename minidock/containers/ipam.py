"""Which addresses a network has, and which of them a container gets: no two ever the same.

Everything here happens under the lock of the state root's networks (`networks.locked`), and what was given
is written down before the lock is let go. Source: Docker's IPAM driver; RFC 1918, RFC 4193.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from minidock.config import DEFAULT_ROOT
from minidock.containers import subnets, timestamps
from minidock.containers.networks import BRIDGE_NAME, Block, Endpoint, Network, bridge_prefix, save
from minidock.containers.subnets import Subnet
from minidock.containers.wiring import DEFAULT, PREDEFINED, Attachment
from minidock.errors import Conflict, InvalidInput, MinidockError
from minidock.kernel import net
from minidock.kernel.netlink import Netlink

_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_. -]*[a-zA-Z0-9_.-])?")
_DRIVERS = {"host": "host", "none": "null"}


def predefine(root: Path, networks: dict[str, Network], *names: str) -> None:
    """Make those of Docker's three first networks that are not there yet; the caller holds the lock."""
    for name in names or PREDEFINED:
        if name in networks:
            continue
        network = Network(os.urandom(32).hex(), name, timestamps.now(), _DRIVERS.get(name, "bridge"))
        if name == DEFAULT:
            network.bridge = "minidock0" if root == DEFAULT_ROOT else f"{bridge_prefix(root)}0"
            network.blocks = [_block(subnets.choose(_taken(networks)))]
        save(root, network, sync=True)
        networks[name] = network


def add(root: Path, networks: dict[str, Network], network: Network, blocks: list[Block]) -> None:
    """Make a network of its own: choose what the user did not, refuse what cannot be. The lock is held.

    Raises Conflict when the name is taken or the subnet overlaps another network's or a route of this
    machine; InvalidInput for what makes no sense.
    """
    _check_name(network.name, networks)
    taken = _taken(networks)
    for block in blocks:
        wanted = subnets.subnet(block.subnet)
        if block.is_ipv6 and not network.ipv6:
            raise InvalidInput(f"{block.subnet} is an IPv6 subnet", hint="Add --ipv6.")
        if any(wanted.overlaps(other) for other in taken):
            raise Conflict(
                "Pool overlaps with other one on this address space",
                hint=f"{block.subnet} meets a network or a route of this host: ip route",
            )
        taken.append(wanted)
        network.blocks.append(_checked(block, wanted))
    if not any(not block.is_ipv6 for block in network.blocks):
        network.blocks.insert(0, _block(subnets.choose(taken)))
    if network.ipv6 and not any(block.is_ipv6 for block in network.blocks):
        network.blocks.append(_block(subnets.choose_ipv6(os.urandom(5))))
    names = {other.bridge for other in networks.values()}
    network.bridge = network.options.get(BRIDGE_NAME, "") or _free_bridge_name(root, network, names)
    if len(network.bridge) > 15 or "/" in network.bridge or network.bridge in names:
        raise InvalidInput(
            f"invalid bridge name {network.bridge!r}", hint="At most 15 characters, and unique."
        )
    save(root, network, sync=True)
    networks[network.name] = network


def blocks(subnet: list[str], gateway: list[str], ip_range: list[str], kept: list[str]) -> list[Block]:
    """What --subnet, --gateway and --ip-range ask for; each gateway and range belongs to the subnet it is in.

    *kept* are addresses that no container gets, as ``name=address``. Raises InvalidInput when something
    belongs to no subnet.
    """
    found = [Block(text, "") for text in subnet]
    for text in kept:
        name, _, address = text.partition("=")
        fitting = (block for block in found if subnets.subnet(block.subnet).holds(address))
        block = next(fitting, None)
        if block is None:
            raise InvalidInput(f"no matching subnet for aux-address {address or text}")
        block.kept[name] = subnets.address(*subnets.number(address))
    for kind, texts in (("gateway", gateway), ("ip_range", ip_range)):
        for text in texts:
            inside = subnets.subnet(text) if kind == "ip_range" else text
            fitting = (block for block in found if _holds(subnets.subnet(block.subnet), inside))
            block = next(fitting, None)
            if block is None:
                if not found:
                    raise InvalidInput("every ip-range or gateway must have a corresponding subnet")
                what = "range" if kind == "ip_range" else kind
                raise InvalidInput(f"no matching subnet for {what} {text}")
            setattr(block, kind, text)
    return found


def _holds(block: Subnet, inside: Subnet | str) -> bool:
    if isinstance(inside, str):
        return block.holds(inside)
    return block.overlaps(inside) and inside.prefix >= block.prefix


def allocate(network: Network, endpoint: Endpoint, wanted: Attachment) -> None:
    """Give *endpoint* its addresses: those asked for, or the lowest that nobody has.

    Raises Conflict when an address is in use, InvalidInput when it cannot be had here.
    """
    taken = {address for block in network.blocks for address in (block.gateway, *block.kept.values())}
    for other in network.endpoints.values():
        taken |= {other.ip, other.ip6}
    for block in network.blocks:
        asked = wanted.ip6 if block.is_ipv6 else wanted.ip
        chosen = _asked(network, block, asked, taken) if asked else _free(block, taken)
        if block.is_ipv6:
            endpoint.ip6 = chosen
        else:
            endpoint.ip = chosen
    if wanted.ip6 and not endpoint.ip6:
        raise InvalidInput(f"network {network.name} has no IPv6 subnet", hint="network create --ipv6")


def _asked(network: Network, block: Block, asked: str, taken: set[str]) -> str:
    if network.name == DEFAULT:
        raise InvalidInput("user specified IP address is supported on user defined networks only")
    if not block.asked:
        raise InvalidInput(
            "user specified IP address is supported only when connecting to networks "
            "with user configured subnets",
            hint=f"minidock network create --subnet {block.subnet} …",
        )
    if not subnets.subnet(block.subnet).holds(asked):
        raise InvalidInput(f"no configured subnet contains IP address {asked}")
    value, bits = subnets.number(asked)
    if (text := subnets.address(value, bits)) in taken:
        raise Conflict(
            "Address already in use", hint=f"{asked} belongs to another container, or the gateway."
        )
    return text


def _free(block: Block, taken: set[str]) -> str:
    part = subnets.subnet(block.ip_range) if block.ip_range else None
    return subnets.free(subnets.subnet(block.subnet), part, taken)


def _check_name(name: str, networks: dict[str, Network]) -> None:
    if name in PREDEFINED:
        raise Conflict(f"operation is not permitted on predefined {name} network")
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise InvalidInput(
            f"invalid network name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_. -] are allowed",
            hint="Start with a letter or a digit; spaces are possible inside.",
        )
    if name in networks:
        raise Conflict(f"network with name {name} already exists")


def _free_bridge_name(root: Path, network: Network, taken: set[str]) -> str:
    for start in range(0, len(network.id) - 4):
        name = bridge_prefix(root) + network.id[start : start + 4]
        if name not in taken:
            return name
    raise MinidockError("no free name for a bridge")


def _block(chosen: Subnet) -> Block:
    return Block(str(chosen), subnets.address(next(subnets.usable(chosen)), chosen.bits))


def _checked(block: Block, wanted: Subnet) -> Block:
    """The block as it will be: the subnet in its proper form, a gateway that lies in it."""
    block.subnet, block.asked = str(wanted), True
    if not any(True for _ in subnets.usable(wanted)):
        raise InvalidInput(f"invalid subnet {wanted}: no address for a container in it")
    if block.ip_range:
        block.ip_range = str(subnets.subnet(block.ip_range))
    if not block.gateway:
        block.gateway = subnets.address(next(subnets.usable(wanted)), wanted.bits)
    return block


def make_room(root: Path, networks: dict[str, Network], network: Network) -> None:
    """Look whether the subnets of *network* are still free, whose bridge is about to be made again.

    While it was down, somebody else may have begun to use them. Then it gets another, unless the user chose
    it: two bridges with one address would both be deaf. Raises Conflict then. The lock is held.
    """
    routed = _routed()
    lost = [
        block
        for block in network.blocks
        if any(subnets.subnet(block.subnet).overlaps(other) for other in routed)
    ]
    if not lost:
        return
    if network.endpoints or any(block.asked or block.is_ipv6 for block in lost):
        raise Conflict(
            f"network {network.name}: its subnet {lost[0].subnet} is in use elsewhere on this machine now",
            hint="See ip route. Free it there, or make the network again with another --subnet.",
        )
    kept = [block for block in network.blocks if block not in lost]
    network.blocks = [_block(subnets.choose(_taken(networks))), *kept]
    save(root, network, sync=True)


def _taken(networks: dict[str, Network]) -> list[Subnet]:
    """The subnets in use: of our networks, and of whatever else this machine has a route to."""
    ours = [subnets.subnet(block.subnet) for network in networks.values() for block in network.blocks]
    return ours + _routed()


def _routed() -> list[Subnet]:
    with Netlink() as door:
        return [
            subnets.subnet(f"{destination}/{prefix}")
            for destination, prefix, _, _ in net.routes(door)
            if prefix  # the default route leads everywhere
        ]
