"""What `network inspect`, and `inspect` of a container, tell of networks: in the shapes of Docker's API.

Source: Docker Engine API v1.44, NetworkInspect, definitions NetworkSettings, EndpointSettings, PortMap, Port.
"""

from __future__ import annotations

from typing import Any

from minidock.containers import networks as stored
from minidock.containers import subnets
from minidock.containers.networks import Endpoint, Network
from minidock.containers.spec import Spec
from minidock.containers.state import Container
from minidock.containers.wiring import DEFAULT, Attachment

Json = dict[str, Any]


def network_json(network: Network) -> Json:
    """One network as `docker network inspect` shows it."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [
                {
                    "Subnet": block.subnet,
                    **({"IPRange": block.ip_range} if block.ip_range else {}),
                    "Gateway": block.gateway,
                    **({"AuxiliaryAddresses": block.kept} if block.kept else {}),
                }
                for block in network.blocks
            ],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            key: {
                "Name": endpoint.name,
                "EndpointID": endpoint.id,
                "MacAddress": endpoint.mac,
                "IPv4Address": _with_prefix(network, endpoint.ip),
                "IPv6Address": _with_prefix(network, endpoint.ip6),
            }
            for key, endpoint in network.endpoints.items()
        },
        "Options": _options(network),
        "Labels": network.labels,
    }


def _options(network: Network) -> dict[str, str]:
    """As they were asked for: docker-compose refuses a network with an option that its file does not have.

    Only of the network that nobody made does Docker name the bridge.
    """
    own = {stored.BRIDGE_NAME: network.bridge} if network.name == DEFAULT else {}
    return {**own, **network.options}


# ---- of a container -------------------------------------------------------------------------------------


def places(container: Container) -> dict[str, tuple[Network, Endpoint]]:
    """Where a running container is: ``{"bridge": (network, endpoint)}``."""
    if not container.running():
        return {}
    known = [each for each in stored.load(container.root).values() if container.id in each.endpoints]
    return {each.name: (each, each.endpoints[container.id]) for each in known}


def settings_json(container: Container) -> Json:
    """The NetworkSettings of `docker inspect`."""
    spec, found = container.spec, places(container)
    running = container.running()
    shown: Json = {
        "Bridge": "",
        "SandboxID": container.id if running else "",
        "SandboxKey": f"/proc/{container.state().pid}/ns/net" if running else "",
        "Ports": _port_map(spec, found) if running else {},
        **_addresses(*found.get(DEFAULT, (None, None))),
    }
    mode = spec.namespaces.network
    shown["Networks"] = {
        each.network: _endpoint_json(container, each, *found.get(each.network, (None, None)))
        for each in spec.wiring.attachments
    }
    if mode in ("none", "host"):
        shown["Networks"] = {mode: _addresses(None, None)}
    return shown


def _endpoint_json(
    container: Container, attachment: Attachment, network: Network | None, endpoint: Endpoint | None
) -> Json:
    wanted: Json = {"IPv4Address": attachment.ip, "IPv6Address": attachment.ip6}
    wanted["LinkLocalIPs"] = attachment.link_local
    names = [container.name, *attachment.aliases, container.id[:12]]
    aliases = [*attachment.aliases, *([container.id[:12]] if endpoint else [])]
    addresses = _addresses(network, endpoint)
    return {
        "IPAMConfig": {key: value for key, value in wanted.items() if value} or None,
        "Links": attachment.links or None,
        "Aliases": aliases or None if attachment.network != DEFAULT else None,
        "DriverOpts": attachment.driver_options or None,
        "NetworkID": network.id if network else "",
        **addresses,
        "MacAddress": addresses["MacAddress"] or attachment.mac,
        "DNSNames": list(dict.fromkeys(names)) if attachment.network != DEFAULT else None,
    }


def _addresses(network: Network | None, endpoint: Endpoint | None) -> Json:
    four = next((block for block in network.blocks if not block.is_ipv6), None) if network else None
    six = next((block for block in network.blocks if block.is_ipv6), None) if network else None
    return {
        "EndpointID": endpoint.id if endpoint else "",
        "Gateway": four.gateway if four else "",
        "IPAddress": endpoint.ip if endpoint else "",
        "IPPrefixLen": subnets.subnet(four.subnet).prefix if four else 0,
        "IPv6Gateway": six.gateway if six else "",
        "GlobalIPv6Address": endpoint.ip6 if endpoint else "",
        "GlobalIPv6PrefixLen": subnets.subnet(six.subnet).prefix if six else 0,
        "MacAddress": endpoint.mac if endpoint else "",
    }


def _with_prefix(network: Network, address: str) -> str:
    for block in network.blocks:
        subnet = subnets.subnet(block.subnet)
        if address and subnet.holds(address):
            return f"{address}/{subnet.prefix}"
    return ""


def _port_map(spec: Spec, found: dict[str, tuple[Network, Endpoint]]) -> Json:
    """``{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None}``."""
    shown: Json = dict.fromkeys(spec.exposed_ports)
    for _, endpoint in found.values():
        for port in endpoint.ports:
            key = f"{port.to_port}/{port.protocol}"
            shown[key] = [*(shown.get(key) or []), {"HostIp": port.host, "HostPort": str(port.host_port)}]
    return shown


def host_config(spec: Spec) -> Json:
    """What HostConfig tells of networks: as it was asked for."""
    wiring = spec.wiring
    bindings: Json = {}
    for each in wiring.publish:
        host_port = f"{each.first}-{each.last}" if each.last > each.first else str(each.first or "")
        entry = {"HostIp": each.host, "HostPort": host_port}
        bindings.setdefault(f"{each.port}/{each.protocol}", []).append(entry)
    return {
        "NetworkMode": spec.namespaces.network,
        "PortBindings": bindings,
        "PublishAllPorts": wiring.publish_all,
        "Dns": wiring.dns,
        "DnsOptions": wiring.dns_options,
        "DnsSearch": wiring.dns_search,
        "ExtraHosts": wiring.extra_hosts or None,
        "Links": [link for each in wiring.attachments for link in each.links] or None,
    }


def published(container: Container) -> list[Json]:
    """The published ports of a running container, as `docker ps` gets them, with those only exposed."""
    found = [port for _, endpoint in places(container).values() for port in endpoint.ports]
    shown: list[Json] = [
        {"IP": port.host, "PrivatePort": port.to_port, "PublicPort": port.host_port, "Type": port.protocol}
        for port in found
    ]
    if container.running():
        reached = {f"{port.to_port}/{port.protocol}" for port in found}
        for text in container.spec.exposed_ports:
            if text not in reached:
                number, _, protocol = text.partition("/")
                shown.append({"PrivatePort": int(number), "Type": protocol})
    return sorted(shown, key=lambda row: (row["PrivatePort"], row["Type"], row.get("PublicPort", 0)))
