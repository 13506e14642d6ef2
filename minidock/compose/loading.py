"""From files to one model: read, fill in variables, check, lengthen, include, extend, merge.

Source: Compose specification, 14-include.md, 05-services.md ("extends"), 13-merge.md.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from minidock.compose import checks, dotenv, forms, interpolation, merging, reading, rules
from minidock.compose.interpolation import Variables
from minidock.compose.reading import ComposeError, Map, Place, Seq


class Loader:
    """Loads the files of one project. *variables* fill the places that the files leave open."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self._extending: list[tuple[str, str]] = []
        self._including: list[str] = []

    def load(self, files: list[str], directory: str) -> Map:
        """The model that *files* make together; relative paths in them begin at *directory*."""
        model = Map()
        for file in files:
            model = merging.merge(model, self._one(file, directory))
        return model

    def _one(self, file: str, directory: str) -> Map:
        model = self._checked(file)
        services = model.get("services") or Map()
        for name in services:
            if isinstance(services[name], Map):
                services[name] = self._extended(services, name, file, directory)
        _settle_paths(model, directory)
        for entry in model.pop("include", None) or []:
            model = self._with_included(model, entry, file, directory)
        return model

    def _checked(self, file: str) -> Map:
        value = reading.parse(content(file), shown(file))
        place = Place(shown(file), 1)
        if value is None:
            raise ComposeError("the file is empty", place)
        filled = interpolation.fill(value, self.variables)
        model = checks.check(filled, rules.FILE, "", place)
        return forms.file(model)

    # --- extends --------------------------------------------------------------------------------------

    def _extended(self, services: Map, name: str, file: str, directory: str) -> Map:
        whole: Map = services[name]
        extends = whole.get("extends")
        service = Map({key: value for key, value in whole.items() if key != "extends"}, whole.places)
        if not isinstance(extends, Map):
            return service
        place = service.places.get("extends")
        source, base_name = extends.get("file"), extends["service"]
        path = os.path.join(directory, os.path.expanduser(source)) if source else file
        key = (os.path.abspath(path), base_name)
        if key in self._extending or (path == file and base_name == name):
            raise ComposeError(f"services.{name}: extends goes round in a circle", place)
        self._extending.append(key)
        try:
            if source:
                if not os.path.isfile(path):
                    raise ComposeError(f"services.{name}: extends: no such file: {path}", place)
                others = self._checked(path).get("services") or Map()
                beside = os.path.dirname(os.path.abspath(path))
            else:
                others, beside = services, directory
            if not isinstance(others.get(base_name), Map):
                raise ComposeError(
                    f'services.{name}: extends: there is no service "{base_name}" in {shown(path)}', place
                )
            base = self._extended(others, base_name, path, beside)
            if source:
                base = merging.settled(base)
                _settle_service(base, beside)
        finally:
            self._extending.pop()
        return merging.merge(base, service)

    # --- include --------------------------------------------------------------------------------------

    def _with_included(self, model: Map, entry: Map, file: str, directory: str) -> Map:
        paths = [os.path.join(directory, os.path.expanduser(path)) for path in entry["path"]]
        own = entry.get("project_directory")
        base = os.path.join(directory, own) if own else os.path.dirname(os.path.abspath(paths[0]))
        for path in paths:
            if not os.path.isfile(path):
                raise ComposeError(f"include: no such file: {path}", Place(shown(file), 0))
            if os.path.abspath(path) in self._including:
                raise ComposeError(f"include: {path} includes itself", Place(shown(file), 0))
        loader = Loader(self._variables_of(entry, directory, base))
        loader._including = [*self._including, *(os.path.abspath(path) for path in [file, *paths])]
        included = loader.load(paths, os.path.abspath(base))
        for section in ("services", "networks", "volumes", "secrets", "configs"):
            mine, theirs = model.setdefault(section, Map()), included.get(section) or Map()
            if mine is None:
                mine = model[section] = Map()
            for key, value in theirs.items():
                if key in mine and reading.plain(mine[key]) != reading.plain(value):
                    raise ComposeError(
                        f"{section}.{key} conflicts with the one that {shown(paths[0])} brings",
                        mine.places.get(key),
                        hint="Change included parts in an override file: path: [FILE, OVERRIDE].",
                    )
                mine[key] = value
                if key in theirs.places:
                    mine.places[key] = theirs.places[key]
        return model

    def _variables_of(self, entry: Map, directory: str, base: str) -> Variables:
        """What the including project has counts first, then the env_file (or .env) of the included one."""
        values: dict[str, str] = {}
        files = [os.path.join(directory, path) for path in entry.get("env_file") or []]
        if not files and os.path.isfile(os.path.join(base, ".env")):
            files = [os.path.join(base, ".env")]
        for file in files:
            values.update(dotenv.read(file, self.variables.values))
        return Variables({**values, **self.variables.values}, self.variables._warn)


def content(file: str) -> str:
    """The text of a compose file; ``-`` is standard input. Raises ComposeError."""
    try:
        if file == "-":
            return _stdin()
        with open(file, "rb") as opened:
            return opened.read().removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        raise ComposeError("not UTF-8 text", Place(shown(file), 0)) from None
    except OSError as error:
        raise ComposeError(f"{file}: {(error.strerror or str(error)).lower()}") from None


_READ: list[str] = []


def _stdin() -> str:
    if not _READ:  # read twice: for the project's name, and for all
        _READ.append(sys.stdin.read())
    return _READ[0]


def shown(file: str) -> str:
    """A file as people see it: below the current directory, relative to it."""
    if file == "-":
        return "<standard input>"
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def _settle_paths(model: Map, directory: str) -> None:
    for service in (model.get("services") or {}).values():
        if isinstance(service, Map):
            _settle_service(service, directory)
    for section in ("secrets", "configs"):
        for entry in (model.get(section) or {}).values():
            if isinstance(entry, Map) and isinstance(entry.get("file"), str):
                entry["file"] = absolute(entry["file"], directory)
    for entry in (model.get("volumes") or {}).values():
        options = entry.get("driver_opts") if isinstance(entry, Map) else None
        if (
            isinstance(options, Map)
            and options.get("o") == "bind"
            and str(options.get("device", "")).startswith(".")
        ):
            options["device"] = absolute(options["device"], directory)


def _settle_service(service: Map, directory: str) -> None:
    build = service.get("build")
    if isinstance(build, Map) and not isinstance(build.get("context"), reading.Reset):
        context = build.get("context") or "."
        build["context"] = context if "://" in context else absolute(context, directory)
    for mount in service.get("volumes") or []:
        if isinstance(mount, Map) and mount["type"] == "bind":
            mount["source"] = absolute(mount["source"], directory)
    for entry in service.get("env_file") or []:
        if isinstance(entry, Map):
            entry["path"] = absolute(entry["path"], directory)
    if isinstance(service.get("label_file"), Seq):
        service["label_file"] = Seq(absolute(path, directory) for path in service["label_file"])


def absolute(path: Any, directory: str) -> str:
    return os.path.normpath(os.path.join(directory, os.path.expanduser(str(path))))
