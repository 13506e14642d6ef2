"""Volumes and mounts as `inspect`, `ls` and `ps` show them.

Source: Docker Engine API v1.44, definitions Volume, MountPoint, Mount.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minidock.containers import volumes
from minidock.containers.spec import Mount, Spec
from minidock.containers.state import Container
from minidock.containers.volumes import Use, Volume

Json = dict[str, Any]


def volume_json(volume: Volume, users: list[Use]) -> Json:
    """One volume, and under "Containers" who uses it: of use, and not in Docker's answer."""
    return {
        **volumes.to_json(volume),
        "Containers": {
            use.id: {"Name": use.name, "Destination": use.mount.target, "RW": not use.mount.read_only}
            for use in users
        },
    }


# ---- of containers ----------------------------------------------------------------------------------


def mounts_json(container: Container) -> list[Json]:
    """What `inspect` shows under Mounts. A tmpfs of ``--tmpfs`` is not among them, as in Docker."""
    return [
        mount_json(container.root, mount)
        for mount in sorted(container.spec.mounts, key=lambda each: each.target)
        if mount.kind != "tmpfs" or mount.origin == "mount"
    ]


def mount_json(root: Path, mount: Mount) -> Json:
    if mount.kind == "tmpfs":
        return {
            "Type": "tmpfs",
            "Source": "",
            "Destination": mount.target,
            "Mode": "",
            "RW": not mount.read_only,
            "Propagation": "",
        }
    shareable = mount.kind == "volume" and (
        mount.origin == "mount" or (mount.origin == "volume" and not mount.anonymous)
    )
    return {
        "Type": mount.kind,
        **({"Name": mount.source} if mount.kind == "volume" else {}),
        "Source": str(volumes.data_path(root, mount.source)) if mount.kind == "volume" else mount.source,
        "Destination": mount.target,
        **({"Driver": "local"} if mount.kind == "volume" else {}),
        "Mode": mount.mode or ("z" if shareable else ""),
        "RW": not mount.read_only,
        "Propagation": mount.propagation if mount.kind == "bind" else "",
    }


def config_volumes(spec: Spec) -> Json | None:
    """The VOLUMEs of the image and the anonymous ones of -v: ``{"/data": {}}``."""
    asked = [mount.target for mount in spec.mounts if mount.anonymous and mount.origin == "volume"]
    return {path: {} for path in sorted({*spec.volumes, *asked})} or None


def host_config_json(spec: Spec) -> Json:
    """The keys of HostConfig that say which mounts were asked for."""
    by_v = [mount for mount in spec.mounts if mount.origin == "volume" and not mount.anonymous]
    wanted = [mount_request_json(mount) for mount in spec.mounts if mount.origin == "mount"]
    temporary = [mount for mount in spec.mounts if mount.kind == "tmpfs" and mount.origin != "mount"]
    return {
        "Binds": [bind_text(mount) for mount in by_v if mount.kind != "tmpfs"] or None,
        "VolumeDriver": next((mount.driver for mount in spec.mounts if mount.driver), ""),
        "VolumesFrom": spec.volumes_from or None,
        "Tmpfs": {
            mount.target: ",".join([*mount.options, *(["ro"] if mount.read_only else [])])
            for mount in temporary
        },
        **({"Mounts": wanted} if wanted else {}),
    }


def bind_text(mount: Mount) -> str:
    """A ``-v`` as it was typed."""
    return ":".join(
        filter(None, [mount.source, mount.target, mount.mode or ("ro" if mount.read_only else "")])
    )


def mount_request_json(mount: Mount) -> Json:
    """A ``--mount`` in the shape of Docker's API (definition Mount)."""
    shown: Json = {"Type": mount.kind}
    if mount.source and not mount.anonymous:
        shown["Source"] = mount.source
    shown["Target"] = mount.target
    if mount.read_only:
        shown["ReadOnly"] = True
    if mount.kind == "bind":
        bind: Json = {} if mount.propagation == "rprivate" else {"Propagation": mount.propagation}
        if mount.recursive:
            key = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive"}.get(mount.recursive)
            bind[key or "ReadOnlyForceRecursive"] = True
        if bind:
            shown["BindOptions"] = bind
    elif mount.kind == "volume":
        options: Json = {}
        if mount.no_copy:
            options["NoCopy"] = True
        if mount.labels:
            options["Labels"] = mount.labels
        if mount.driver or mount.driver_options:
            options["DriverConfig"] = {"Name": mount.driver or "local", "Options": mount.driver_options}
        if mount.subpath:
            options["Subpath"] = mount.subpath
        if options:
            shown["VolumeOptions"] = options
    elif mount.options:
        shown["TmpfsOptions"] = _tmpfs_json(mount.options)
    return shown


def _tmpfs_json(options: list[str]) -> Json:
    values = dict(option.partition("=")[::2] for option in options)
    shown: Json = {}
    if "size" in values:
        shown["SizeBytes"] = int(values["size"])
    if "mode" in values:
        shown["Mode"] = int(values["mode"], 8)
    return shown
