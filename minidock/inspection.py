"""What `inspect` and `ps` tell: containers and images in the shapes of Docker's Engine API.

Source: Docker Engine API v1.44, ContainerInspect, ContainerList (definitions ContainerState, HostConfig,
ContainerConfig, MountPoint, NetworkSettings), ImageInspect.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minidock import files, human, network_inspection, volume_inspection
from minidock.containers import executions, life, protocol, timestamps
from minidock.containers.spec import Limits, Spec
from minidock.containers.state import Container, State
from minidock.images import reference
from minidock.images.image import Image
from minidock.kernel import rootfs
from minidock.limits import CPU_PERIOD

Json = dict[str, Any]


def container_json(container: Container, *, size: bool = False) -> Json:
    """One container as `docker inspect` shows it; with *size* also the bytes it takes."""
    spec, state = container.spec, container.state()
    directory = container.directory
    shown: Json = {
        "Id": spec.id,
        "Created": spec.created,
        "Path": spec.arguments[0],
        "Args": spec.arguments[1:],
        "State": state_json(state, container.status()),
        "Image": spec.image_id,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(directory / "log.json"),
        "Name": f"/{spec.name}",
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": _exec_ids(container),
        "HostConfig": host_config_json(spec),
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(map(str, layer_paths(container))),
                "MergedDir": str(directory / "merged"),
                "UpperDir": str(directory / "upper"),
                "WorkDir": str(directory / "work"),
            },
            "Name": "overlay2",
        },
        "Mounts": volume_inspection.mounts_json(container),
        "Config": config_json(spec),
        "NetworkSettings": network_inspection.settings_json(container),
    }
    if size:
        shown["SizeRw"] = files.disk_use(directory / "upper")
        shown["SizeRootFs"] = shown["SizeRw"] + sum(map(files.disk_use, layer_paths(container)))
    return shown


def _exec_ids(container: Container) -> list[str] | None:
    """What `exec` started and still runs, or is about to. Not `attach`: that starts no new process."""
    found = protocol.ask(container.directory, op="execs") if container.running() else None
    running = found["execs"] if found and "execs" in found else ()
    return [*dict.fromkeys([*running, *(each.id for each in executions.listed(container))])] or None


def state_json(state: State, status: str) -> Json:
    return {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": status == "dead",
        "Pid": state.pid if status in ("running", "paused") else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at or timestamps.NEVER,
        "FinishedAt": state.finished_at or timestamps.NEVER,
        **({"Health": state.health} if state.health else {}),
    }


def config_json(spec: Spec) -> Json:
    """The part of a container that is independent of the host."""
    return {
        "Hostname": spec.hostname or spec.id[:12],
        "Domainname": spec.domain_name,
        "User": spec.user,
        "AttachStdin": spec.stdin_once,
        "AttachStdout": True,
        "AttachStderr": True,
        **({"ExposedPorts": {port: {} for port in spec.exposed_ports}} if spec.exposed_ports else {}),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": spec.environment,
        "Cmd": spec.command or None,
        "Image": spec.image,
        "Volumes": volume_inspection.config_volumes(spec),
        "WorkingDir": "" if spec.working_directory == "/" else spec.working_directory,
        "Entrypoint": spec.entrypoint or None,
        "OnBuild": None,
        "Labels": spec.labels,
        **({"Healthcheck": spec.health_check} if spec.health_check else {}),
        **({"Shell": spec.shell} if spec.shell else {}),
        "StopSignal": spec.stop_signal,
        "StopTimeout": spec.stop_timeout,
    }


def host_config_json(spec: Spec) -> Json:
    """The part of a container that depends on the host: limits, mounts, privileges, namespaces."""
    limits, security, spaces = spec.limits, spec.security, spec.namespaces
    return {
        **volume_inspection.host_config_json(spec),
        "LogConfig": {"Type": spec.log_driver, "Config": spec.log_options},
        **network_inspection.host_config(spec),
        "RestartPolicy": {"Name": spec.restart_policy, "MaximumRetryCount": spec.restart_retries},
        "AutoRemove": spec.auto_remove,
        "CapAdd": _capabilities(security.cap_add),
        "CapDrop": _capabilities(security.cap_drop),
        "CgroupnsMode": spaces.cgroup,
        "GroupAdd": spec.group_add or None,
        "IpcMode": spaces.ipc,
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": "" if spaces.pid == "private" else spaces.pid,
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only_root,
        "SecurityOpt": security.options or None,
        "UTSMode": "" if spaces.uts == "private" else spaces.uts,
        "UsernsMode": "" if spaces.user == "host" else spaces.user,
        "ShmSize": spec.shm_size,
        "Sysctls": spec.sysctls,
        "Runtime": "minidock",
        "Init": spec.init or None,
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory or 0,
        "MemoryReservation": limits.memory_reservation or 0,
        "MemorySwap": limits.memory_swap or 0,
        **_processor_time(limits),
        "CpusetCpus": limits.cpuset_cpus or "",
        "CpusetMems": limits.cpuset_mems or "",
        "Devices": [device_json(text) for text in security.devices],
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids,
        "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in sorted(spec.ulimits.items())
        ],
        **({} if limits.memory_swappiness is None else {"MemorySwappiness": limits.memory_swappiness}),
        "DeviceCgroupRules": security.device_rules or None,
        "MaskedPaths": _paths(spec, security.masked_paths, rootfs.MASKED_PATHS),
        "ReadonlyPaths": _paths(spec, security.readonly_paths, rootfs.READONLY_PATHS),
        **spec.only_shown,
    }


def _processor_time(limits: Limits) -> Json:
    """Processors, or a quota of time in a period, never both: Docker takes only one of them back."""
    quota, period = limits.cpu_quota or 0, limits.cpu_period or 0
    as_processors = quota > 0 and period == CPU_PERIOD
    return {
        "NanoCpus": quota * 10**9 // CPU_PERIOD if as_processors else 0,
        "CpuPeriod": 0 if as_processors else period,
        "CpuQuota": 0 if as_processors else quota,
    }


def _capabilities(names: list[str]) -> list[str] | None:
    """``net_admin`` → ``CAP_NET_ADMIN``, each once, as Docker's client sends them."""
    upper = {name.upper().removeprefix("CAP_") for name in names}
    return sorted(name if name == "ALL" else f"CAP_{name}" for name in upper) or None


def _paths(spec: Spec, chosen: list[str] | None, default: Iterable[str]) -> list[str] | None:
    """What is hidden or protected: a privileged container has only what was asked for."""
    if chosen is None and not spec.security.privileged:
        return list(default)
    return chosen


def device_json(text: str) -> Json:
    host, inside, permissions = text.split(":")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions}


def summary(container: Container, *, size: bool = False) -> Json:
    """One container as a line of `docker ps` knows it."""
    spec, state, status = container.spec, container.state(), container.status()
    shown: Json = {
        "Id": spec.id,
        "Names": [f"/{spec.name}"],
        "Image": spec.image,
        "ImageID": spec.image_id,
        "Command": command_text(spec.arguments),
        "Created": int(seconds(spec.created)),
        "Ports": network_inspection.published(container),
        "Labels": spec.labels,
        "State": status,
        "Status": status_text(state, status),
        "ExitCode": state.exit_code,
        "HostConfig": {"NetworkMode": spec.namespaces.network},
        "NetworkSettings": {"Networks": network_inspection.settings_json(container)["Networks"]},
        "Mounts": volume_inspection.mounts_json(container),
    }
    if size:
        shown["SizeRw"] = files.disk_use(container.directory / "upper")
        shown["SizeRootFs"] = shown["SizeRw"] + sum(map(files.disk_use, layer_paths(container)))
    return shown


def status_text(state: State, status: str) -> str:
    """``Up 2 minutes``, ``Exited (0) 3 seconds ago``: the STATUS of `ps`."""
    if status in (life.RUNNING, life.PAUSED):
        up = human.duration(time.time() - seconds(state.started_at))
        health = state.health.get("Status", "")
        if status == life.PAUSED:
            health = "Paused"
        elif health == "starting":
            health = "health: starting"
        return f"Up {up} ({health})" if health else f"Up {up}"
    if status == life.RESTARTING:
        return f"Restarting ({state.exit_code}) {human.ago(seconds(state.finished_at))}"
    if status == life.EXITED:
        return f"Exited ({state.exit_code}) {human.ago(seconds(state.finished_at))}"
    return {"created": "Created", "dead": "Dead", "removing": "Removal In Progress"}.get(status, status)


def command_text(arguments: list[str]) -> str:
    """The COMMAND of `ps`: words joined, those with a space in quotes."""
    first, *rest = arguments
    return " ".join([first, *(f"'{word}'" if " " in word else word for word in rest)])


def layer_paths(container: Container) -> list[Path]:
    """The read-only trees under a container, top first, as overlayfs wants them."""
    return container.spec.trees(container.root)


# Docker shows every field, also those that the image's config leaves out.
_NO_SETTINGS: Json = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def image_json(image: Image) -> Json:
    """One image as `docker image inspect` shows it."""
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.names],
        "RepoDigests": [familiar(name) for name in image.repo_digests],
        "Comment": image.history[-1].get("comment", "") if image.history else "",
        "Created": image.created,
        "DockerVersion": image.config.get("docker_version", ""),
        "Author": image.config.get("author", ""),
        "Config": {**_NO_SETTINGS, **image.settings},
        "Architecture": image.config.get("architecture", ""),
        **({"Variant": image.config["variant"]} if image.config.get("variant") else {}),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(
                    str(image.trees / diff_id.removeprefix("sha256:")) for diff_id in reversed(image.diff_ids)
                )
                if image.trees
                else ""
            },
            "Name": "overlay2",
        },
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {"LastTagTime": timestamps.NEVER},
    }


def image_summary(image: Image, containers: int = -1) -> Json:
    """One image as a line of `docker images` knows it."""
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.names],
        "RepoDigests": [familiar(name) for name in image.repo_digests],
        "Created": int(seconds(image.created)) if image.created else 0,
        "Size": image.size,
        "SharedSize": -1,
        "Labels": image.settings.get("Labels") or {},
        "Containers": containers,
        "ParentId": "",
    }


def history(image: Image) -> list[Json]:
    """How the image was made, newest step first: `docker history`. Only some steps made a layer."""
    sizes = [image.layer_size(layer) for layer in image.layers]
    steps: list[Json] = []
    for entry in image.history or [{} for _ in sizes]:
        made_layer = not entry.get("empty_layer") and bool(sizes)
        steps.append(
            {
                "Id": "<missing>",
                "Created": int(seconds(entry["created"])) if entry.get("created") else 0,
                "CreatedBy": entry.get("created_by", ""),
                "Tags": None,
                "Size": sizes.pop(0) if made_layer else 0,
                "Comment": entry.get("comment", ""),
            }
        )
    steps.reverse()
    if steps:
        steps[0].update(Id=image.id, Tags=[familiar(name) for name in image.names] or None)
    return steps


def seconds(rfc3339: str) -> float:
    """Seconds since the epoch."""
    return timestamps.to_nanoseconds(rfc3339) / timestamps.SECOND


def familiar(name: str) -> str:
    """``docker.io/library/busybox:latest`` → ``busybox:latest``, as people write it."""
    return reference.parse(name).familiar
