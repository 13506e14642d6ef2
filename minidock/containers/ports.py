"""Published ports: which port of the host leads to which port of a container; no two want the same."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator

from minidock.containers.networks import Endpoint, Network
from minidock.containers.proxy import Door
from minidock.containers.spec import Spec
from minidock.containers.wiring import Publish
from minidock.errors import Conflict, MinidockError
from minidock.kernel import nat

FREE = range(32768, 61000)  # where a port is looked for when none was asked for; Docker's
_SCTP = 132
_EVERYWHERE = ("0.0.0.0", "::")


def wanted(spec: Spec) -> list[Publish]:
    """What -p asks for, and with -P every port that the image or --expose names and no -p does."""
    found = list(spec.wiring.publish)
    if spec.wiring.publish_all:
        given = {(each.port, each.protocol) for each in found}
        for text in spec.exposed_ports:
            number, _, protocol = text.partition("/")
            if (int(number), protocol) not in given:
                found.append(Publish(int(number), protocol))
    return found


def hold(endpoint: Endpoint, publish: Iterable[Publish], networks: Iterable[Network]) -> list[Door]:
    """Take the host's ports for *endpoint*: all of them, or none.

    Raises Conflict, in Docker's words, when another container or a program of the host has one already.
    """
    held: list[Door] = []
    try:
        for each in publish:
            held += _hold(endpoint, each, networks)
    except BaseException:
        for door in held:
            door.socket.close()
        raise
    return held


def _hold(endpoint: Endpoint, wanted: Publish, networks: Iterable[Network]) -> list[Door]:
    refused: tuple[str, int, OSError] | None = None
    for number in _numbers(wanted):
        doors: list[Door] = []
        host = ""
        try:
            for host in _hosts(wanted):
                target = endpoint.ip6 if ":" in host and endpoint.ip6 else endpoint.ip
                port = nat.Port(wanted.protocol, host, number, target, wanted.port)
                doors.append(Door(port, _bind(port)))
        except OSError as error:
            for door in doors:
                door.socket.close()
            if error.errno != errno.EADDRINUSE:
                raise MinidockError(f"failed to bind port {_tell(host, number, wanted, error)}") from None
            refused = host, number, error
        else:
            return doors
    assert refused is not None
    host, number, reason = refused
    shown = f"[{host}]" if ":" in host else host
    holder = next(
        (each for each in _ports_of(networks) if _same(each[1], wanted.protocol, host, number)), None
    )
    if holder is not None or wanted.last > wanted.first or not wanted.first:
        raise Conflict(
            f"Bind for {shown}:{number} failed: port is already allocated",
            hint=f"Container {holder[0]} has it: minidock port {holder[0]}" if holder else None,
        )
    raise Conflict(
        f"failed to bind port {_tell(host, number, wanted, reason)}",
        hint=f"A program of this host has it: ss -lnp 'sport = :{number}'",
    )


def _numbers(wanted: Publish) -> Iterable[int]:
    return range(wanted.first, max(wanted.first, wanted.last) + 1) if wanted.first else FREE


def _hosts(wanted: Publish) -> Iterator[str]:
    if wanted.host:
        yield wanted.host
        return
    yield _EVERYWHERE[0]
    if os.path.exists("/proc/net/if_inet6"):
        yield _EVERYWHERE[1]


def _bind(port: nat.Port) -> socket.socket:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    try:
        made = socket.socket(family, kind, _SCTP if port.protocol == "sctp" else 0)
    except OSError:  # a kernel without SCTP: then nobody else can take the port either
        return socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if kind == socket.SOCK_STREAM:  # a connection that has just ended does not hold the port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((port.host, port.host_port))
        if kind == socket.SOCK_STREAM:
            made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def _tell(host: str, number: int, wanted: Publish, error: OSError) -> str:
    where = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    network, why = f"{wanted.protocol}{6 if ':' in host else 4}", os.strerror(error.errno or 0).lower()
    return f"{where}/{wanted.protocol}: listen {network} {where}: bind: {why}"


def _ports_of(networks: Iterable[Network]) -> Iterator[tuple[str, nat.Port]]:
    for network in networks:
        for endpoint in network.endpoints.values():
            for port in endpoint.ports:
                yield endpoint.name, port


def _same(port: nat.Port, protocol: str, host: str, number: int) -> bool:
    """Whether *port* is in the way of *number* at *host*."""
    hosts = {port.host, host}
    return (
        port.protocol == protocol
        and port.host_port == number
        and (len(hosts) == 1 or bool(hosts & set(_EVERYWHERE)))
        and (":" in port.host) == (":" in host)
    )
