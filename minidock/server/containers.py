"""``/containers``: making, finding and removing them.

Source: Docker Engine API v1.44, "Container".
"""

from __future__ import annotations

from typing import Any

from minidock.server import creating
from minidock.server.request import Reply, Request


def create(request: Request) -> Reply:
    image, command, options = creating.options(request.json(), request.text("name"))
    platform = request.text("platform") or None
    made = request.engine.create(image, command, pull="never", platform=platform, **options)
    return Reply(201, {"Id": made.id, "Warnings": []})


def list_(request: Request) -> Any:
    filters, limit = request.filters(), request.number("limit", 0) or 0
    rows = request.engine.ps(filters, all=request.flag("all") or limit > 0, size=request.flag("size"))
    return rows[:limit] if limit > 0 else rows


def inspect(request: Request) -> Any:
    return request.engine.inspect(request["id"], size=request.flag("size"))


def remove(request: Request) -> None:
    if request.flag("link"):
        request.engine.unlink(request["id"])
        return
    request.engine.rm(request["id"], force=request.flag("force"), volumes=request.flag("v"))


def rename(request: Request) -> None:
    request.engine.rename(request["id"], request.text("name").removeprefix("/"))


def update(request: Request) -> Any:
    body = request.json()
    options = creating.limits(body)
    request.engine.update(request["id"], **options)
    return {"Warnings": []}


def prune(request: Request) -> Any:
    deleted, freed = request.engine.prune_containers(request.filters())
    return {"ContainersDeleted": deleted, "SpaceReclaimed": freed}


def top(request: Request) -> Any:
    titles, rows = request.engine.top(request["id"], request.text("ps_args").split())
    return {"Titles": titles, "Processes": rows}


def changes(request: Request) -> Any:
    kinds = {"C": 0, "A": 1, "D": 2}
    found = request.engine.diff(request["id"])
    return [{"Path": each.path, "Kind": kinds[each.kind]} for each in found]


def export(request: Request) -> None:
    request.engine.container(request["id"])
    request.engine.export(request["id"], request.begin("application/x-tar"))  # type: ignore[arg-type]


ROUTES = [
    ("POST", "/containers/create", create),
    ("GET", "/containers/json", list_),
    ("POST", "/containers/prune", prune),
    ("GET", "/containers/{id}/json", inspect),
    ("DELETE", "/containers/{id...}", remove),  # a link is called web/db
    ("POST", "/containers/{id}/rename", rename),
    ("POST", "/containers/{id}/update", update),
    ("GET", "/containers/{id}/top", top),
    ("GET", "/containers/{id}/changes", changes),
    ("GET", "/containers/{id}/export", export),
]
