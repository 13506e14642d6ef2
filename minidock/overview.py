"""The engine as a whole: version, `info`, `system df`. Names as in Docker's Engine API (SystemInfo)."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minidock
from minidock import files
from minidock.build import cache
from minidock.config import Config
from minidock.containers.state import Container
from minidock.images import proxies
from minidock.images.image import Image

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """One line of `system df`: sizes in bytes, *reclaimable* is what pruning would free."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


def version() -> Json:
    host = os.uname()
    return {
        "Version": minidock.__version__,
        "Python": platform.python_version(),
        "Os": host.sysname.lower(),
        "Arch": host.machine,
        "KernelVersion": host.release,
    }


def info(config: Config, images: list[Image], containers: list[Container], layers: str) -> Json:
    from minidock.kernel import cgroups

    host = os.uname()
    states = [container.status() for container in containers]
    return {
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
        "Images": len(images),
        "Driver": "overlay2",
        "Plugins": {"Volume": ["local"]},
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroups.detect().removeprefix("v"),
        "SecurityOptions": [
            "name=seccomp,profile=builtin",
            *(["name=userns"] if config.userns_remap else []),
        ],
        "KernelVersion": host.release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "Name": host.nodename,
        "DockerRootDir": str(config.root),
        "ServerVersion": minidock.__version__,
        "RegistryConfig": {
            "Mirrors": list(config.registry_mirrors),
            "InsecureRegistries": list(config.insecure_registries),
        },
        "HttpProxy": proxies.shown("http-proxy"),
        "HttpsProxy": proxies.shown("https-proxy"),
        "NoProxy": proxies.shown("no-proxy"),
        "Configuration": str(config.source),
        "Layers": layers,
    }


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def disk_usage(
    root: Path, images: list[Image], containers: list[Container], volumes: list[Json]
) -> list[Usage]:
    """What each kind of thing takes. Layers shared by several images count once.

    The build cache takes the layers that no image has, and what ``RUN --mount=type=cache`` kept.
    """
    used = {container.spec.image_id for container in containers}
    sizes: dict[str, int] = {}
    needed: set[str] = set()
    for image in images:
        for layer in image.layers:
            if layer.diff_id not in sizes:
                sizes[layer.diff_id] = image.layer_size(layer)
        if image.id in used:
            needed.update(image.diff_ids)
    written = {each.id: files.disk_use(each.directory / "upper") for each in containers}
    running = [each for each in containers if each.running()]
    cached = cache.layers(root)
    only_cached = {diff_id: size for diff_id, size in cached.items() if diff_id not in sizes}
    kept = sum(only_cached.values()) + cache.kept_by_mounts(root)
    stored = {each["Name"]: files.disk_use(Path(each["Mountpoint"])) for each in volumes}
    in_use = [each["Name"] for each in volumes if each["Containers"]]
    return [
        Usage(
            "Images",
            len(images),
            sum(image.id in used for image in images),
            sum(sizes.values()),
            sum(size for diff_id, size in sizes.items() if diff_id not in needed),
        ),
        Usage(
            "Containers",
            len(containers),
            len(running),
            sum(written.values()),
            sum(written.values()) - sum(written[each.id] for each in running),
        ),
        Usage(
            "Local Volumes",
            len(volumes),
            len(in_use),
            sum(stored.values()),
            sum(stored.values()) - sum(stored[name] for name in in_use),
        ),
        Usage("Build Cache", cache.count(root), 0, kept, kept),
    ]


def usage_in_detail(
    images: list[Image], image_rows: list[Json], rows: list[Json], volumes: list[Json]
) -> Json:
    """`system df -v`, in the shape of Docker's GET /system/df: what every single thing takes."""
    holders: dict[str, int] = {}
    for image in images:
        for diff_id in set(image.diff_ids):
            holders[diff_id] = holders.get(diff_id, 0) + 1
    shared = {
        image.id: sum(image.layer_size(layer) for layer in image.layers if holders[layer.diff_id] > 1)
        for image in images
    }
    users = [row["ImageID"] for row in rows]
    return {
        "Images": [
            {**row, "SharedSize": shared.get(row["Id"], 0), "Containers": users.count(row["Id"])}
            for row in image_rows
        ],
        "Containers": rows,
        "Volumes": [
            {
                **each,
                "UsageData": {
                    "Size": files.disk_use(Path(each["Mountpoint"])),
                    "RefCount": len(each["Containers"]),
                },
            }
            for each in volumes
        ],
    }
