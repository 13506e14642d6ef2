"""Variables in compose files: ``$NAME``, ``${NAME:-default}`` and their kin; ``$$`` is one dollar.

Source: Compose specification, 12-interpolation.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from minidock.compose.reading import ComposeError, Map, Place, Replacement, Reset, Seq

Warn = Callable[[str], object]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODIFIER = re.compile(r":?[-?+]")


class Filled(str):
    """A text in which variables were replaced: where a number is wanted, it may stand for one."""

    __slots__ = ()


class Variables:
    """The variables that a project sees. Who asks for one that is not set is told so once."""

    def __init__(self, values: Mapping[str, str], warn: Warn = lambda _: None) -> None:
        self.values = dict(values)
        self._warn, self._missing = warn, set[str]()

    def get(self, name: str) -> str | None:
        return self.values.get(name)

    def blank(self, name: str) -> str:
        if name not in self._missing:
            self._missing.add(name)
            self._warn(f'the variable "{name}" is not set: it counts as an empty text')
        return ""


def fill(value: Any, variables: Variables, path: str = "", place: Place | None = None) -> Any:
    """*value* with the variables in all its texts replaced; keys stay as they are."""
    if isinstance(value, Map):
        filled = Map(
            {
                key: fill(item, variables, f"{path}.{key}".lstrip("."), value.places.get(key, place))
                for key, item in value.items()
            },
            value.places,
        )
        filled.replaces = value.replaces
        return filled
    if isinstance(value, Seq):
        places: list[Place | None] = [*value.places] or [place] * len(value)
        items = Seq(
            [
                fill(item, variables, f"{path}[{number}]", where)
                for number, (item, where) in enumerate(zip(value, places, strict=False))
            ],
            value.places,
        )
        items.replaces = value.replaces
        return items
    if isinstance(value, Reset | Replacement) or not isinstance(value, str) or "$" not in value:
        return value
    try:
        return Filled(text(value, variables))
    except ComposeError as error:
        raise ComposeError(f"{path}: {error.message}" if path else error.message, place) from None


def text(template: str, variables: Variables) -> str:
    """*template* with its variables replaced. Raises ComposeError for one that is required, or malformed."""
    made, rest = [], template
    while rest:
        before, dollar, rest = rest.partition("$")
        made.append(before)
        if not dollar:
            break
        if rest.startswith("$"):
            made.append("$")
            rest = rest[1:]
        elif rest.startswith("{"):
            inside, rest = _braced(rest, template)
            made.append(_expanded(inside, variables, template))
        elif found := _NAME.match(rest):
            value = variables.get(found[0])
            made.append(variables.blank(found[0]) if value is None else value)
            rest = rest[found.end() :]
        else:
            raise _invalid(template)
    return "".join(made)


def _braced(rest: str, template: str) -> tuple[str, str]:
    """(what stands in the braces that *rest* begins with, what follows them)."""
    depth = 0
    for at, character in enumerate(rest):
        if character == "{" and (at == 0 or rest[at - 1] == "$"):
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return rest[1:at], rest[at + 1 :]
    raise _invalid(template)


def _expanded(inside: str, variables: Variables, template: str) -> str:
    found = _NAME.match(inside)
    if not found:
        raise _invalid(template)
    name, rest = found[0], inside[found.end() :]
    value = variables.get(name)
    if not rest:
        return variables.blank(name) if value is None else value
    modifier = _MODIFIER.match(rest)
    if not modifier:
        raise _invalid(template)
    word, kind = rest[modifier.end() :], modifier[0]
    given = value is not None and (value != "" or not kind.startswith(":"))
    if kind.endswith("-"):
        return value or "" if given else text(word, variables)
    if kind.endswith("+"):
        return text(word, variables) if given else ""
    if not given:
        why = text(word, variables) or ("is empty or not set" if kind.startswith(":") else "is not set")
        raise ComposeError(f'required variable "{name}": {why}')
    return value or ""


def _invalid(template: str) -> ComposeError:
    return ComposeError(
        f"malformed variable in {template!r} (write $NAME, ${{NAME:-default}}, or $$ for a dollar)"
    )
