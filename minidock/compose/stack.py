"""The model in the words of `docker stack deploy`, whose format stopped at version 3 of the older ones.

What a swarm says otherwise is said that way; what it does not know is left out, and named.
"""

from __future__ import annotations

from typing import Any

from minidock.compose.interpolation import Warn

# Keys of one machine → where deploy.resources has the same.
_RESOURCES = {
    "cpus": ("limits", "cpus"),
    "mem_limit": ("limits", "memory"),
    "pids_limit": ("limits", "pids"),
    "mem_reservation": ("reservations", "memory"),
}
_UNKNOWN = (
    *("annotations", "attach", "cpu_period", "cpu_quota", "cpu_shares", "cpuset", "develop", "group_add"),
    *("memswap_limit", "oom_kill_disable", "oom_score_adj", "platform", "profiles", "pull_policy"),
    *("storage_opt", "uts", "volumes_from", "runtime", "dns_opt", "device_cgroup_rules", "label_file"),
)


def converted(model: dict[str, Any], warn: Warn) -> dict[str, Any]:
    """*model* (of rendering.py) as a stack file; changes it."""
    model.pop("name", None)  # `docker stack deploy` is told it
    for name, service in model["services"].items():
        path = f"services.{name}"
        if "depends_on" in service:
            service["depends_on"] = list(service["depends_on"])  # a swarm waits for nobody
        deploy = service.get("deploy") or {}
        for key, (part, ours) in _RESOURCES.items():
            if key in service:
                value = service.pop(key)
                limits = deploy.setdefault("resources", {}).setdefault(part, {})
                limits.setdefault(ours, value if ours == "pids" else str(value))
        if "scale" in service:
            deploy["replicas"] = service.pop("scale")
        if deploy:
            service["deploy"] = deploy
        for key in _UNKNOWN:
            if service.pop(key, None) is not None:
                warn(f"{path}.{key} is left out: docker stack does not know it")
        _ports(path, service, warn)
        for device in service.get("devices") or []:
            if isinstance(device, dict):
                at = service["devices"].index(device)
                service["devices"][at] = ":".join(device[key] for key in ("source", "target", "permissions"))
    return model


def _ports(path: str, service: dict[str, Any], warn: Warn) -> None:
    for port in service.get("ports") or []:
        for key in ("host_ip", "name", "app_protocol"):
            if port.pop(key, None) is not None:
                warn(f"{path}.ports: {key} is left out: docker stack does not know it")
