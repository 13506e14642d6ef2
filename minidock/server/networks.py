"""``/networks``: what `docker network` asks for.

Source: Docker Engine API v1.44, "Network".
"""

from __future__ import annotations

from typing import Any

from minidock.errors import InvalidInput
from minidock.server.plain import flag, pairs, table, tables, text, words
from minidock.server.request import Reply, Request


def list_(request: Request) -> Any:
    return [{**each, "Containers": {}} for each in request.engine.networks(request.filters())]


def inspect(request: Request) -> Any:
    return request.engine.network_inspect(request["name"])


def create(request: Request) -> Reply:
    body = request.json()
    if not text(body, "Name"):
        raise InvalidInput("network name cannot be empty")
    for key in ("Ingress", "ConfigOnly"):
        if flag(body, key):
            raise InvalidInput(f"minidock does not have {key} networks")
    if text(body, "Scope") not in ("", "local"):
        raise InvalidInput(f"minidock has networks of this machine only, no scope {body['Scope']!r}")
    addresses = table(body, "IPAM")
    if text(addresses, "Driver") not in ("", "default"):
        raise InvalidInput(f"invalid ipam driver: {addresses['Driver']}")
    pools = tables(addresses, "Config")
    made = request.engine.network_create(
        text(body, "Name"),
        driver=text(body, "Driver") or "bridge",
        subnet=[text(pool, "Subnet") for pool in pools if text(pool, "Subnet")],
        gateway=[text(pool, "Gateway") for pool in pools if text(pool, "Gateway")],
        ip_range=[text(pool, "IPRange") for pool in pools if text(pool, "IPRange")],
        aux_address=[
            f"{name}={address}"
            for pool in pools
            for name, address in pairs(pool, "AuxiliaryAddresses").items()
        ],
        internal=flag(body, "Internal"),
        ipv6=flag(body, "EnableIPv6"),
        attachable=flag(body, "Attachable"),
        options=pairs(body, "Options"),
        labels=pairs(body, "Labels"),
    )
    return Reply(201, {"Id": made, "Warning": ""})


def remove(request: Request) -> None:
    request.engine.network_rm(request["name"])


def connect(request: Request) -> Reply:
    body = request.json()
    settings = table(body, "EndpointConfig")
    addresses = table(settings, "IPAMConfig")
    request.engine.network_connect(
        request["name"],
        text(body, "Container"),
        aliases=words(settings, "Aliases") or [],
        links=words(settings, "Links") or [],
        ip=text(addresses, "IPv4Address"),
        ip6=text(addresses, "IPv6Address"),
        mac=text(settings, "MacAddress"),
        link_local=words(addresses, "LinkLocalIPs") or [],
        driver_options=pairs(settings, "DriverOpts"),
    )
    return Reply(200)


def disconnect(request: Request) -> Reply:
    body = request.json()
    request.engine.network_disconnect(request["name"], text(body, "Container"), force=flag(body, "Force"))
    return Reply(200)


def prune(request: Request) -> Any:
    return {"NetworksDeleted": request.engine.network_prune(request.filters())}


ROUTES = [
    ("GET", "/networks", list_),
    ("POST", "/networks/create", create),
    ("POST", "/networks/prune", prune),
    ("GET", "/networks/{name}", inspect),
    ("DELETE", "/networks/{name}", remove),
    ("POST", "/networks/{name}/connect", connect),
    ("POST", "/networks/{name}/disconnect", disconnect),
]
