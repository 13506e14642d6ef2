"""Short forms to long ones: ``"8080:80"`` → a mapping, ``[A=1]`` → ``{A: 1}``.

Merging, comparing and starting then need to know one form of each.

Source: Compose specification, 05-services.md.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from typing import Any

from minidock.compose.reading import ComposeError, Map, Place, Reset, Seq
from minidock.errors import MinidockError

Place_ = Place | None


def file(model: Map) -> Map:
    """Bring a checked file into its long form, in place."""
    for key, service in (model.get("services") or {}).items():
        if isinstance(service, Map):
            try:
                _service(service)
            except ComposeError:
                raise
            except MinidockError as error:
                place = model["services"].places.get(key)
                raise ComposeError(f"services.{key}: {error.message}", place, hint=error.hint) from None
    for section in ("networks", "volumes", "secrets", "configs"):
        entries: Map = model.get(section) or Map()
        for key in entries:
            if entries[key] is None:
                entries[key] = Map()
            if isinstance(entries[key], Map):
                _resource(entries[key])
    for number, entry in enumerate(model.get("include") or []):
        value = Map({"path": entry}) if isinstance(entry, str) else entry
        for key in ("path", "env_file"):
            if isinstance(value.get(key), str):
                value[key] = Seq([value[key]])
        model["include"][number] = value
    return model


def _resource(entry: Map) -> None:
    _change(entry, "labels", pairs)
    external = entry.get("external")
    if isinstance(external, Map):  # the form of 2017: external: {name: x}
        entry["external"] = True
        if external.get("name"):
            entry.setdefault("name", external["name"])


def _change(values: Map, key: str, form: Callable[[Any], Any]) -> None:
    """Replace one value by its long form; what is a !reset, or not there, stays."""
    value = values.get(key)
    if value is None or isinstance(value, Reset):
        return
    try:
        made = form(value)
    except ComposeError as error:
        raise ComposeError(error.message, values.places.get(key), hint=error.hint) from None
    except MinidockError as error:
        raise ComposeError(f"{key}: {error.message}", values.places.get(key), hint=error.hint) from None
    if isinstance(made, Map | Seq):
        made.replaces = made.replaces or getattr(value, "replaces", False)
    values[key] = made


def _service(service: Map) -> None:
    for key in ("environment", "labels", "annotations", "sysctls"):
        _change(service, key, pairs)
    for key in ("dns", "dns_search", "tmpfs", "label_file"):
        _change(service, key, listed)
    for key in ("command", "entrypoint"):
        _change(service, key, words)
    for key in ("secrets", "configs"):
        _change(service, key, _each(lambda item: Map({"source": item}) if isinstance(item, str) else item))
    _change(service, "build", lambda value: Map({"context": value}) if isinstance(value, str) else value)
    if isinstance(service.get("build"), Map):
        _build(service["build"])
    _change(service, "depends_on", _dependencies)
    _change(service, "devices", _each(_device))
    _change(service, "env_file", _env_files)
    _change(service, "expose", _each(str))
    _change(service, "group_add", _each(str))
    _change(service, "extends", lambda value: Map({"service": value}) if isinstance(value, str) else value)
    _change(service, "extra_hosts", hosts)
    _change(service, "healthcheck", _health_check)
    _change(service, "logging", _logging)
    _change(service, "networks", lambda value: Map(dict.fromkeys(value)) if isinstance(value, Seq) else value)
    _change(service, "ports", _ports)
    _change(service, "volumes", _each(_mount))
    if isinstance(service.get("deploy"), Map):
        _change(service["deploy"], "labels", pairs)
    elif "deploy" in service and service["deploy"] is None:
        del service["deploy"]


def _each(form: Callable[[Any], Any]) -> Callable[[Seq], Seq]:
    def all_of(items: Seq) -> Seq:
        return Seq([form(item) for item in items], items.places)

    return all_of


def _build(build: Map) -> None:
    for key in ("args", "labels", "additional_contexts", "ssh"):
        _change(build, key, pairs)
    _change(build, "extra_hosts", hosts)
    _change(build, "secrets", _each(lambda item: Map({"source": item}) if isinstance(item, str) else item))


def text_of(value: Any) -> str | None:
    """A value of environment or labels as text: ``true``, ``8080``; None stays None."""
    if value is None or isinstance(value, Reset):
        return value  # type: ignore[return-value] # !reset is taken away when the files are merged
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def pairs(value: Any) -> Map:
    """``["A=1", "B"]`` → ``{A: "1", B: None}``."""
    if isinstance(value, Map):
        return Map({key: text_of(item) for key, item in value.items()}, value.places)
    made = Map()
    for number, entry in enumerate(value):
        name, equals, text = str(entry).partition("=")
        made[name] = text if equals else None
        if number < len(value.places):
            made.places[name] = value.places[number]
    return made


def listed(value: Any) -> Seq:
    return Seq([value]) if isinstance(value, str) else value


def words(value: Any) -> Seq:
    """A command as a list: a text is split as a shell would split it (but no shell runs it)."""
    if not isinstance(value, str):
        return Seq(value)
    try:
        return Seq(shlex.split(value))
    except ValueError as error:
        raise ComposeError(f"cannot split the command {value!r}: {str(error).lower()}") from None


def hosts(value: Any) -> Seq:
    """``{db: 10.0.0.1}`` and ``["db:10.0.0.1"]`` → ``["db=10.0.0.1"]``."""
    made = Seq()
    if isinstance(value, Map):
        for name, addresses in value.items():
            made += [f"{name}={each}" for each in ([addresses] if isinstance(addresses, str) else addresses)]
        return made
    for entry in value:
        name, separator, address = entry.partition("=" if "=" in entry else ":")
        if not separator or not name:
            raise ComposeError(f"extra_hosts: {entry!r} is not name=address")
        made.append(f"{name}={address}")
    return made


def _dependencies(value: Any) -> Map:
    if isinstance(value, Seq):
        value = Map({name: Map({"condition": "service_started"}) for name in value})
    for each in value.values():
        if isinstance(each, Map):
            each.setdefault("required", True)
    return Map(value, value.places)


def _device(value: Any) -> Map:
    if isinstance(value, Map):
        value.setdefault("target", value["source"])
        value.setdefault("permissions", "rwm")
        return value
    from minidock import notation

    source, target, permissions = notation.device(value).split(":")
    return Map({"source": source, "target": target, "permissions": permissions})


def _env_files(value: Any) -> Seq:
    entries = [value] if isinstance(value, str) else value
    made = Seq()
    for entry in entries:
        made.append(Map({"path": entry, "required": True}) if isinstance(entry, str) else entry)
        made[-1].setdefault("required", True)
    return made


def _health_check(value: Map) -> Map:
    test = value.get("test")
    if isinstance(test, str):
        value["test"] = Seq(["CMD-SHELL", test])
    elif isinstance(test, list) and (not test or test[0] not in ("NONE", "CMD", "CMD-SHELL")):
        raise ComposeError('healthcheck.test: the first item must be "NONE", "CMD" or "CMD-SHELL"')
    return value


def _logging(value: Map) -> Map:
    options = value.get("options")
    if isinstance(options, Map):
        value["options"] = Map({key: text_of(item) or "" for key, item in options.items()}, options.places)
    return value


_PORT = re.compile(
    r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]]*):)??(?:(?P<outside>[0-9-]*):)?(?P<inside>[0-9-]+)(?:/(?P<kind>\w+))?"
)


def _ports(value: Seq) -> Seq:
    made = Seq()
    for number, item in enumerate(value):
        found = [_long_port(item)] if isinstance(item, Map) else _short_port(str(item))
        made += found
        made.places += value.places[number : number + 1] * len(found)
    return made


def _long_port(item: Map) -> Map:
    if "target" not in item:
        raise ComposeError('ports: the key "target" is missing')
    if not isinstance(item["target"], int):
        raise ComposeError(f"ports: target must be a number, not {item['target']!r}")
    if item.get("published") is not None:
        item["published"] = str(item["published"])
    item.setdefault("protocol", "tcp")
    item.setdefault("mode", "ingress")
    return item


def _short_port(text: str) -> list[Map]:
    """``127.0.0.1:8000-8001:80-81/udp`` → one mapping for each port inside."""
    found = _PORT.fullmatch(text)
    if not found:
        raise ComposeError(f"ports: {text!r} is not [ADDRESS:][HOST:]CONTAINER[/PROTOCOL]")
    first, last = _span(found["inside"], text)
    outside = found["outside"] or ""
    low, high = _span(outside, text) if outside else (0, 0)
    if outside and high - low != last - first and first != last:
        raise ComposeError(f"ports: {text!r}: the two ranges differ in length")
    made = []
    for step in range(last - first + 1):
        port = Map({"mode": "ingress"})
        if found["host"]:
            port["host_ip"] = found["host"].strip("[]")
        port["target"] = first + step
        if outside:
            port["published"] = outside if first == last else str(low + step)
        port["protocol"] = (found["kind"] or "tcp").lower()
        made.append(port)
    return made


def _span(text: str, whole: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise ComposeError(f"ports: {whole!r}: {text!r} is no port") from None
    if not 0 < low <= high < 65536:
        raise ComposeError(f"ports: {whole!r}: ports are numbers from 1 to 65535")
    return low, high


def _mount(value: Any) -> Map:
    if isinstance(value, Map):
        if isinstance(value.get("volume"), Map):
            _change(value["volume"], "labels", pairs)
        if "target" not in value:
            raise ComposeError('volumes: the key "target" is missing')
        if value["type"] == "bind" and not value.get("source"):
            raise ComposeError('volumes: a bind needs the key "source"')
        return value
    return _short_mount(value)


def _short_mount(text: str) -> Map:
    """``data:/data:ro``, ``./site:/www``, ``/anonymous``; host paths begin with ``.``, ``/``, ``~``."""
    source, target, modes = (*text.split(":"), "", "")[:3]
    if text.count(":") > 2 or not source:
        raise ComposeError(f"volumes: {text!r} is not [SOURCE:]TARGET[:MODE]")
    if not target:
        source, target = "", source
    if not target.startswith("/"):
        raise ComposeError(f"volumes: {text!r}: the path inside must be absolute")
    on_host = source.startswith((".", "/", "~"))
    made = Map({"type": "bind" if on_host else "volume"})
    if source:
        made["source"] = source
    made["target"] = os.path.normpath(target)
    details = Map({"create_host_path": True}) if on_host else Map()
    for mode in modes.split(",") if modes else []:
        if mode in ("ro", "rw"):
            made["read_only"] = mode == "ro"
        elif mode == "nocopy" and not on_host:
            details["nocopy"] = True
        elif mode in ("z", "Z") and on_host:
            details["selinux"] = mode
        elif mode in ("private", "rprivate", "slave", "rslave", "shared", "rshared") and on_host:
            details["propagation"] = mode
        elif mode not in ("cached", "delegated", "consistent"):
            raise ComposeError(
                f"volumes: {text!r}: unknown mode {mode!r}", hint="Modes: ro, rw, z, Z, nocopy."
            )
    if made.get("read_only") is False:
        del made["read_only"]
    made["bind" if on_host else "volume"] = details
    return made
