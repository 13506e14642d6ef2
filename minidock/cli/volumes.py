"""``minidock volume create ls inspect rm prune``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock import human, notation
from minidock.cli import table
from minidock.cli.context import Context, confirmed, each
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, criterion, repeated
from minidock.cli.inspecting import show
from minidock.cli.ps import FORMAT
from minidock.engine import parse_filters
from minidock.errors import InvalidInput

HEADINGS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Label": "LABEL",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


def create(context: Context, values: Values, arguments: list[str]) -> int:
    """Create a volume and print its name."""
    name = "".join(arguments)
    if values["name"] and arguments:
        raise UsageError(
            "conflicting options: cannot specify a volume name through both --name and as a positional arg"
        )
    made = context.engine.create_volume(
        name or values["name"] or "",
        driver=values["driver"],
        labels=dict(values["label"]),
        options=dict(values["opt"]),
    )
    print(made.name)
    return 0


def ls(context: Context, values: Values, arguments: list[str]) -> int:
    """List volumes."""
    found = context.engine.volumes(parse_filters(values["filter"]))
    if values["quiet"] and not values["format"]:
        for volume in found:
            print(volume["Name"])
        return 0
    table.show(map(row_of, found), HEADINGS, ("Driver", "Name"), values["format"])
    return 0


def row_of(volume: dict[str, Any], size: str = "N/A", links: str = "N/A") -> dict[str, Any]:
    """One line of `volume ls`; of size and links only `system df -v` tells, as in Docker."""
    labels: dict[str, str] = volume["Labels"] or {}
    label: Callable[[str], str] = lambda name: labels.get(name, "")  # noqa: E731 (a value of the template)
    return {
        "Name": volume["Name"],
        "Driver": volume["Driver"],
        "Scope": volume["Scope"],
        "Mountpoint": volume["Mountpoint"],
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Label": label,
        "Links": links,
        "Size": size,
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


def inspect(context: Context, values: Values, arguments: list[str]) -> int:
    """Show everything about volumes, also who uses them."""
    return show(arguments, [context.engine.inspect_volume], "volume", values["format"])


def rm(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove volumes."""

    def remove(name: str) -> str:
        context.engine.remove_volume(name, force=values["force"])
        return name

    return each(arguments, remove)


_ANONYMOUS = "WARNING! This will remove anonymous local volumes not used by at least one container."
_ALL = "WARNING! This will remove all local volumes not used by at least one container."


def prune(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove volumes that no container uses."""
    filters = parse_filters(values["filter"])
    if values["all"] and "all" in filters:
        raise InvalidInput("conflicting options: cannot specify both --all and --filter all=1")
    if not confirmed(_ALL if values["all"] else _ANONYMOUS, values["force"]):
        return 0
    freed = prune_volumes(context, filters, values["all"])
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def prune_volumes(context: Context, filters: dict[str, list[str]], all: bool = False) -> int:
    """Prune, print the names, return the bytes freed."""
    deleted, freed = context.engine.prune_volumes(filters, all=all)
    if deleted:
        print("Deleted Volumes:", *deleted, "", sep="\n")
    return freed


COMMANDS = {
    "volume create": Command(
        "volume create [OPTIONS] [VOLUME]",
        "Create a volume",
        create,
        (
            Flag("driver", "d", help="Specify volume driver name", default="local"),
            repeated("label", help="Set metadata for a volume", convert=notation.assignment),
            Flag("name", help="Specify volume name"),
            repeated("opt", "o", "Set driver specific options", kind="map", convert=notation.assignment),
        ),
        most=1,
    ),
    "volume ls": Command(
        "volume ls [OPTIONS]",
        "List volumes",
        ls,
        (
            repeated(
                "filter",
                "f",
                'Provide filter values (e.g. "dangling=true")',
                kind="filter",
                convert=criterion,
            ),
            FORMAT,
            boolean("quiet", "q", "Only display volume names"),
        ),
        most=0,
    ),
    "volume inspect": Command(
        "volume inspect [OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        inspect,
        (Flag("format", "f", "string", "Format output using a Go template, or 'json'"),),
        least=1,
    ),
    "volume rm": Command(
        "volume rm [OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        rm,
        (boolean("force", "f", "Force the removal of one or more volumes"),),
        least=1,
    ),
    "volume prune": Command(
        "volume prune [OPTIONS]",
        "Remove unused local volumes",
        prune,
        (
            boolean("all", "a", "Remove all unused volumes, not just anonymous ones"),
            repeated(
                "filter",
                help='Provide filter values (e.g. "label=<label>")',
                kind="filter",
                convert=criterion,
            ),
            boolean("force", "f", "Do not prompt for confirmation"),
        ),
        most=0,
    ),
}
