"""``/volumes``, and ``/containers/{id}/archive``: what `docker volume` and `docker cp` ask for.

Source: Docker Engine API v1.44, "Volume"; ContainerArchiveInfo, ContainerArchive, PutContainerArchive.
"""

from __future__ import annotations

import base64
import json
import stat
from typing import Any

from minidock.engine import shown_time
from minidock.errors import InvalidInput
from minidock.server.errors import BAD_REQUEST, Refused
from minidock.server.plain import pairs, text
from minidock.server.request import Reply, Request
from minidock.server.streams import Stream


def create(request: Request) -> Reply:
    body = request.json(optional=True)
    if body.get("ClusterVolumeSpec"):
        raise InvalidInput("minidock does not have cluster volumes: it is one machine")
    made = request.engine.create_volume(
        text(body, "Name"),
        driver=text(body, "Driver") or "local",
        labels=pairs(body, "Labels"),
        options=pairs(body, "DriverOpts"),
    )
    return Reply(201, _shown(request.engine.inspect_volume(made.name)))


def _shown(volume: dict[str, Any]) -> dict[str, Any]:
    """Without what only minidock tells."""
    return {key: value for key, value in volume.items() if key != "Containers"}


def list_(request: Request) -> Any:
    return {"Volumes": [_shown(each) for each in request.engine.volumes(request.filters())], "Warnings": None}


def inspect(request: Request) -> Any:
    return _shown(request.engine.inspect_volume(request["name"]))


def remove(request: Request) -> None:
    request.engine.remove_volume(request["name"], force=request.flag("force"))


def prune(request: Request) -> Any:
    filters = request.filters()
    every = any(value.lower() in ("true", "1") for value in filters.pop("all", []))
    if request.version < (1, 42):
        every = True  # before, named volumes went, too
    deleted, freed = request.engine.prune_volumes(filters, all=every)
    return {"VolumesDeleted": deleted, "SpaceReclaimed": freed}


# --- cp ------------------------------------------------------------------------------------------


def look(request: Request) -> Reply:
    found = request.engine.stat_path(request["id"], _path(request))
    return Reply(200, headers={"X-Docker-Container-Path-Stat": _encoded(found)})


def read(request: Request) -> None:
    begun: list[Stream] = []

    def begin(found: Any) -> None:
        headers = {"X_Docker_Container_Path_Stat": _encoded(found)}
        begun.append(request.begin("application/x-tar", **headers))

    request.engine.read_archive(
        request["id"], _path(request), lambda data: begun[0].write(bytes(data)), on_stat=begin
    )


def write(request: Request) -> Reply:
    request.engine.write_archive(
        request["id"],
        _path(request),
        iter(request.body),
        no_overwrite=request.flag("noOverwriteDirNonDir"),
    )
    return Reply(200)


def _path(request: Request) -> str:
    if not request.text("path"):
        raise Refused(BAD_REQUEST, "missing parameter: path")
    return request.text("path")


def _encoded(found: Any) -> str:
    """The header that tells what stands at a path; the mode is Go's (os.FileMode)."""
    mode = stat.S_IMODE(found.mode) & 0o777
    for kind, bit in (
        (stat.S_IFDIR, 31),
        (stat.S_IFLNK, 27),
        (stat.S_IFIFO, 25),
        (stat.S_IFSOCK, 24),
        (stat.S_IFBLK, 26),
    ):
        if stat.S_IFMT(found.mode) == kind:
            mode |= 1 << bit
    if stat.S_ISCHR(found.mode):
        mode |= 1 << 26 | 1 << 21
    for flag, bit in ((stat.S_ISUID, 23), (stat.S_ISGID, 22), (stat.S_ISVTX, 20)):
        if found.mode & flag:
            mode |= 1 << bit
    value = {
        "name": found.name,
        "size": found.size,
        "mode": mode,
        "mtime": shown_time(found.mtime),
        "linkTarget": found.link_target,
    }
    return base64.b64encode(json.dumps(value).encode()).decode()


ROUTES = [
    ("POST", "/volumes/create", create),
    ("GET", "/volumes", list_),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", inspect),
    ("DELETE", "/volumes/{name}", remove),
    ("HEAD", "/containers/{id}/archive", look),
    ("GET", "/containers/{id}/archive", read),
    ("PUT", "/containers/{id}/archive", write),
]
