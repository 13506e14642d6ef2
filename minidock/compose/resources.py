"""The networks and volumes of a project: made when missing, removed by `down`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from minidock.compose import labels
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError, Map
from minidock.errors import Conflict, NotFound

if TYPE_CHECKING:
    from minidock.engine import Engine


def make(engine: Engine, project: Project, names: Iterable[str], report: Report) -> None:
    """Make the networks and volumes that the services *names* use. Raises ComposeError."""
    networks, volumes = set[str](), set[str]()
    for name in names:
        service = project.services[name]
        networks.update(service.get("networks") or {})
        volumes.update(
            mount["source"]
            for mount in service.get("volumes") or []
            if mount["type"] == "volume" and mount.get("source")
        )
    for key in sorted(networks):
        _make_network(engine, project, key, report)
    for key in sorted(volumes):
        _make_volume(engine, project, key, report)


def _make_network(engine: Engine, project: Project, key: str, report: Report) -> None:
    network = project.networks[key]
    name = str(network["name"])
    existing = [each for each in engine.networks({"name": [name]}) if each["Name"] == name]
    if existing:
        owner = (existing[0].get("Labels") or {}).get(labels.PROJECT)
        if not network.get("external") and owner not in (None, project.name):
            raise ComposeError(
                f"networks.{key}: the network {name} belongs to the project {owner}",
                network.places.get("name"),
                hint="Say external: true if it is meant.",
            )
        return
    if network.get("external"):
        raise ComposeError(
            f"networks.{key}: the network {name} is external, and does not exist",
            network.places.get("external"),
            hint=f"minidock network create {name}",
        )
    report.step("Network", name, "Creating")
    pools = (network.get("ipam") or {}).get("config") or []
    options = {each: str(value) for each, value in (network.get("driver_opts") or {}).items()}
    engine.network_create(
        name,
        driver=str(network.get("driver") or "bridge"),
        subnet=[str(pool["subnet"]) for pool in pools if pool.get("subnet")],
        gateway=[str(pool["gateway"]) for pool in pools if pool.get("gateway")],
        ip_range=[str(pool["ip_range"]) for pool in pools if pool.get("ip_range")],
        internal=bool(network.get("internal")),
        ipv6=bool(network.get("enable_ipv6")),
        attachable=bool(network.get("attachable")),
        options=options,
        labels=_labels(project, labels.NETWORK, key, network),
    )
    report.step("Network", name, "Created")


def _make_volume(engine: Engine, project: Project, key: str, report: Report) -> None:
    volume = project.volumes[key]
    name = str(volume["name"])
    try:
        existing: dict[str, Any] | None = engine.inspect_volume(name)
    except NotFound:
        existing = None
    if existing is not None:
        owner = (existing.get("Labels") or {}).get(labels.PROJECT)
        if not volume.get("external") and owner != project.name:
            report.warn(
                f"the volume {name} was not made by this project (external: true says that it is meant)"
            )
        return
    if volume.get("external"):
        raise ComposeError(
            f"volumes.{key}: the volume {name} is external, and does not exist",
            volume.places.get("external"),
            hint=f"minidock volume create {name}",
        )
    report.step("Volume", name, "Creating")
    engine.create_volume(
        name,
        driver=str(volume.get("driver") or "local"),
        options={each: str(value) for each, value in (volume.get("driver_opts") or {}).items()},
        labels=_labels(project, labels.VOLUME, key, volume),
    )
    report.step("Volume", name, "Created")


def _labels(project: Project, kind: str, key: str, entry: Map) -> dict[str, str]:
    own = {each: value or "" for each, value in (entry.get("labels") or {}).items()}
    return {**own, **labels.of_resource(project, kind, key)}


def remove_networks(engine: Engine, name: str, report: Report) -> None:
    """Remove the networks of the project *name*; one that others use stays."""
    for network in engine.networks({"label": [f"{labels.PROJECT}={name}"]}):
        report.step("Network", network["Name"], "Removing")
        try:
            engine.network_rm(network["Name"])
        except Conflict:
            report.step("Network", network["Name"], "Resource is still in use")
        except NotFound:
            pass
        else:
            report.step("Network", network["Name"], "Removed")


def remove_volumes(engine: Engine, name: str, report: Report) -> None:
    """Remove the named volumes of the project *name*; one that others use stays."""
    for volume in engine.volumes({"label": [f"{labels.PROJECT}={name}"]}):
        report.step("Volume", volume["Name"], "Removing")
        try:
            engine.remove_volume(volume["Name"], force=True)
        except Conflict:
            report.step("Volume", volume["Name"], "Resource is still in use")
        else:
            report.step("Volume", volume["Name"], "Removed")
