"""``minidock inspect``, ``top``, ``diff``: looking into containers and images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from minidock.cli import table
from minidock.cli.context import Context, report
from minidock.cli.flags import Command, Flag, Values, boolean
from minidock.cli.templates import Template, TemplateError
from minidock.errors import MinidockError, NotFound

Look = Callable[[str], Any]


def inspect(context: Context, values: Values, arguments: list[str]) -> int:
    """Show everything about containers or images as JSON, or what a template picks."""
    engine, kind = context.engine, values["type"]

    def container(name: str) -> Any:
        return engine.inspect(name, size=values["size"])

    looks: dict[str, list[Look]] = {
        "": [container, engine.image_inspect, engine.inspect_volume, engine.network_inspect],
        "container": [container],
        "image": [engine.image_inspect],
        "network": [engine.network_inspect],
        "volume": [engine.inspect_volume],
    }
    if kind not in looks:
        known = ", ".join(f'"{name}"' for name in looks if name)
        raise MinidockError(f'unknown type: "{kind}": must be one of {known}', exit_code=1)
    return show(arguments, looks[kind], kind or "object", values["format"])


def _container_inspect(context: Context, values: Values, arguments: list[str]) -> int:
    return inspect(context, {**values, "type": "container"}, arguments)


def _image_inspect(context: Context, values: Values, arguments: list[str]) -> int:
    return inspect(context, {**values, "type": "image", "size": False}, arguments)


def show(names: list[str], looks: list[Look], kind: str, form: str | None) -> int:
    """Print what the first of *looks* that knows a name tells of it: all as JSON, or by a template."""
    template = Template(form) if form and form != "json" else None
    found, failures = [], []
    for name in names:
        try:
            found.append(_first(name, looks, kind))
        except MinidockError as error:
            failures.append(error)
    if template:
        shown = []
        for value in found:
            try:
                shown.append(template.render(value))
            except TemplateError as error:
                failures.append(TemplateError(f"template parsing error: {error.message}"))
        print("\n".join(shown))  # Docker, too, prints an empty line where it found nothing
    elif form == "json":
        print(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False) if found else "[]")
    sys.stdout.flush()
    for failure in failures:
        report(failure)
    return 1 if failures else 0


def _first(name: str, looks: list[Look], kind: str) -> Any:
    for look in looks:
        try:
            return look(name)
        except NotFound:
            if len(looks) == 1:
                raise
    raise NotFound(f"No such {kind}: {name}")


def top(context: Context, values: Values, arguments: list[str]) -> int:
    """Display the running processes of a container."""
    name, *options = arguments
    titles, rows = context.engine.top(name, options)
    table.write([titles, *rows], minimum=20)
    return 0


def diff(context: Context, values: Values, arguments: list[str]) -> int:
    """What a container changed in its filesystem: A added, C changed, D deleted."""
    for change in context.engine.diff(arguments[0]):
        print(f"{change.kind} {change.path}")
    return 0


_FORMAT = Flag("format", "f", "string", "Format output using a Go template, or 'json'")
_SIZE = boolean("size", "s", "Display total file sizes if the type is container")

COMMANDS = {
    "inspect": Command(
        "inspect [OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on containers, images and volumes",
        inspect,
        (_FORMAT, _SIZE, Flag("type", help="Only inspect objects of the given type", default="")),
        least=1,
    ),
    "container inspect": Command(
        "container inspect [OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        _container_inspect,
        (_FORMAT, _SIZE),
        least=1,
    ),
    "image inspect": Command(
        "image inspect [OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        _image_inspect,
        (_FORMAT,),
        least=1,
    ),
    "top": Command(
        "top CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        top,
        least=1,
        interspersed=False,
    ),
    "diff": Command(
        "diff CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        diff,
        least=1,
        most=1,
    ),
}
