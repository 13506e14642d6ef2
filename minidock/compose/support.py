"""What the specification has and minidock has not: refused by name, or, where nothing hangs on it, mentioned.

Nothing of a file is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from minidock.compose.interpolation import Warn
from minidock.compose.model import Project
from minidock.compose.reading import ComposeError, Map, Place

_REFUSED = (
    *("blkio_config", "cgroup_parent", "cpu_count", "cpu_percent", "cpu_rt_period", "cpu_rt_runtime"),
    *("credential_spec", "gpus", "isolation", "models", "post_start", "pre_stop", "provider"),
    *("pull_refresh_after", "runtime", "storage_opt", "use_api_socket"),
)
_REFUSED_IN_BUILD = (*("additional_contexts", "cache_to", "entitlements", "isolation", "privileged", "ssh"),)
_CHANGES_NOTHING: tuple[object, ...] = (None, "default", "runc", [])
_REFUSED_IN_ATTACHMENT = ("interface_name", "gw_priority")
_OF_A_SWARM = ("endpoint_mode", "labels", "placement", "rollback_config", "update_config")
_HINTS = {
    "additional_contexts": "Build that image as a service of its own, and name it in FROM.",
    "post_start": "`minidock compose exec` runs a command in a running service.",
    "pre_stop": "Handle the stop signal in the service instead.",
}


def check(project: Project, names: Iterable[str], warn: Warn) -> None:
    """Raise ComposeError for the first thing that would need what minidock has not."""
    for name in names:
        service = project.services[name]
        path = f"services.{name}"
        for key in service:
            if key in _REFUSED and service[key] not in _CHANGES_NOTHING:
                raise refused(f"{path}.{key}", service.places.get(key), _HINTS.get(key))
        _build(path, service.get("build"), warn)
        _deploy(path, service.get("deploy") or Map(), warn)
        for network, attachment in (service.get("networks") or {}).items():
            for key in attachment or {}:
                if key in _REFUSED_IN_ATTACHMENT:
                    raise refused(f"{path}.networks.{network}.{key}", attachment.places.get(key))
        for mount in service.get("volumes") or []:
            if mount["type"] not in ("bind", "volume", "tmpfs"):
                raise refused(
                    f"{path}.volumes: a mount of type {mount['type']}", service.places.get("volumes")
                )
        for key, why in _mentioned(service):
            warn(f"{path}.{key} {why}")
        used = service.get("networks") or {}
        for network in used:
            _network(network, project.networks[network])


def refused(what: str, place: Place | None, hint: str | None = None) -> ComposeError:
    return ComposeError(f"{what} is not supported by minidock", place, hint=hint)


def _mentioned(service: Map) -> Iterator[tuple[str, str]]:
    if service.get("annotations"):
        yield "annotations", "has no effect: no runtime reads it"
    if service.get("develop"):
        yield "develop", "has no effect: it is for `compose watch`, which minidock does not have"
    if any(port.get("mode") == "host" for port in service.get("ports") or []):
        yield "ports", "of mode host are published as all others"


def _build(path: str, build: Any, warn: Warn) -> None:
    if not isinstance(build, Map):
        return
    for key in _REFUSED_IN_BUILD:
        if build.get(key):
            raise refused(f"{path}.build.{key}", build.places.get(key), _HINTS.get(key))
    if len(build.get("platforms") or []) > 1:
        raise refused(f"{path}.build.platforms: more than one platform", build.places.get("platforms"))
    for key in ("provenance", "sbom"):
        if build.get(key):
            warn(f"{path}.build.{key} has no effect: minidock writes no attestations")


def _deploy(path: str, deploy: Map, warn: Warn) -> None:
    if deploy.get("mode", "replicated") != "replicated":
        raise refused(f"{path}.deploy.mode {deploy['mode']!r}", deploy.places.get("mode"), "Use replicated.")
    for key in _OF_A_SWARM:
        if deploy.get(key):
            warn(f"{path}.deploy.{key} has no effect: it is for a swarm")
    policy = deploy.get("restart_policy") or {}
    for key in ("delay", "window"):
        if policy.get(key):
            warn(f"{path}.deploy.restart_policy.{key} has no effect: it is for a swarm")
    reservations = (deploy.get("resources") or Map()).get("reservations") or Map()
    for key in ("devices", "generic_resources"):
        if reservations.get(key):
            raise refused(f"{path}.deploy.resources.reservations.{key}", reservations.places.get(key))
    if reservations.get("cpus"):
        warn(f"{path}.deploy.resources.reservations.cpus has no effect: it is for a swarm")


def _network(key: str, network: Map) -> None:
    path, ipam = f"networks.{key}", network.get("ipam") or Map()
    if network.get("enable_ipv4") is False:
        raise refused(f"{path}: a network without IPv4", network.places.get("enable_ipv4"))
    if ipam.get("driver", "default") != "default":
        raise refused(f"{path}.ipam.driver {ipam['driver']!r}", ipam.places.get("driver"))
    if ipam.get("options"):
        raise refused(f"{path}.ipam.options", ipam.places.get("options"))
