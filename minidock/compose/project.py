"""A project: the model of its files, its name, and what follows from both.

Source: Compose specification, 04-version-and-name.md, 15-profiles.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minidock.compose import dotenv, environment, interpolation, loading, reading, relations
from minidock.compose.interpolation import Variables, Warn
from minidock.compose.loading import Loader
from minidock.compose.model import Project
from minidock.compose.reading import ComposeError, Map

DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    *("compose.override.yaml", "compose.override.yml"),
    *("docker-compose.override.yml", "docker-compose.override.yaml"),
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says about the project; empty means: find out."""

    files: list[str] = field(default_factory=list)
    name: str = ""
    profiles: list[str] = field(default_factory=list)
    env_files: list[str] = field(default_factory=list)
    directory: str = ""


def load(asked: Asked, warn: Warn, *, wanted: Iterable[str] = (), resolve: bool = True) -> Project:
    """Find, read and check the project. Raises ComposeError.

    *wanted* are services that the command names: their profiles become active. *resolve* reads the
    env_files into the environments of the services.
    """
    first = os.path.abspath(
        asked.directory or (os.path.dirname(asked.files[0]) if asked.files else "") or "."
    )
    values = _variables(asked, first)
    files = _files(asked, values)
    directory = asked.directory or ("." if files[0] == "-" else os.path.dirname(files[0]))
    directory = os.path.abspath(directory)
    if directory != first and not asked.env_files:
        values = _variables(asked, directory)
    name = _project_name(asked, values, files, directory)
    variables = Variables({**values, "COMPOSE_PROJECT_NAME": name}, warn)
    model = Loader(variables).load(files, directory)
    project = _made(model, name, directory, files, variables.values)
    relations.complete(project)
    _activate(project, asked.profiles or _split(values.get("COMPOSE_PROFILES", ""), ","), list(wanted))
    relations.check(project)
    environment.settle(project, resolve)
    return project


def name_only(asked: Asked, warn: Warn) -> str:
    """The project's name when its files are not needed; raises ComposeError when nothing gives one."""
    if asked.name:
        return _valid(asked.name)
    values = _variables(asked, os.path.abspath(asked.directory or "."))
    if values.get("COMPOSE_PROJECT_NAME"):
        return _valid(values["COMPOSE_PROJECT_NAME"])
    return load(asked, warn, resolve=False).name


def _variables(asked: Asked, directory: str) -> dict[str, str]:
    """The environment, and below it what the env files say."""
    own = dict(os.environ)
    files = asked.env_files or _split(own.get("COMPOSE_ENV_FILES", ""), ",")
    if not files and os.path.isfile(os.path.join(directory, ".env")):
        files = [os.path.join(directory, ".env")]
    values: dict[str, str] = {}
    for file in files:
        values.update(dotenv.read(file, {**values, **own}))
    return {**values, **own}


def _split(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _files(asked: Asked, values: Mapping[str, str]) -> list[str]:
    given = asked.files or _split(
        values.get("COMPOSE_FILE", ""), values.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    )
    if given:
        files = [each if each == "-" else os.path.abspath(os.path.expanduser(each)) for each in given]
        for file in files:
            if file != "-" and not os.path.isfile(file):
                raise ComposeError(f"no such compose file: {file}")
        return files
    here = os.path.abspath(asked.directory or ".")
    at = here
    while True:
        for name in DEFAULT_FILES:
            if os.path.isfile(os.path.join(at, name)):
                more = [each for each in _OVERRIDES if os.path.isfile(os.path.join(at, each))][:1]
                return [os.path.join(at, each) for each in (name, *more)]
        above = os.path.dirname(at)
        if above == at:
            raise ComposeError(
                f"no compose file in {here} or above it",
                hint=f"Write {DEFAULT_FILES[0]}, or name one with -f.",
            )
        at = above


def _project_name(asked: Asked, values: dict[str, str], files: list[str], directory: str) -> str:
    if asked.name or values.get("COMPOSE_PROJECT_NAME"):
        return _valid(asked.name or values["COMPOSE_PROJECT_NAME"])
    for file in reversed(files):
        value = reading.parse(loading.content(file), loading.shown(file))
        if isinstance(value, Map) and isinstance(value.get("name"), str):
            place = value.places["name"]
            return _valid(interpolation.fill(value["name"], Variables(values), "name", place))
    name = re.sub(r"[^a-z0-9_-]", "", os.path.basename(directory).lower()).lstrip("_-")
    if not name:
        raise ComposeError(f"{directory} gives no project name", hint="Give one with -p NAME.")
    return name


def _valid(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ComposeError(
            f"invalid project name {name!r}",
            hint="Lower case letters, digits, - and _; it begins with a letter or a digit.",
        )
    return str(name)


def _made(model: Map, name: str, directory: str, files: list[str], variables: Mapping[str, str]) -> Project:
    def section(key: str) -> dict[str, Map]:
        entries: Map = model.get(key) or Map()
        return {each: value for each, value in entries.items() if not each.startswith("x-")}

    services = section("services")
    return Project(
        name,
        directory,
        files,
        services,
        {},
        section("networks"),
        section("volumes"),
        section("secrets"),
        section("configs"),
        variables,
        {key: value for key, value in model.items() if key.startswith("x-")},
    )


def _activate(project: Project, profiles: list[str], wanted: list[str]) -> None:
    """Set aside the services whose profiles are not active. A service that is named is always active."""
    active = {
        *profiles,
        *(each for name in wanted if name in project.services for each in _of(project, name)),
    }
    for name in list(project.services):
        own = _of(project, name)
        if own and not active & set(own) and "*" not in active and name not in wanted:
            project.dormant[name] = project.services.pop(name)


def _of(project: Project, name: str) -> list[str]:
    return list(project.services[name].get("profiles") or [])
