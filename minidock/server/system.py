"""``/_ping /version /info /system/df``: the engine as a whole.

Source: Docker Engine API v1.44, "System".
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from minidock.engine import shown_time
from minidock.server.errors import Refused
from minidock.server.request import Reply, Request
from minidock.server.routes import NEWEST, OLDEST

_VERSIONS = {"ApiVersion": "{}.{}".format(*NEWEST), "MinAPIVersion": "{}.{}".format(*OLDEST)}

_OF_SWARMS = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def ping(request: Request) -> Reply:
    headers = {
        "Builder-Version": "1",  # the classic builder: the client sends a tar to /build
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }
    return Reply(200, headers=headers, data=b"OK")


def version(request: Request) -> Any:
    found = request.engine.version()
    arch = _go_arch(found["Arch"])
    engine = {
        "Name": "Engine",
        "Version": found["Version"],
        "Details": {
            **_VERSIONS,
            "Arch": arch,
            "Experimental": "false",
            "GoVersion": f"python{found['Python']}",
            "KernelVersion": found["KernelVersion"],
            "Os": found["Os"],
            "Python": found["Python"],
        },
    }
    return {
        "Platform": {"Name": "minidock"},
        "Components": [engine],
        "Version": found["Version"],
        **_VERSIONS,
        "GitCommit": "",
        "GoVersion": f"python{found['Python']}",
        "Os": found["Os"],
        "Arch": arch,
        "KernelVersion": found["KernelVersion"],
        "BuildTime": "",
    }


def info(request: Request) -> Any:
    engine = request.engine
    found = engine.info()
    plugins = {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None}
    return {
        "ID": found["Name"],
        **found,
        "Plugins": {**plugins, "Log": ["json-file", "none"]},
        "DriverStatus": [["Backing Filesystem", "overlayfs"], ["Native Overlay Diff", "true"]],
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "OomKillDisable": True,
        "IPv4Forwarding": True,
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": threading.active_count(),
        "NEventsListener": 0,
        "SystemTime": shown_time(time.time_ns()),
        "LoggingDriver": "json-file",
        "OSVersion": "",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(found["RegistryConfig"]),
        "Labels": [],
        "ExperimentalBuild": False,
        "Runtimes": {"minidock": {"path": "minidock"}},
        "DefaultRuntime": "minidock",
        "Swarm": {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": False},
        "LiveRestoreEnabled": True,  # the daemon may go: containers run on
        "InitBinary": "tini-static",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "Warnings": None,
    }


def _registries(known: dict[str, Any]) -> dict[str, Any]:
    hosts = {
        host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False}
        for host in known["InsecureRegistries"]
        if "/" not in host
    }
    hub = {"Name": "docker.io", "Mirrors": known["Mirrors"], "Secure": True, "Official": True}
    return {
        "InsecureRegistryCIDRs": [
            *(host for host in known["InsecureRegistries"] if "/" in host),
            "127.0.0.0/8",
        ],
        "IndexConfigs": {"docker.io": hub, **hosts},
        "Mirrors": known["Mirrors"],
    }


def df(request: Request) -> Any:
    found = request.engine.df_in_detail()
    sizes = {each.kind: each.size for each in request.engine.df()}
    cache = sizes.get("Build Cache", 0)
    layer = {
        "ID": "layers-of-builds",
        "Type": "regular",
        "Description": "what builds keep",
        "InUse": False,
        "Shared": False,
        "Size": cache,
        "CreatedAt": "0001-01-01T00:00:00Z",
        "UsageCount": 0,
    }
    wanted = {
        "Images": ("image", found["Images"]),
        "Containers": ("container", found["Containers"]),
        "Volumes": ("volume", found["Volumes"]),
        "BuildCache": ("build-cache", [layer] if cache else []),
    }
    chosen = request.texts("type")
    answer = {key: value for key, (kind, value) in wanted.items() if not chosen or kind in chosen}
    return {"LayersSize": sizes.get("Images", 0), **answer, "BuilderSize": cache}


def no_swarm(request: Request) -> None:
    if request.path == "/swarm/leave":
        raise Refused(503, "This node is not part of a swarm")
    raise Refused(
        503,
        "This node is not a swarm manager. minidock is one machine: "
        "see `docker stack deploy` on a Docker swarm for more.",
    )


def plugins(request: Request) -> Any:
    return []


def _go_arch(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


ROUTES = [
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/system/df", df),
    ("GET", "/plugins", plugins),
    *((method, f"/{kind}", no_swarm) for kind in _OF_SWARMS for method in ("GET", "POST")),
    *(
        (method, f"/{kind}/{{rest...}}", no_swarm)
        for kind in _OF_SWARMS
        for method in ("GET", "POST", "DELETE")
    ),
]
