"""From a service to what `create` is asked: the keyword arguments of ``engine.create`` for one container."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minidock import notation
from minidock.compose.model import Project
from minidock.compose.reading import Map

Options = dict[str, Any]
ContainerOf = Callable[[str], str]  # a service → the id of its first container

# Keys of a service that `create` knows, under its name for them.
_SAME = {
    **{
        key: key
        for key in ("cap_add", "cap_drop", "cpu_shares", "cpu_quota", "cpu_period", "dns", "dns_search")
    },
    **{key: key for key in ("domainname", "expose", "group_add", "hostname", "init", "mac_address")},
    **{key: key for key in ("oom_kill_disable", "oom_score_adj", "pids_limit", "privileged", "read_only")},
    **{key: key for key in ("security_opt", "shm_size", "stop_signal", "tmpfs", "tty", "user", "uts")},
    "cgroup": "cgroupns",
    "cpus": "cpus",
    "cpuset": "cpuset_cpus",
    "device_cgroup_rules": "device_cgroup_rule",
    "dns_opt": "dns_option",
    "entrypoint": "entrypoint",
    "extra_hosts": "add_host",
    "mem_limit": "memory",
    "mem_reservation": "memory_reservation",
    "mem_swappiness": "memory_swappiness",
    "memswap_limit": "memory_swap",
    "stdin_open": "interactive",
    "sysctls": "sysctl",
    "userns_mode": "userns",
    "working_dir": "workdir",
}


def container_name(project: Project, name: str, number: int) -> str:
    """``project-service-1``, or what the file says."""
    own = project.services[name].get("container_name")
    return str(own) if own else f"{project.name}-{name}-{number}"


def of(project: Project, name: str, container_of: ContainerOf, *, own_name: str = "") -> Options:
    """The options for a container of the service *name*; the caller adds its name and labels."""
    service = project.services[name]
    options: Options = {
        ours: _plain(service[key]) for key, ours in _SAME.items() if service.get(key) not in (None, [], "")
    }
    if "tmpfs" in options:
        options["tmpfs"] = list(options["tmpfs"])
    options["env"] = [
        f"{key}={value}" for key, value in (service.get("environment") or {}).items() if value is not None
    ]
    options["mount"] = [_mount(project, each) for each in service.get("volumes") or []]
    options["device"] = [
        f"{each['source']}:{each['target']}:{each['permissions']}" for each in service.get("devices") or []
    ]
    options["ulimit"] = {
        key: (value, value) if isinstance(value, int) else (int(value["soft"]), int(value["hard"]))
        for key, value in (service.get("ulimits") or {}).items()
    }
    options["publish"] = [_port(each) for each in service.get("ports") or []]
    options["volumes_from"] = [
        _volumes_from(each, container_of) for each in service.get("volumes_from") or []
    ]
    options["link"] = [_link(each, container_of) for each in service.get("links") or []]
    options["link"] += list(service.get("external_links") or [])
    for key, ours in (("pid", "pid"), ("ipc", "ipc")):
        if service.get(key):
            options[ours] = _namespace(str(service[key]), container_of)
    _networks(project, name, service, options, container_of, own_name)
    _health(service, options)
    _limits(service, options)
    _life(service, options)
    logging = service.get("logging") or {}
    if logging.get("driver"):
        options["log_driver"] = str(logging["driver"])
    if logging.get("options"):
        options["log_opt"] = dict(logging["options"])
    return {key: value for key, value in options.items() if value not in ([], {}, None)}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, dict):
        return {str(key): "" if item is None else str(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value


def _mount(project: Project, mount: Map) -> dict[str, Any]:
    """A mount in the form of mount_notation.py."""
    kind = mount["type"]
    fields: dict[str, Any] = {
        "kind": kind,
        "source": str(mount.get("source") or ""),
        "target": str(mount["target"]),
        "read_only": bool(mount.get("read_only")),
    }
    bind, volume, tmpfs = (mount.get(each) or {} for each in ("bind", "volume", "tmpfs"))
    if kind == "bind":
        fields["create_source"] = bind.get("create_host_path", True) is not False
        fields["propagation"] = str(bind.get("propagation") or "rprivate")
        fields["recursive"] = str(bind.get("recursive") or "")
    elif kind == "volume":
        if fields["source"]:
            fields["source"] = str(project.volumes[fields["source"]]["name"])
        fields["no_copy"] = bool(volume.get("nocopy"))
        fields["subpath"] = str(volume.get("subpath") or "")
        fields["labels"] = {key: value or "" for key, value in (volume.get("labels") or {}).items()}
    else:
        wanted = []
        if tmpfs.get("size") is not None:
            wanted.append(f"size={notation.parsed(tmpfs['size'], notation.size)}")
        if tmpfs.get("mode") is not None:
            mode = tmpfs["mode"]
            wanted.append(f"mode={mode:o}" if isinstance(mode, int) else f"mode={mode}")
        fields["options"] = wanted
    return fields


def _port(port: Map) -> str:
    host = str(port.get("host_ip") or "")
    host = f"[{host}]" if ":" in host else host
    inside = f"{port['target']}/{port['protocol']}"
    published = str(port.get("published") or "")
    return f"{host}:{published}:{inside}" if host else f"{published}:{inside}" if published else inside


def _volumes_from(text: str, container_of: ContainerOf) -> str:
    if text.startswith("container:"):
        return text.partition(":")[2]
    name, colon, mode = text.partition(":")
    return f"{container_of(name)}{colon}{mode}"


def _link(text: str, container_of: ContainerOf) -> str:
    name, _, alias = text.partition(":")
    return f"{container_of(name)}:{alias or name}"


def _namespace(text: str, container_of: ContainerOf) -> str:
    kind, _, name = text.partition(":")
    return f"container:{container_of(name)}" if kind == "service" else text


def _networks(
    project: Project, name: str, service: Map, options: Options, container_of: ContainerOf, own_name: str
) -> None:
    mode = str(service.get("network_mode") or "")
    if mode:
        options["network"] = [_namespace(mode, container_of)]
        return
    entries = [(key, entry or Map()) for key, entry in (service.get("networks") or {}).items()]
    entries.sort(key=lambda pair: (-(pair[1].get("priority") or 0), pair[0]))
    options["network"] = [
        _attachment(str(project.networks[key]["name"]), entry, own_name or name) for key, entry in entries
    ] or ["none"]


_OF_ATTACHMENT = {"ipv4_address": "ip", "ipv6_address": "ip6", "mac_address": "mac-address"}


def _attachment(network: str, entry: Map, alias: str) -> dict[str, list[str]]:
    """A --network in the form of network_options.py."""
    aliases = dict.fromkeys([alias, *map(str, entry.get("aliases") or [])])
    fields = {"name": [network], "alias": list(aliases)}
    fields |= {ours: [str(entry[key])] for key, ours in _OF_ATTACHMENT.items() if entry.get(key)}
    fields["link-local-ip"] = [str(each) for each in entry.get("link_local_ips") or []]
    fields["driver-opt"] = [f"{key}={value}" for key, value in (entry.get("driver_opts") or {}).items()]
    return fields


def _health(service: Map, options: Options) -> None:
    check = service.get("healthcheck")
    if not check:
        return
    test = check.get("test")
    if check.get("disable") or (test and test[0] == "NONE"):
        options["no_healthcheck"] = True
        return
    if test:
        options["health_cmd"] = str(test[1]) if test[0] == "CMD-SHELL" else [str(word) for word in test[1:]]
    for key in ("interval", "timeout", "start_period", "start_interval"):
        if check.get(key):
            options[f"health_{key}"] = str(check[key])
    if check.get("retries") is not None:
        options["health_retries"] = int(check["retries"])


def _limits(service: Map, options: Options) -> None:
    """deploy.resources say the same as the older keys; where both do, they count."""
    resources = (service.get("deploy") or {}).get("resources") or {}
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    for source, key, ours in (
        (limits, "cpus", "cpus"),
        (limits, "memory", "memory"),
        (limits, "pids", "pids_limit"),
        (reservations, "memory", "memory_reservation"),
    ):
        if source.get(key) is not None:
            options[ours] = source[key]
    if isinstance(options.get("cpus"), int | float):
        options["cpus"] = str(options["cpus"])
    for key in ("memory", "memory_reservation", "memory_swap", "shm_size", "cpus"):
        if isinstance(options.get(key), str):
            options[key] = str(options[key])
    for key in ("cpu_shares", "cpu_quota", "cpu_period", "pids_limit", "oom_score_adj", "memory_swappiness"):
        if options.get(key) is not None:
            options[key] = int(options[key])


_POLICIES = {
    "none": "no",
    "no": "no",
    "on-failure": "on-failure",
    "any": "always",
    "unless-stopped": "unless-stopped",
}


def _life(service: Map, options: Options) -> None:
    policy = (service.get("deploy") or {}).get("restart_policy") or {}
    if service.get("restart"):
        options["restart"] = str(service["restart"])
    elif policy.get("condition"):
        word = _POLICIES.get(str(policy["condition"]), str(policy["condition"]))
        most = policy.get("max_attempts")
        options["restart"] = f"{word}:{most}" if word == "on-failure" and most else word
    if service.get("stop_grace_period"):
        options["stop_timeout"] = math.ceil(notation.duration(str(service["stop_grace_period"])))


def command(service: Map) -> list[str] | None:
    """The command, or None for the image's. ``command: []`` is the image's too, as in Docker."""
    words = service.get("command")
    return [str(word) for word in words] if words else None
