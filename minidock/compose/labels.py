"""The labels that tell what belongs to which project: the only state that compose keeps.

They are those of Docker's own compose, so that either tool sees the projects of the other.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import minidock
from minidock.compose import reading
from minidock.compose.reading import Map

if TYPE_CHECKING:
    from minidock.compose.model import Project

PREFIX = "com.docker.compose."
PROJECT, SERVICE = PREFIX + "project", PREFIX + "service"
NUMBER, HASH, ONEOFF = PREFIX + "container-number", PREFIX + "config-hash", PREFIX + "oneoff"
IMAGE, DEPENDS_ON, VERSION = PREFIX + "image", PREFIX + "depends_on", PREFIX + "version"
FILES, DIRECTORY = PREFIX + "project.config_files", PREFIX + "project.working_dir"
NETWORK, VOLUME, SLUG = PREFIX + "network", PREFIX + "volume", PREFIX + "slug"

# What does not change a container: how many there are, when it starts, how its image is made.
_ELSEWHERE = ("build", "pull_policy", "scale", "depends_on", "profiles", "develop", "attach")


def of_container(
    project: Project, name: str, number: int, image_id: str, *, oneoff: bool = False
) -> dict[str, str]:
    """The labels of one container of a service."""
    service = project.services[name]
    needed = service.get("depends_on") or {}
    return {
        PROJECT: project.name,
        SERVICE: name,
        NUMBER: str(number),
        HASH: config_hash(project, name),
        ONEOFF: str(oneoff),
        IMAGE: image_id,
        DEPENDS_ON: ",".join(
            f"{other}:{each['condition']}:{str(bool(each.get('restart'))).lower()}"
            for other, each in needed.items()
        ),
        FILES: ",".join(project.files),
        DIRECTORY: project.directory,
        VERSION: minidock.__version__,
    }


def of_resource(project: Project, kind: str, key: str, entry: Map) -> dict[str, str]:
    """The labels of a network or volume (*kind* is one of NETWORK and VOLUME), which *entry* describes."""
    return {PROJECT: project.name, kind: key, HASH: _digest(entry), VERSION: minidock.__version__}


def differs(known: dict[str, str], entry: Map) -> bool:
    """Whether a network or volume with the labels *known* was made from another *entry*."""
    return known.get(HASH, "") not in ("", _digest(entry))


def config_hash(project: Project, name: str) -> str:
    """A digest of all that decides how the service's containers are made: another one, another container."""
    service = {key: value for key, value in project.services[name].items() if key not in _ELSEWHERE}
    if "deploy" in service:
        service["deploy"] = {key: value for key, value in service["deploy"].items() if key != "replicas"}
    around: dict[str, Any] = {"service": service}
    around["networks"] = {key: project.networks[key] for key in service.get("networks") or {}}
    around["volumes"] = {
        mount["source"]: project.volumes[mount["source"]]
        for mount in service.get("volumes") or []
        if mount["type"] == "volume" and mount.get("source")
    }
    for section in ("secrets", "configs"):
        entries = getattr(project, section)
        around[section] = {
            grant["source"]: {**entries[grant["source"]], "value": _value(project, entries[grant["source"]])}
            for grant in service.get(section) or []
        }
    return _digest(around)


def _digest(value: Any) -> str:
    text = json.dumps(reading.plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _value(project: Project, entry: dict[str, Any]) -> str:
    """What a variable gives a secret: its digest only counts."""
    name = entry.get("environment")
    value = project.variables.get(name, "") if name else ""
    return hashlib.sha256(value.encode()).hexdigest()
