"""``minidock info``, ``version``, ``prune``: the engine as a whole."""

from __future__ import annotations

from typing import Any

from minidock import human
from minidock.cli.context import Context, confirmed
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, criterion, repeated
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
        ("Volume Drivers", " ".join(found["Plugins"]["Volume"])),
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
    proxies = (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy"))
    lines += [(name, found[key]) for name, key in proxies if found[key]]
    for key, value in lines:
        print(f"{key}: {value}")
    return 0


_CONTAINERS = "WARNING! This will remove all stopped containers."
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


def prune(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove stopped containers, images that nobody needs, what builds remember (and volumes)."""
    images = (
        "all images without at least one container associated to them"
        if values["all"]
        else "all dangling images"
    )
    volumes = ["all anonymous volumes not used by at least one container"] if values["volumes"] else []
    builds = [] if values["filter"] else ["all build cache"]
    everything = ["all stopped containers", *volumes, images, *builds]
    question = "WARNING! This will remove:\n" + "".join(f"  - {each}\n" for each in everything)
    if not confirmed(question, values["force"]):
        return 0
    filters = parse_filters(values["filter"])
    freed = _prune_containers(context, filters)
    if values["volumes"]:
        from minidock.cli.volumes import prune_volumes

        if "until" in filters:
            raise UsageError('The "until" filter is not supported with "--volumes"', exit_code=1)
        freed += prune_volumes(context, filters)
    freed += _prune_images(context, filters, values["all"])
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
    "prune": Command(
        "prune [OPTIONS]",
        "Remove unused data",
        prune,
        (_ALL, _FILTER, _FORCE, boolean("volumes", help="Prune anonymous volumes")),
        most=0,
    ),
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
