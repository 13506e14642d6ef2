"""``--network``, ``-p``, ``--dns`` and their like: from what was typed to the wiring of a container.

Source: Docker's `docker run` reference, "Network settings"; go-connections' nat.ParsePortSpec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from minidock.containers import subnets
from minidock.containers.wiring import DEFAULT, Attachment, Publish, Wiring, is_network
from minidock.errors import InvalidInput

Options = dict[str, Any]
Find = Callable[[str], str]
_PROTOCOLS = ("tcp", "udp", "sctp")
_MAC = r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"


def mode(options: Options, find_container: Find, find_network: Find) -> str:
    """The first ``--network``: ``none``, ``host``, ``container:ID`` or a network's name."""
    first = _first(_networks(options)[0])
    if first in ("none", "host"):
        return first
    kind, colon, name = first.partition(":")
    if kind == "container" and colon:
        return f"container:{find_container(name)}"
    return find_network(first)


def wiring(options: Options, find_container: Find, find_network: Find) -> Wiring:
    """The networks, ports and names that *options* ask for.

    Raises InvalidInput for what is malformed or contradicts itself, NotFound for a network or container.
    """
    chosen = mode(options, find_container, find_network)
    _check_mode(chosen, options)
    attachments = []
    if is_network(chosen):
        for wish in _networks(options):
            attachments.append(_attachment(wish, find_network))
        _settle(attachments, options, find_container)
    elif len(_networks(options)) > 1:
        raise InvalidInput(f"conflicting options: cannot attach both {chosen} and user-defined networks")
    publish = [each for text in options.get("publish") or [] for each in port(str(text))]
    return Wiring(
        attachments,
        publish if is_network(chosen) else [],
        bool(options.get("publish_all")),
        [_address(text, "dns") for text in options.get("dns") or []],
        list(options.get("dns_search") or []),
        list(options.get("dns_option") or []),
        [extra_host(text) for text in options.get("add_host") or []],
    )


Wish = str | dict[str, list[str]]  # "web", "name=web,alias=www", {"name": ["web"], "alias": ["www"]}


def _networks(options: Options) -> list[Wish]:
    given = options.get("network") or DEFAULT
    wishes = [given] if isinstance(given, str | dict) else list(given)
    return [DEFAULT if wish == "default" else wish for wish in wishes] or [DEFAULT]


def _first(wish: Wish) -> str:
    """``name=web,alias=www`` → ``web``."""
    return _fields(wish).get("name", [""])[0]


def _fields(text: Wish) -> dict[str, list[str]]:
    if isinstance(text, dict):
        return text
    if "=" not in text:
        return {"name": [text]}
    fields: dict[str, list[str]] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidInput(f"invalid field {part!r} in --network {text!r}", hint="name=web,alias=www")
        fields.setdefault(key.strip().lower(), []).append(value.strip())
    for key in fields:
        if key not in ("name", "alias", "ip", "ip6", "mac-address", "driver-opt", "link-local-ip"):
            raise InvalidInput(f"invalid field key {key} in --network {text!r}")
    return fields


def _attachment(wish: Wish, find_network: Find) -> Attachment:
    fields = _fields(wish)

    def only(key: str) -> str:
        return fields.get(key, [""])[-1]

    return attachment(
        find_network(only("name")),
        aliases=fields.get("alias", []),
        ip=only("ip"),
        ip6=only("ip6"),
        mac=only("mac-address"),
        link_local=fields.get("link-local-ip", []),
        driver_options=driver_options(fields.get("driver-opt", [])),
    )


def attachment(
    network: str,
    *,
    aliases: Iterable[str] = (),
    ip: str = "",
    ip6: str = "",
    mac: str = "",
    links: Iterable[str] = (),
    link_local: Iterable[str] = (),
    driver_options: dict[str, str] | None = None,
) -> Attachment:
    """A container's place in *network* as wished, each value checked; *links* are as they are stored."""
    return Attachment(
        network,
        list(aliases),
        _address(ip, "ip") if ip else "",
        _address(ip6, "ip6") if ip6 else "",
        _mac(mac) if mac else "",
        list(links),
        [_address(text, "link-local-ip") for text in link_local],
        dict(driver_options or {}),
    )


def driver_options(texts: Iterable[str]) -> dict[str, str]:
    """``["key=value"]``. Raises InvalidInput."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise InvalidInput(f"invalid key value pair format in driver options: {text}", hint="key=value")
        found[key.strip()] = value
    return found


def _settle(attachments: list[Attachment], options: Options, find_container: Find) -> None:
    """Flags beside --network are for the first network."""
    names = [each.network for each in attachments]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"network {name} is specified multiple times")
    first = attachments[0]
    first.aliases += list(options.get("network_alias") or [])
    first.link_local += [_address(text, "link-local-ip") for text in options.get("link_local_ip") or []]
    if options.get("ip"):
        first.ip = _address(options["ip"], "ip")
    if options.get("ip6"):
        first.ip6 = _address(options["ip6"], "ip6")
    if options.get("mac_address"):
        first.mac = _mac(options["mac_address"])
    first.links += [link(text, first.network, find_container) for text in options.get("link") or []]
    for each in attachments:
        check(each)


def check(attachment: Attachment) -> None:
    """Raise InvalidInput for what only user-defined networks have."""
    if attachment.network == DEFAULT:
        if attachment.aliases:
            raise InvalidInput(
                "network-scoped alias is supported only for containers in user defined networks",
                hint="minidock network create NAME, then --network NAME.",
            )
        if attachment.ip or attachment.ip6:
            raise InvalidInput("user specified IP address is supported on user defined networks only")


def _check_mode(chosen: str, options: Options) -> None:
    if chosen.startswith("container:"):
        for option, what in (
            ("hostname", "hostname"),
            ("publish", "port publishing"),
            ("publish_all", "port publishing"),
            ("expose", "port exposing"),
            ("dns", "dns"),
            ("add_host", "custom host-to-IP mapping"),
            ("mac_address", "mac-address"),
            ("link", "links"),
        ):
            if options.get(option):
                kind = "network mode" if option == "hostname" else "container type network mode"
                raise InvalidInput(f"conflicting options: {what} and the {kind}")
    if chosen == "host" and options.get("link"):
        raise InvalidInput("conflicting options: host type networking can't be used with links")
    if not is_network(chosen):
        for option in ("ip", "ip6"):
            if options.get(option):
                raise InvalidInput("user specified IP address is supported on user defined networks only")
        if options.get("network_alias"):
            raise InvalidInput(
                "network-scoped alias is supported only for containers in user defined networks"
            )


def link(text: str, network: str, find_container: Find) -> str:
    """``db:alias`` or ``db`` → ``ID:alias`` in the default network. In others db may come later."""
    name, _, alias = text.partition(":")
    if not name:
        raise InvalidInput(f"bad format for links: {text}")
    name = name.removeprefix("/")
    return f"{find_container(name) if network == DEFAULT else name}:{alias or name}"


def _mac(text: str) -> str:
    if not re.fullmatch(_MAC, text):
        raise InvalidInput(f"{text} is not a valid mac address", hint="Six pairs: 92:d0:c6:0a:29:33.")
    return text.lower()


def _address(text: str, option: str) -> str:
    try:
        value, bits = subnets.number(text)
    except InvalidInput:
        raise InvalidInput(f"invalid argument {text!r} for --{option}: {text} is not an ip address") from None
    if (option, bits) in (("ip", 128), ("ip6", 32)):
        raise InvalidInput(f"invalid IPv{4 if option == 'ip' else 6} address: {text}")
    return subnets.address(value, bits)


def extra_host(text: str) -> str:
    """``name:address`` or ``name=address``; the address may be ``host-gateway``. Returns ``name:address``."""
    name, separator, address = text.partition("=" if "=" in text.partition(":")[0] else ":")
    address = address.removeprefix("[").removesuffix("]")
    if not separator or not name:
        raise InvalidInput(f'bad format for add-host: "{text}"', hint="Write name:address.")
    if address != "host-gateway":
        try:
            subnets.number(address)
        except InvalidInput:
            raise InvalidInput(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address}"


def port(text: str) -> list[Publish]:
    """One ``-p``: ``80``, ``8080:80``, ``127.0.0.1:8080:80/udp``, ``8000-8002:80-82``, ``[::1]::80``."""
    where, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol}", hint=f"Protocols: {', '.join(_PROTOCOLS)}.")
    host, outside, inside = _split(where, text)
    if not inside:
        raise InvalidInput(f"no port specified: {text}<empty>")
    first, last = _range(inside, "containerPort", text, least=1)
    low, high = _range(outside, "hostPort", text, least=0) if outside else (0, 0)
    count = last - first
    if low and high - low != count and count:
        raise InvalidInput(f"invalid ranges specified for container and host Ports: {inside} and {outside}")
    if host:
        subnets.number(host)
    if low and not count:  # one port inside, a choice of ports outside
        return [Publish(first, protocol, host, low, high)]
    return [
        Publish(first + step, protocol, host, low + step if low else 0, low + step if low else 0)
        for step in range(count + 1)
    ]


def _split(where: str, text: str) -> tuple[str, str, str]:
    """(address, host's port, container's port) of ``[ADDRESS:][[HOST]:]CONTAINER``."""
    if where.startswith("["):
        host, bracket, rest = where[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise InvalidInput(f"invalid IP address in port specification: {text}")
        outside, _, inside = rest[1:].rpartition(":")
        return host, outside, inside
    head, _, inside = where.rpartition(":")
    host, _, outside = head.rpartition(":")
    return host, outside, inside


def _range(text: str, what: str, whole: str, least: int) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InvalidInput(f"invalid {what}: {text}", hint=f"It stands in {whole!r}.")
    low, high = int(first), int(last or first)
    if not least <= low <= high <= 65535:
        raise InvalidInput(f"invalid {what}: {text}", hint="Ports are numbers up to 65535.")
    return low, high
