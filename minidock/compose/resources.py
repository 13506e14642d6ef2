"""The networks and volumes of a project: made when missing, removed by `down`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from minidock.compose import creating, labels, members, order
from minidock.compose.members import Member
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError, Map
from minidock.errors import Conflict, MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.engine import Engine


def make(
    engine: Engine, project: Project, names: Iterable[str], report: Report, *, anew: Collection[str] = ()
) -> None:
    """Make the networks and volumes that the services *names* use. Raises ComposeError.

    A network that the file describes otherwise now is made anew; the containers of the services *anew*
    will be, too, and started. A volume is not: it has data.
    """
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
        _settle_network(engine, project, key, anew, report)
    for key in sorted(volumes):
        _make_volume(engine, project, key, report)


def _settle_network(
    engine: Engine, project: Project, key: str, anew: Collection[str], report: Report
) -> None:
    network = project.networks[key]
    name = str(network["name"])
    existing = [each for each in engine.networks({"name": [name]}) if each["Name"] == name]
    if not existing and network.get("external"):
        raise ComposeError(
            f"networks.{key}: the network {name} is external, and does not exist",
            network.places.get("external"),
            hint=f"minidock network create {name}",
        )
    if not existing:
        report.step("Network", name, "Creating")
        _make_network(engine, project, key)
        report.step("Network", name, "Created")
        return
    known = existing[0].get("Labels") or {}
    if network.get("external"):
        return
    if known.get(labels.PROJECT) not in (None, project.name):
        raise ComposeError(
            f"networks.{key}: the network {name} belongs to the project {known[labels.PROJECT]}",
            network.places.get("name"),
            hint="Say external: true if it is meant.",
        )
    if labels.differs(known, network):
        report.step("Network", name, "Recreate")
        _renew_network(engine, project, key, anew, report)
        report.step("Network", name, "Recreated")


def _renew_network(engine: Engine, project: Project, key: str, anew: Collection[str], report: Report) -> None:
    """Stop whoever is in the network, make it as the file says, and start again whoever is not in *anew*."""
    name = str(project.networks[key]["name"])
    inside = engine.network_inspect(name)["Containers"]
    found = [each for each in members.find(engine, project.name, oneoff=None) if each.id in inside]
    guests = [inside[each]["Name"] for each in set(inside) - {each.id for each in found}]
    if guests:
        raise ComposeError(
            f"networks.{key}: the network {name} has changed, and others are in it: {', '.join(guests)}",
            hint=f"minidock network disconnect {name} {guests[0]}",
        )
    order.at_once([_stopper(engine, each) for each in found])
    engine.network_rm(name)
    _make_network(engine, project, key)
    for each in found:
        if each.service in anew or each.oneoff:
            continue
        try:
            engine.start(each.id)
        except MinidockError as error:  # an address of the old network
            report.warn(f"{each.name} does not run any more: {error.message}")


def _stopper(engine: Engine, member: Member) -> Callable[[], None]:
    return lambda: creating.stop(engine, member, None)


def _make_network(engine: Engine, project: Project, key: str) -> None:
    network = project.networks[key]
    pools = (network.get("ipam") or {}).get("config") or []
    options = {each: str(value) for each, value in (network.get("driver_opts") or {}).items()}
    engine.network_create(
        str(network["name"]),
        driver=str(network.get("driver") or "bridge"),
        subnet=[str(pool["subnet"]) for pool in pools if pool.get("subnet")],
        gateway=[str(pool["gateway"]) for pool in pools if pool.get("gateway")],
        ip_range=[str(pool["ip_range"]) for pool in pools if pool.get("ip_range")],
        aux_address=[
            f"{name}={address}"
            for pool in pools
            for name, address in (pool.get("aux_addresses") or {}).items()
        ],
        internal=bool(network.get("internal")),
        ipv6=bool(network.get("enable_ipv6")),
        attachable=bool(network.get("attachable")),
        options=options,
        labels=_labels(project, labels.NETWORK, key, network),
    )


def _make_volume(engine: Engine, project: Project, key: str, report: Report) -> None:
    volume = project.volumes[key]
    name = str(volume["name"])
    try:
        existing: dict[str, Any] | None = engine.inspect_volume(name)
    except NotFound:
        existing = None
    if existing is not None:
        known = existing.get("Labels") or {}
        if not volume.get("external") and known.get(labels.PROJECT) != project.name:
            report.warn(
                f"the volume {name} was not made by this project (external: true says that it is meant)"
            )
        elif not volume.get("external") and labels.differs(known, volume):
            report.warn(
                f"the volume {name} was made otherwise than the file says now, and keeps its data "
                "(down -v removes it)"
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
    return {**own, **labels.of_resource(project, kind, key, entry)}


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
