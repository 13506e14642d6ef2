"""`compose config`: the model as one file, without variables, short forms and other files.

What it prints can be read again by compose, by `docker stack deploy` and by `kompose`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from minidock.compose import reading

if TYPE_CHECKING:
    from minidock.compose.model import Project


def model(project: Project) -> dict[str, Any]:
    """Plain values, sorted as they are printed."""
    services = {name: _service(project.services[name]) for name in sorted(project.services)}
    shown: dict[str, Any] = {"name": project.name, "services": services}
    used = {
        "networks": {each for service in project.services.values() for each in service.get("networks") or {}},
        "volumes": set(project.volumes),
        "secrets": set(project.secrets),
        "configs": set(project.configs),
    }
    for section, names in used.items():
        entries = getattr(project, section)
        found = {key: _sorted(entries[key]) for key in sorted(names) if key in entries}
        if found:
            shown[section] = found
    shown.update(project.extensions)
    plain: dict[str, Any] = reading.plain(shown)
    return plain


def _service(service: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing (``command:`` alone): other tools want a list there, or no key."""
    shown: dict[str, Any] = _sorted({key: value for key, value in service.items() if value is not None})
    for port in shown.get("ports") or []:
        if str(port.get("published", "")).isdigit():
            port["published"] = int(port["published"])  # docker stack takes no text here, compose both
    return shown


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def escaped(value: Any) -> Any:
    """Each ``$`` doubled: the output has no variables any more, but whoever reads it will look for some."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def as_yaml(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=4096
    )
    return text


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
