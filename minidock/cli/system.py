"""``minidock info``, ``version``, ``system df``, ``prune``: the engine as a whole."""

from __future__ import annotations

import sys
from typing import Any

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values, boolean, criterion, repeated
from minidock.cli.ps import FORMAT
from minidock.cli.templates import Template, json_of
from minidock.engine import parse_filters


def version(context: Context, values: Values, arguments: list[str]) -> int:
    """Show the version of minidock and of what it stands on."""
    found = context.engine.version()
    if values["format"]:
        print(json_of(found) if values["format"] == "json" else Template(values["format"]).render(found))
    elif values["short"]:
        print(f"minidock version {found['Version']}")
    else:
        for key, value in found.items():
            print(f" {key + ':':<15}{value}")
    return 0


def info(context: Context, values: Values, arguments: list[str]) -> int:
    """Show what the engine knows about itself and the machine."""
    found = context.engine.info()
    if values["format"]:
        print(json_of(found) if values["format"] == "json" else Template(values["format"]).render(found))
        return 0
    lines = [
        ("Containers", found["Containers"]),
        (" Running", found["ContainersRunning"]),
        (" Paused", found["ContainersPaused"]),
        (" Stopped", found["ContainersStopped"]),
        ("Images", found["Images"]),
        ("Server Version", found["ServerVersion"]),
        ("Storage Driver", found["Driver"]),
        ("Cgroup Version", found["CgroupVersion"]),
        ("Security Options", ", ".join(found["SecurityOptions"])),
        ("Kernel Version", found["KernelVersion"]),
        ("Operating System", found["OperatingSystem"]),
        ("Architecture", found["Architecture"]),
        ("CPUs", found["NCPU"]),
        ("Total Memory", human.binary_size(found["MemTotal"])),
        ("Name", found["Name"]),
        ("Root Dir", found["DockerRootDir"]),
        ("Configuration", found["Configuration"]),
        ("Registry Mirrors", " ".join(found["RegistryConfig"]["Mirrors"]) or "none"),
        ("Insecure Registries", " ".join(found["RegistryConfig"]["InsecureRegistries"]) or "none"),
        ("Own Layers", found["Layers"] or "none"),
    ]
    for key, value in lines:
        print(f"{key}: {value}")
    return 0


_DF_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(context: Context, values: Values, arguments: list[str]) -> int:
    """Show what images, containers and the build cache take on disk."""
    found = context.engine.df()
    rows = []
    for part in found:
        share = round(100 * part.reclaimable / part.size) if part.size else 0
        reclaimable = human.size(part.reclaimable)
        rows.append(
            {
                "Type": part.kind,
                "TotalCount": str(part.total),
                "Active": str(part.active),
                "Size": human.size(part.size),
                "Reclaimable": f"{reclaimable} ({share}%)" if part.size else reclaimable,
            }
        )
    table.show(rows, _DF_HEADINGS, tuple(_DF_HEADINGS), values["format"])
    return 0


def confirmed(question: str, force: bool) -> bool:
    """Ask a person, who has to say yes; nobody there means no."""
    if force:
        return True
    print(f"{question}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print()
    return answer.strip().lower() in ("y", "yes")


_CONTAINERS = "WARNING! This will remove all stopped containers."
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


def prune(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove stopped containers, images that nobody needs, and what builds remember."""
    images = (
        "all images without at least one container associated to them"
        if values["all"]
        else "all dangling images"
    )
    everything = ["all stopped containers", images, *([] if values["filter"] else ["all build cache"])]
    question = "WARNING! This will remove:\n" + "".join(f"  - {each}\n" for each in everything)
    if not confirmed(question, values["force"]):
        return 0
    filters = parse_filters(values["filter"])
    freed = _prune_containers(context, filters) + _prune_images(context, filters, values["all"])
    if not filters:  # they are for containers and images: a remembered step has no label
        freed += context.engine.prune_builds()[1]
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def container_prune(context: Context, values: Values, arguments: list[str]) -> int:
    if not confirmed(_CONTAINERS, values["force"]):
        return 0
    freed = _prune_containers(context, parse_filters(values["filter"]))
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def image_prune(context: Context, values: Values, arguments: list[str]) -> int:
    if not confirmed(_UNUSED if values["all"] else _DANGLING, values["force"]):
        return 0
    freed = _prune_images(context, parse_filters(values["filter"]), values["all"])
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def _prune_containers(context: Context, filters: dict[str, list[str]]) -> int:
    deleted, freed = context.engine.prune_containers(filters)
    if deleted:
        print("Deleted Containers:", *deleted, "", sep="\n")
    return freed


def _prune_images(context: Context, filters: dict[str, list[str]], unused: bool) -> int:
    removed = context.engine.prune_images(filters, unused=unused)
    if removed.lines():
        print(
            "Deleted Images:",
            *(line.lower().replace(": ", ": ", 1) for line in removed.lines()),
            "",
            sep="\n",
        )
    return removed.freed


_FILTER = repeated(
    "filter", help='Provide filter values (e.g. "until=24h", "label=x")', kind="filter", convert=criterion
)
_FORCE = boolean("force", "f", "Do not prompt for confirmation")
_ALL = boolean("all", "a", "Remove all unused images, not just dangling ones")
_INFO_FORMAT = Flag("format", "f", "string", "Format output using a Go template, or 'json'")

COMMANDS: dict[str, Any] = {
    "version": Command(
        "version [OPTIONS]",
        "Show the minidock version information",
        version,
        (_INFO_FORMAT, boolean("short", help="One line")),
        most=0,
    ),
    "info": Command("info [OPTIONS]", "Display system-wide information", info, (_INFO_FORMAT,), most=0),
    "df": Command("df [OPTIONS]", "Show disk usage", df, (FORMAT,), most=0),
    "prune": Command("prune [OPTIONS]", "Remove unused data", prune, (_ALL, _FILTER, _FORCE), most=0),
    "container prune": Command(
        "container prune [OPTIONS]",
        "Remove all stopped containers",
        container_prune,
        (_FILTER, _FORCE),
        most=0,
    ),
    "image prune": Command(
        "image prune [OPTIONS]", "Remove unused images", image_prune, (_ALL, _FILTER, _FORCE), most=0
    ),
}
