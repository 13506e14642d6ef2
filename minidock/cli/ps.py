"""``minidock ps``: the containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values, boolean, criterion, integer, repeated
from minidock.engine import parse_filters

HEADINGS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Label": "LABEL",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def ps(context: Context, values: Values, arguments: list[str]) -> int:
    """List containers, newest first."""
    last = 1 if values["latest"] else values["last"]
    form = values["format"]
    size = values["size"] or (form is not None and ".Size" in form)
    filters = parse_filters(values["filter"])
    rows = context.engine.ps(filters, all=values["all"] or last > 0, size=size)
    rows = rows[:last] if last > 0 else rows
    whole = values["no-trunc"]
    if values["quiet"] and not form:
        for row in rows:
            print(row["Id"] if whole else row["Id"][:12])
        return 0
    columns = (*COLUMNS, "Size") if values["size"] else COLUMNS
    table.show([row_of(row, whole) for row in rows], HEADINGS, columns, form)
    return 0


def row_of(row: dict[str, Any], whole: bool) -> dict[str, Any]:
    """One line of `ps`; *whole* shows ids and commands uncut."""
    command = row["Command"] if whole else human.shortened(row["Command"], 20)
    labels: dict[str, str] = row["Labels"]
    label: Callable[[str], str] = lambda name: labels.get(name, "")  # noqa: E731 (a value of the template)
    return {
        "ID": row["Id"] if whole else row["Id"][:12],
        "Names": ",".join(name.removeprefix("/") for name in row["Names"]),
        "Image": image_text(row["Image"], whole),
        "Command": '"' + command.replace("\\", "\\\\").replace('"', '\\"') + '"',
        "CreatedAt": human.stamp(row["Created"]),
        "RunningFor": human.ago(row["Created"]),
        "Ports": ports_text(row["Ports"]),
        "State": row["State"],
        "Status": row["Status"],
        "Size": size_text(row),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Label": label,
        "Mounts": ",".join(
            name if whole else human.shortened(name, 15) for name in map(_mount_name, row["Mounts"])
        ),
        "LocalVolumes": str(sum(mount["Type"] == "volume" for mount in row["Mounts"])),
        "Networks": ",".join(sorted(row["NetworkSettings"]["Networks"])),
    }


def ports_text(ports: list[dict[str, Any]]) -> str:
    """``0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp``; ports that follow each other are one entry."""
    spans: list[list[dict[str, Any]]] = []
    for port in sorted(ports, key=lambda each: (each.get("IP", ""), each["Type"], each["PrivatePort"])):
        if spans and _follows(spans[-1][-1], port):
            spans[-1].append(port)
        else:
            spans.append([port])
    spans.sort(key=lambda span: (span[0]["PrivatePort"], not span[0].get("IP"), ":" in span[0].get("IP", "")))
    return ", ".join(map(_span_text, spans))


def _follows(one: dict[str, Any], other: dict[str, Any]) -> bool:
    steps = {other[key] - one[key] for key in ("PrivatePort", "PublicPort") if key in other and key in one}
    return (one.get("IP"), one["Type"], steps) == (other.get("IP"), other["Type"], {1})


def _span_text(span: list[dict[str, Any]]) -> str:
    def numbers(key: str) -> str:
        return "-".join(dict.fromkeys((str(span[0][key]), str(span[-1][key]))))

    inside = f"{numbers('PrivatePort')}/{span[0]['Type']}"
    if "PublicPort" not in span[0]:
        return inside
    host = span[0]["IP"]
    return f"{f'[{host}]' if ':' in host else host}:{numbers('PublicPort')}->{inside}"


def _mount_name(mount: dict[str, Any]) -> str:
    """A volume by its name, a host directory by its path."""
    return str(mount.get("Name") or mount["Source"])


def image_text(image: str, whole: bool) -> str:
    """The image's name; of an image that has lost its name the id."""
    if image.startswith("sha256:") and not whole:
        return image.removeprefix("sha256:")[:12]
    return image or "<no image>"


def size_text(row: dict[str, Any]) -> str:
    """``5B (virtual 4.26MB)``: what it wrote, and with its image."""
    written = human.size(row.get("SizeRw", 0))
    whole = row.get("SizeRootFs", 0)
    return f"{written} (virtual {human.size(whole)})" if whole else written


FILTER = repeated(
    "filter", "f", "Filter output based on conditions provided", kind="filter", convert=criterion
)
FORMAT = Flag("format", "", "string", "Format output using a Go template, 'table', 'json'")

COMMANDS = {
    "ps": Command(
        "ps [OPTIONS]",
        "List containers",
        ps,
        (
            boolean("all", "a", "Show all containers (default shows just running)"),
            FILTER,
            FORMAT,
            Flag("last", "n", "int", "Show n last created containers (includes all states)", -1, integer),
            boolean("latest", "l", "Show the latest created container (includes all states)"),
            boolean("no-trunc", help="Don't truncate output"),
            boolean("quiet", "q", "Only display container IDs"),
            boolean("size", "s", "Display total file sizes"),
        ),
        most=0,
    )
}
