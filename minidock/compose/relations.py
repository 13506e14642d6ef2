"""What one part of a project says about another: networks, volumes, dependencies; all of it must exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minidock.compose.reading import ComposeError, Map, Place

if TYPE_CHECKING:
    from minidock.compose.model import Project


def complete(project: Project) -> None:
    """Add what the specification adds: names, the default network, implied dependencies."""
    for name, service in project.services.items():
        if "networks" not in service and not service.get("network_mode"):
            service["networks"] = Map({"default": None})
        for other, place in _implied(service):
            needed = service.setdefault("depends_on", Map())
            if other in project.services and other not in needed and other != name:
                needed[other] = Map({"condition": "service_started", "required": True, "restart": True})
                needed.places[other] = place
    used = {each for service in project.services.values() for each in service.get("networks") or {}}
    if "default" in used and "default" not in project.networks:
        project.networks["default"] = Map()
    for entries in (project.networks, project.volumes, project.secrets, project.configs):
        for key, entry in entries.items():
            if not entry.get("name"):
                entry["name"] = key if entry.get("external") else f"{project.name}_{key}"


def _implied(service: Map) -> list[tuple[str, Place]]:
    """The services whose namespaces, volumes or links this one uses: they start first."""
    found = []
    for key in ("network_mode", "ipc", "pid"):
        kind, _, name = str(service.get(key) or "").partition(":")
        if kind == "service":
            found.append((name, service.places.get(key)))
    for entry in service.get("volumes_from") or []:
        if not entry.startswith("container:"):
            found.append((entry.partition(":")[0], service.places.get("volumes_from")))
    for entry in service.get("links") or []:
        found.append((entry.partition(":")[0], service.places.get("links")))
    return [(name, place or Place("", 0)) for name, place in found]


def check(project: Project) -> None:
    """Raise ComposeError for what refers to nothing, and for circles."""
    for name, service in project.services.items():
        _check_service(project, name, service)
    for section in ("networks", "volumes"):
        for key, entry in getattr(project, section).items():
            extra = sorted(set(entry) - {"external", "name"})
            if entry.get("external") and extra:
                raise ComposeError(
                    f"{section}.{key} is external: {', '.join(extra)} would change nothing",
                    entry.places.get(extra[0]),
                )
    for section in ("secrets", "configs"):
        for key, entry in getattr(project, section).items():
            _check_given(f"{section}.{key}", entry)
    _check_circles(project)


def _check_service(project: Project, name: str, service: Map) -> None:
    path = f"services.{name}"
    where = service.places
    if not service.get("image") and not service.get("build"):
        raise ComposeError(
            f"{path} has neither an image nor a build",
            next(iter(where.values()), None),
            hint="Give one of them.",
        )
    for network in service.get("networks") or {}:
        _known(f"{path}.networks", network, project.networks, "network", where.get("networks"))
    if service.get("networks") and service.get("network_mode"):
        raise ComposeError(f"{path}: network_mode and networks exclude each other", where.get("network_mode"))
    for mount in service.get("volumes") or []:
        if mount["type"] == "volume" and mount.get("source"):
            _known(f"{path}.volumes", mount["source"], project.volumes, "volume", where.get("volumes"))
    for kind in ("secret", "config"):
        for grant in service.get(f"{kind}s") or []:
            known = getattr(project, f"{kind}s")
            _known(f"{path}.{kind}s", grant.get("source"), known, kind, where.get(f"{kind}s"))
    build = service.get("build") or {}
    for grant in build.get("secrets") or []:
        _known(f"{path}.build.secrets", grant.get("source"), project.secrets, "secret", where.get("build"))
    _check_dependencies(project, name, service)
    for key in ("network_mode", "ipc", "pid"):
        kind, _, other = str(service.get(key) or "").partition(":")
        if kind == "service":
            _known(f"{path}.{key}", other, project.services, "service", where.get(key))
    scale = wanted_scale(service)
    if service.get("container_name") and scale > 1:
        raise ComposeError(
            f"{path}: {scale} containers cannot all be named {service['container_name']}",
            where.get("container_name"),
            hint="Leave container_name out.",
        )


def _check_dependencies(project: Project, name: str, service: Map) -> None:
    needed = service.get("depends_on") or Map()
    for other in list(needed):
        if other in project.services:
            continue
        if needed[other].get("required") is False:
            del needed[other]
            continue
        place = needed.places.get(other) or service.places.get("depends_on")
        if other in project.dormant:
            profiles = ", ".join(project.dormant[other].get("profiles") or [])
            raise ComposeError(
                f'services.{name} depends on "{other}", whose profile is not active',
                place,
                hint=f"--profile {profiles}, or required: false.",
            )
        _known(f"services.{name}.depends_on", other, project.services, "service", place)


def _known(path: str, name: Any, known: dict[str, Any], kind: str, place: Place | None) -> None:
    if name in known:
        return
    import difflib

    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else f"Define it under {kind}s: at the top of the file."
    raise ComposeError(f'{path}: there is no {kind} "{name}"', place, hint=hint)


def _check_given(path: str, entry: Map) -> None:
    place = next(iter(entry.places.values()), None)
    if entry.get("external"):
        raise ComposeError(
            f"{path}: external secrets and configs need a swarm, which minidock is not",
            entry.places.get("external", place),
            hint="Give file, environment or content.",
        )
    given = [key for key in ("file", "environment", "content") if entry.get(key) is not None]
    if len(given) != 1:
        raise ComposeError(f"{path} needs just one of file, environment and content", place)
    for key in ("driver", "template_driver"):
        if entry.get(key):
            raise ComposeError(f"{path}: {key} is not supported by minidock", entry.places.get(key, place))


def _check_circles(project: Project) -> None:
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            circle = " → ".join([*way[way.index(name) :], name])
            raise ComposeError(f"the dependencies go round in a circle: {circle}", _place(project, way[-1]))
        if name not in done and name in project.services:
            for other in project.services[name].get("depends_on") or {}:
                walk(other, [*way, name])
            done.add(name)

    for name in project.services:
        walk(name, [])


def _place(project: Project, name: str) -> Place | None:
    return project.services[name].places.get("depends_on")


def wanted_scale(service: Map) -> int:
    """How many containers a service wants: scale, or deploy.replicas, or one."""
    scale = service.get("scale")
    if scale is None:
        scale = (service.get("deploy") or {}).get("replicas")
    return 1 if scale is None else int(scale)
