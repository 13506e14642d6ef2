"""From the API's JSON (Config, HostConfig, NetworkingConfig) to the options of ``engine.create``.

What Docker ignores is ignored; what minidock does not have is refused, never silently left out.
Source: Docker Engine API v1.44, POST /containers/create.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidock.errors import InvalidInput
from minidock.server.plain import flag, number, pairs, table, tables, text, words

Json = dict[str, Any]
Options = dict[str, Any]

_BY_DEFAULT = {"": "bridge", "default": "bridge"}
# Of HostConfig and Resources: what no container of minidock can have. These values change nothing.
_NEVER = (
    *("BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps"),
    *("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CgroupParent", "CpuRealtimePeriod"),
    *("CpuRealtimeRuntime", "DeviceRequests", "IOMaximumBandwidth", "IOMaximumIOps"),
    *("KernelMemory", "KernelMemoryTCP", "CpuCount", "CpuPercent", "StorageOpt", "Cgroup"),
)


def options(body: Json, name: str = "") -> tuple[str, list[str] | None, Options]:
    """The image, the command (None: the image's), and the options. Raises InvalidInput."""
    host, networking = table(body, "HostConfig"), table(body, "NetworkingConfig")
    image = text(body, "Image")
    if not image:
        raise InvalidInput("config cannot be empty in order to create a container: no Image")
    found: Options = {"name": name}
    for part in (_config(body), _health(table(body, "Healthcheck")), _host(host), _limits(host)):
        found.update(part)
    found["runtime"] = text(host, "Runtime") or text(body, "Runtime")  # there the SDK for Python has it
    found.update(_security(host))
    found.update(_mounts(body, host))
    found.update(_network(body, host, table(networking, "EndpointsConfig")))
    return (
        image,
        words(body, "Cmd"),
        {key: value for key, value in found.items() if value or (value == 0 and value is not False)},
    )


def limits(body: Json) -> Options:
    """The options of an update: POST /containers/{id}/update."""
    found = _limits(body)
    policy = _restart(table(body, "RestartPolicy"))
    if policy:
        found["restart"] = policy
    return {key: value for key, value in found.items() if value not in (None, "", [], {}, False)}


# --- the parts -----------------------------------------------------------------------------------


def _config(body: Json) -> Options:
    entrypoint = words(body, "Entrypoint")
    return {
        "hostname": text(body, "Hostname"),
        "domainname": text(body, "Domainname"),
        "user": text(body, "User"),
        "tty": flag(body, "Tty"),
        "interactive": flag(body, "OpenStdin"),
        "stdin_once": flag(body, "StdinOnce"),
        "env": words(body, "Env"),
        "entrypoint": "" if entrypoint in ([], [""]) and body.get("Cmd") else entrypoint,
        "workdir": text(body, "WorkingDir"),
        "label": pairs(body, "Labels"),
        "stop_signal": text(body, "StopSignal"),
        "stop_timeout": number(body, "StopTimeout"),
        "expose": sorted(table(body, "ExposedPorts")),
    }


def _health(check: Json) -> Options:
    test = words(check, "Test") or []
    if test[:1] == ["NONE"]:
        return {"no_healthcheck": True}
    command: Any = None
    if test[:1] == ["CMD-SHELL"]:
        command = " ".join(test[1:])
    elif test[:1] == ["CMD"]:
        command = test[1:]
    elif test:
        raise InvalidInput(f"Unknown healthcheck type '{test[0]}' (expected 'CMD' or 'CMD-SHELL')")
    found: Options = {"health_cmd": command, "health_retries": number(check, "Retries")}
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        nanoseconds = number(check, key)
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
        if nanoseconds:
            found[f"health{snake}"] = nanoseconds / 1e9
    return found


def _host(host: Json) -> Options:
    for key in _NEVER:
        if host.get(key) not in (None, 0, "", [], {}, False):
            raise InvalidInput(f"minidock does not have {key}")
    log = table(host, "LogConfig")
    return {
        "rm": flag(host, "AutoRemove"),
        "restart": _restart(table(host, "RestartPolicy")),
        "log_driver": text(log, "Type"),
        "log_opt": pairs(log, "Config"),
        "init": flag(host, "Init"),
        "group_add": words(host, "GroupAdd"),
        "sysctl": pairs(host, "Sysctls"),
        "shm_size": number(host, "ShmSize"),
        "oom_score_adj": number(host, "OomScoreAdj"),
        "pid": text(host, "PidMode"),
        "ipc": text(host, "IpcMode"),
        "uts": text(host, "UTSMode"),
        "userns": text(host, "UsernsMode"),
        "cgroupns": text(host, "CgroupnsMode"),
        "isolation": text(host, "Isolation"),
    }


def _restart(policy: Json) -> str:
    name, count = text(policy, "Name"), number(policy, "MaximumRetryCount") or 0
    if count < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    return f"{name}:{count}" if count else name


def _limits(host: Json) -> Options:
    cpus = number(host, "NanoCpus")
    if cpus and (number(host, "CpuPeriod") or number(host, "CpuQuota")):
        raise InvalidInput("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
    return {
        "memory": number(host, "Memory"),
        "memory_swap": number(host, "MemorySwap"),
        "memory_reservation": number(host, "MemoryReservation"),
        "cpus": cpus / 1e9 if cpus else None,
        "cpu_shares": number(host, "CpuShares"),
        "cpu_period": number(host, "CpuPeriod"),
        "cpu_quota": number(host, "CpuQuota"),
        "cpuset_cpus": text(host, "CpusetCpus"),
        "cpuset_mems": text(host, "CpusetMems"),
        "pids_limit": number(host, "PidsLimit"),
        "oom_kill_disable": flag(host, "OomKillDisable"),
        "memory_swappiness": number(host, "MemorySwappiness"),
        "ulimit": [
            f"{text(each, 'Name')}={number(each, 'Soft') or 0}:{number(each, 'Hard') or 0}"
            for each in tables(host, "Ulimits")
        ],
    }


def _security(host: Json) -> Options:
    wanted = words(host, "SecurityOpt") or []
    if host.get("MaskedPaths") == [] and host.get("ReadonlyPaths") == [] and not flag(host, "Privileged"):
        wanted = [*wanted, "systempaths=unconfined"]
    return {
        "privileged": flag(host, "Privileged"),
        "cap_add": words(host, "CapAdd"),
        "cap_drop": words(host, "CapDrop"),
        "read_only": flag(host, "ReadonlyRootfs"),
        "security_opt": wanted,
        "device": [_device(each) for each in tables(host, "Devices")],
        "device_cgroup_rule": words(host, "DeviceCgroupRules"),
    }


def _device(each: Json) -> str:
    outside = text(each, "PathOnHost")
    inside = text(each, "PathInContainer") or outside
    return f"{outside}:{inside}:{text(each, 'CgroupPermissions') or 'rwm'}"


def _mounts(body: Json, host: Json) -> Options:
    return {
        "volume": [*(words(host, "Binds") or []), *_anonymous(body, host)],
        "mount": [_mount(each) for each in tables(host, "Mounts")],
        "tmpfs": [f"{path}:{text}" if text else path for path, text in pairs(host, "Tmpfs").items()],
        "volumes_from": words(host, "VolumesFrom"),
        "volume_driver": text(host, "VolumeDriver"),
    }


def _anonymous(body: Json, host: Json) -> Iterable[str]:
    """Config.Volumes, where nothing else is mounted. Older clients name a whole ``/host:/inside`` here."""
    taken = {text.split(":")[1] for text in words(host, "Binds") or [] if ":" in text}
    taken |= {text(each, "Target") for each in tables(host, "Mounts")} | set(table(host, "Tmpfs"))
    return [path for path in table(body, "Volumes") if path not in taken]


def _mount(each: Json) -> Json:
    """A Mount as the fields of containers/spec.py."""
    kind = text(each, "Type")
    bind, volume, tmpfs = (table(each, f"{name}Options") for name in ("Bind", "Volume", "Tmpfs"))
    fields: Json = {
        "kind": kind,
        "source": text(each, "Source"),
        "target": text(each, "Target"),
        "read_only": flag(each, "ReadOnly"),
    }
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidInput(f"invalid mount config: mount type {kind!r} unknown")
    if not fields["target"]:
        raise InvalidInput(f'invalid mount config for type "{kind}": field Target must not be empty')
    for mine, given in (("bind", bind), ("volume", volume), ("tmpfs", tmpfs)):
        if given and mine != kind:
            raise InvalidInput(
                f'invalid mount config for type "{kind}": '
                f"field {mine.capitalize()}Options must not be specified"
            )
    if kind == "bind":
        fields["propagation"] = text(bind, "Propagation") or "rprivate"
        if flag(bind, "CreateMountpoint"):
            fields["create_source"] = True
        if flag(bind, "NonRecursive"):
            fields["recursive"] = "disabled"
    if kind == "volume" and volume:
        driver = table(volume, "DriverConfig")
        fields |= {"no_copy": flag(volume, "NoCopy"), "labels": pairs(volume, "Labels")}
        fields |= {"driver": text(driver, "Name"), "driver_options": pairs(driver, "Options")}
        if text(volume, "Subpath"):
            fields["subpath"] = text(volume, "Subpath")
    if kind == "tmpfs":
        size, mode = number(tmpfs, "SizeBytes"), number(tmpfs, "Mode")
        fields["options"] = [*([f"size={size}"] if size else []), *([f"mode={mode:o}"] if mode else [])]
    return fields


# --- networks ------------------------------------------------------------------------------------


def _network(body: Json, host: Json, endpoints: Json) -> Options:
    asked = text(host, "NetworkMode")
    mode = "none" if flag(body, "NetworkDisabled") else _BY_DEFAULT.get(asked, asked)
    endpoints = {_BY_DEFAULT.get(name, name): table(endpoints, name) for name in endpoints}
    first = endpoints.get(mode, {})
    found: Options = {
        "network": [_attachment(name, endpoints.get(name, {})) for name in dict.fromkeys([mode, *endpoints])],
        "publish": list(_published(table(host, "PortBindings"))),
        "publish_all": flag(host, "PublishAllPorts"),
        "dns": words(host, "Dns"),
        "dns_option": words(host, "DnsOptions"),
        "dns_search": words(host, "DnsSearch"),
        "add_host": words(host, "ExtraHosts"),
        "link": [*(words(host, "Links") or []), *(words(first, "Links") or [])],
        "mac_address": text(body, "MacAddress"),
    }
    return found


def _attachment(name: str, settings: Json) -> str | dict[str, list[str]]:
    """A --network, with what its EndpointSettings say."""
    addresses = table(settings, "IPAMConfig")
    fields = {
        "alias": words(settings, "Aliases"),
        "ip": words(addresses, "IPv4Address"),
        "ip6": words(addresses, "IPv6Address"),
        "link-local-ip": words(addresses, "LinkLocalIPs"),
        "mac-address": words(settings, "MacAddress"),
        "driver-opt": [f"{key}={value}" for key, value in pairs(settings, "DriverOpts").items()],
    }
    given = {key: values for key, values in fields.items() if values and values != [""]}
    return {"name": [name], **given} if given else name


def _published(bindings: Json) -> Iterable[str]:
    for port, places in bindings.items():
        for place in places or [{}]:
            if not isinstance(place, dict):
                raise InvalidInput(f"invalid JSON: PortBindings: {port} must be a list of objects")
            address, outside = text(place, "HostIp"), text(place, "HostPort")
            address = f"[{address}]" if ":" in address else address
            yield f"{address}:{outside}:{port}" if address else f"{outside}:{port}" if outside else port
