"""Secrets and configs as files in a container.

One that is a file of the host is mounted, read only; what a variable or the compose file itself gives is
written into the container before it starts.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

from minidock.compose.model import Project
from minidock.compose.reading import ComposeError, Map

if TYPE_CHECKING:
    from minidock.engine import Engine

_PLACES = {"secrets": "/run/secrets/", "configs": "/"}


def _each(project: Project, service: Map) -> list[tuple[str, Map, Map]]:
    """(path inside, the grant, what it grants) for all of a service."""
    found = []
    for section, base in _PLACES.items():
        for grant in service.get(section) or []:
            target = str(grant.get("target") or grant["source"])
            path = target if target.startswith("/") else base + target
            found.append((path, grant, getattr(project, section)[grant["source"]]))
    return found


def _is_mounted(grant: Map, entry: Map) -> bool:
    """A mounted file keeps the owner and the mode that it has: who wants others gets a copy."""
    return "file" in entry and not any(grant.get(key) is not None for key in ("uid", "gid", "mode"))


def mounts(project: Project, service: Map) -> list[dict[str, Any]]:
    """The mounts of the secrets and configs that are files."""
    return [
        {"kind": "bind", "source": str(entry["file"]), "target": path, "read_only": True}
        for path, grant, entry in _each(project, service)
        if _is_mounted(grant, entry)
    ]


def value(project: Project, entry: Map) -> bytes:
    """What a secret or config holds. Raises ComposeError."""
    if entry.get("content") is not None:
        return str(entry["content"]).encode()
    if entry.get("environment"):
        name = str(entry["environment"])
        if name not in project.variables:
            raise ComposeError(
                f'{entry["name"]}: the variable "{name}" is not set', entry.places.get("environment")
            )
        return project.variables[name].encode()
    try:
        with open(entry["file"], "rb") as file:
            return file.read()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ComposeError(f"{entry['name']}: {entry['file']}: {why}", entry.places.get("file")) from None


def write(engine: Engine, project: Project, service: Map, container_id: str) -> None:
    """Put the others into a container that has not started yet."""
    chosen = [each for each in _each(project, service) if not _is_mounted(each[1], each[2])]
    if not chosen:
        return
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path, grant, entry in chosen:
            content = value(project, entry)
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            member.uid, member.gid = int(grant.get("uid") or 0), int(grant.get("gid") or 0)
            mode = grant.get("mode")
            member.mode = 0o444 if mode is None else int(mode, 8) if isinstance(mode, str) else int(mode)
            archive.addfile(member, io.BytesIO(content))
    engine.write_archive(container_id, "/", iter([data.getvalue()]))
