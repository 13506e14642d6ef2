"""``minidock network`` and ``port``: the networks of containers, and their published ports."""

from __future__ import annotations

from typing import Any

from minidock import notation
from minidock.cli import table
from minidock.cli.context import Context, confirmed, each
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, repeated
from minidock.cli.inspecting import show
from minidock.cli.ps import FORMAT
from minidock.engine import parse_filters
from minidock.errors import InvalidInput, MinidockError, NotFound

_HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Label": "LABEL",
    "CreatedAt": "CREATED AT",
}


def create(context: Context, values: Values, arguments: list[str]) -> int:
    """Make a network with a bridge of its own; prints its id."""
    found = context.engine.network_create(
        arguments[0],
        driver=values["driver"],
        subnet=values["subnet"],
        gateway=values["gateway"],
        ip_range=values["ip-range"],
        aux_address=values["aux-address"],
        internal=values["internal"],
        ipv6=values["ipv6"],
        attachable=values["attachable"],
        options=dict(values["opt"]),
        labels=dict(values["label"]),
    )
    print(found)
    return 0


def ls(context: Context, values: Values, arguments: list[str]) -> int:
    """List networks by name."""
    whole = values["no-trunc"]
    found = context.engine.networks(parse_filters(values["filter"]))
    if values["quiet"] and not values["format"]:
        for network in found:
            print(network["Id"] if whole else network["Id"][:12])
        return 0
    rows = [_row(network, whole) for network in found]
    table.show(rows, _HEADINGS, ("ID", "Name", "Driver", "Scope"), values["format"])
    return 0


def _row(network: dict[str, Any], whole: bool) -> dict[str, Any]:
    labels: dict[str, str] = network["Labels"]

    def label(name: str) -> str:
        return labels.get(name, "")

    return {
        "ID": network["Id"] if whole else network["Id"][:12],
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv6": str(network["EnableIPv6"]).lower(),
        "Internal": str(network["Internal"]).lower(),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Label": label,
        "CreatedAt": network["Created"],
    }


def inspect(context: Context, values: Values, arguments: list[str]) -> int:
    """Show everything about networks as JSON, or what a template picks."""
    return show(arguments, [context.engine.network_inspect], "network", values["format"])


def connect(context: Context, values: Values, arguments: list[str]) -> int:
    """Put a container into one more network."""
    context.engine.network_connect(
        *arguments,
        aliases=values["alias"],
        ip=values["ip"] or "",
        ip6=values["ip6"] or "",
        links=values["link"],
        link_local=values["link-local-ip"],
        driver_options=dict(values["driver-opt"]),
    )
    return 0


def disconnect(context: Context, values: Values, arguments: list[str]) -> int:
    """Take a container out of a network."""
    context.engine.network_disconnect(*arguments, force=values["force"])
    return 0


def rm(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove networks."""

    def remove(name: str) -> str | None:
        try:
            return context.engine.network_rm(name)
        except NotFound:
            if values["force"]:
                return None
            raise

    return each(arguments, remove)


def prune(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove the networks that no container uses."""
    question = "WARNING! This will remove all custom networks not used by at least one container."
    if not confirmed(question, values["force"]):
        return 0
    removed = context.engine.network_prune(parse_filters(values["filter"]))
    if removed:
        print("Deleted Networks:", *removed, "", sep="\n")
    return 0


def port(context: Context, values: Values, arguments: list[str]) -> int:
    """Show where the ports of a container are published."""
    container, *wanted = arguments
    rows = [row for row in context.engine.ports(container) if "PublicPort" in row]
    if not wanted:
        for row in rows:
            print(f"{row['PrivatePort']}/{row['Type']} -> {_address(row)}")
        return 0
    number, _, protocol = wanted[0].partition("/")
    if not number.isdecimal():
        raise UsageError(f"invalid port {wanted[0]!r}", hint="Write 80 or 80/udp.", exit_code=1)
    fitting = [row for row in rows if (str(row["PrivatePort"]), row["Type"]) == (number, protocol or "tcp")]
    if not fitting:
        raise MinidockError(f"no public port '{number}/{protocol or 'tcp'}' published for {container}")
    for row in fitting:
        print(_address(row))
    return 0


def _address(row: dict[str, Any]) -> str:
    host = f"[{row['IP']}]" if ":" in row["IP"] else row["IP"]
    return f"{host}:{row['PublicPort']}"


def _ipam_driver(name: str) -> str:
    if name != "default":
        raise InvalidInput(f"could not find plugin {name}: plugin not found", hint="minidock has default.")
    return name


_FILTER = repeated("filter", "f", 'Provide filter values (e.g. "driver=bridge")', kind="filter")
_CREATE = (
    boolean("attachable", help="Enable manual container attachment"),
    repeated("aux-address", help="Auxiliary IPv4 or IPv6 addresses used by Network driver", kind="map"),
    Flag("driver", "d", "string", "Driver to manage the Network", "bridge"),
    repeated("gateway", help="IPv4 or IPv6 Gateway for the subnet"),
    boolean("internal", help="Restrict external access to the network"),
    repeated("ip-range", help="Allocate container ip from a sub-range"),
    Flag("ipam-driver", "", "string", "IP Address Management Driver", "default", _ipam_driver),
    boolean("ipv6", help="Enable IPv6 networking"),
    repeated("label", help="Set metadata on a network", convert=notation.assignment),
    repeated("opt", "o", "Set driver specific options", kind="map", convert=notation.assignment),
    repeated("subnet", help="Subnet in CIDR format that represents a network segment"),
)
_CONNECT = (
    repeated("alias", help="Add network-scoped alias for the container"),
    repeated(
        "driver-opt",
        help="driver options for the network (bridge has none for one container)",
        convert=notation.assignment,
    ),
    Flag("ip", help="IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", help="IPv6 address (e.g., 2001:db8::33)"),
    repeated("link", help="Add link to another container"),
    repeated("link-local-ip", help="Add a link-local address for the container"),
)
_LS = (
    _FILTER,
    FORMAT,
    boolean("no-trunc", help="Do not truncate the output"),
    boolean("quiet", "q", "Only display network IDs"),
)

COMMANDS = {
    "network create": Command(
        "network create [OPTIONS] NETWORK", "Create a network", create, _CREATE, least=1, most=1
    ),
    "network ls": Command("network ls [OPTIONS]", "List networks", ls, _LS, most=0),
    "network inspect": Command(
        "network inspect [OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        inspect,
        (Flag("format", "f", "string", "Format output using a Go template, or 'json'"),),
        least=1,
    ),
    "network connect": Command(
        "network connect [OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        connect,
        _CONNECT,
        least=2,
        most=2,
    ),
    "network disconnect": Command(
        "network disconnect [OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        disconnect,
        (boolean("force", "f", "Force the container to disconnect from a network"),),
        least=2,
        most=2,
    ),
    "network rm": Command(
        "network rm [OPTIONS] NETWORK [NETWORK...]",
        "Remove one or more networks",
        rm,
        (boolean("force", "f", "Do not error if the network does not exist"),),
        least=1,
    ),
    "network prune": Command(
        "network prune [OPTIONS]",
        "Remove all unused networks",
        prune,
        (
            repeated("filter", help='Provide filter values (e.g. "until=24h")', kind="filter"),
            boolean("force", "f", "Do not prompt for confirmation"),
        ),
        most=0,
    ),
    "port": Command(
        "port CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        port,
        least=1,
        most=2,
    ),
}
