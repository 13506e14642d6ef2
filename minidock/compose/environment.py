"""The environment of each service: its env_files, and above them what `environment` says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minidock import notation
from minidock.compose import dotenv, forms
from minidock.compose.reading import ComposeError, Map, Seq

if TYPE_CHECKING:
    from minidock.compose.model import Project


def settle(project: Project, read_files: bool) -> None:
    """Give every service its whole environment and all its labels. Raises ComposeError."""
    for name, service in project.services.items():
        own = service.get("environment") or Map()
        values: dict[str, str | None] = {}
        if read_files:
            for entry in service.pop("env_file", None) or []:
                values.update(_from_file(project, name, service, entry))
            _labels(name, service)
        for key, value in own.items():
            if value is None:
                value = project.variables.get(key)
            values[key] = value
        if values:
            service["environment"] = Map(values, own.places)
        if isinstance(service.get("build"), Map) and service["build"].get("args"):
            arguments = service["build"]["args"]
            found = {k: project.variables.get(k) if v is None else v for k, v in arguments.items()}
            service["build"]["args"] = Map(found, arguments.places)


def _from_file(project: Project, name: str, service: Map, entry: Map) -> dict[str, str]:
    path, place = entry["path"], service.places.get("env_file")
    if not os.path.exists(path):
        if entry["required"] is False:
            return {}
        raise ComposeError(f"services.{name}.env_file: no such file: {path}", place, hint="required: false")
    if entry.get("format") == "raw":
        lines = notation.variables_file(path)
        return dict(line.partition("=")[::2] for line in lines)
    if entry.get("format"):
        raise ComposeError(f"services.{name}.env_file: unknown format {entry['format']!r}", place, hint="raw")
    return dotenv.read(path, project.variables)


def _labels(name: str, service: Map) -> None:
    files = service.pop("label_file", None)
    if not files:
        return
    found = Map()
    for path in files:
        found.update(forms.pairs(Seq(notation.labels_file(path))))
    found.update(service.get("labels") or {})
    service["labels"] = found
