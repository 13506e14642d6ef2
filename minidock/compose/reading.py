"""Compose files as values that know where they stand: YAML in, dictionaries with line numbers out.

Scalars mean what compose says (YAML 1.2): ``yes`` and ``22:30`` are texts, only ``true`` and ``false`` are
booleans. ``<<`` merges mappings; the tags ``!reset`` and ``!override`` speak to merging.py.

Source: Compose specification, 10-fragments.md, 13-merge.md; YAML 1.2, core schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from minidock.errors import InvalidInput

LARGEST = 100_000  # values in one file, aliases unfolded: ten lines of YAML can ask for a billion


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Map(dict[str, Any]):
    """A mapping. *places* has the line of each key; with *replaces* (!override) it does not merge."""

    def __init__(self, values: Any = (), places: dict[str, Place] | None = None) -> None:
        super().__init__(values)
        self.places = dict(places or {})
        self.replaces = False


class Seq(list[Any]):
    """A list. *places* has the line of each item, as far as they are known."""

    def __init__(self, values: Any = (), places: list[Place] | None = None) -> None:
        super().__init__(values)
        self.places = list(places or [])
        self.replaces = False


class Reset:
    """``!reset``: what stood here in an earlier file goes."""


class Replacement(str):
    """A text under ``!override``; it would replace another text in any case."""

    __slots__ = ()


class ComposeError(InvalidInput):
    """What is wrong in a compose file, and where."""

    def __init__(self, what: str, place: Place | None = None, *, hint: str | None = None) -> None:
        super().__init__(f"{place}: {what}" if place else what, hint=hint)


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """PyYAML with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML looks here)


_KINDS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}
for _kind, (_pattern, _first) in _KINDS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), _first)


def parse(text: str, file: str) -> Any:
    """The value of one YAML document. Raises ComposeError with the line."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "not valid YAML"
        raise ComposeError(f"not valid YAML: {what}", Place(file, mark.line + 1 if mark else 0)) from None
    except yaml.YAMLError as error:
        raise ComposeError(f"not valid YAML: {str(error).splitlines()[0]}", Place(file, 0)) from None
    return None if node is None else _Builder(file).value(node)


class _Builder:
    """Makes values of PyYAML's nodes."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._made = 0
        self._open: list[Any] = []

    def place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def value(self, node: Any) -> Any:
        self._made += 1
        if self._made > LARGEST:
            raise ComposeError(f"more than {LARGEST} values", self.place(node), hint="Too many aliases?")
        if node in self._open:
            raise ComposeError("an anchor contains itself", self.place(node))
        if node.tag == "!reset":
            return Reset()
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                made: Any = self._mapping(node)
            elif isinstance(node, yaml.SequenceNode):
                made = Seq(
                    [self.value(each) for each in node.value], [self.place(each) for each in node.value]
                )
            else:
                return self._scalar(node)
        finally:
            self._open.pop()
        made.replaces = node.tag == "!override"
        return made

    def _mapping(self, node: Any) -> Map:
        found, merged = Map(), Map()
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._merge(merged, value_node)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ComposeError("a key must be a text", self.place(key_node))
            key = str(key_node.value)
            if key in found:
                raise ComposeError(
                    f'the key "{key}" stands here twice, first in line {found.places[key].line}',
                    self.place(key_node),
                )
            found[key] = self.value(value_node)
            found.places[key] = self.place(key_node)
        for key, value in merged.items():
            if key not in found:
                found[key] = value
                found.places[key] = merged.places[key]
        return found

    def _merge(self, merged: Map, node: Any) -> None:
        """``<<``: the keys of one mapping or of several, of which the first counts."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            value = self.value(source)
            if not isinstance(value, Map):
                raise ComposeError("<< takes a mapping, or a list of mappings", self.place(source))
            for key in value:
                if key not in merged:
                    merged[key] = value[key]
                    merged.places[key] = value.places[key]

    def _scalar(self, node: Any) -> Any:
        text, kind = node.value, node.tag.rpartition(":")[2]
        if node.tag == "!override":
            return Replacement(text)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return _integer(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if kind in ("str", "merge", "timestamp", "value"):
            return str(text)
        raise ComposeError(f"unknown tag {node.tag}", self.place(node), hint="Tags here: !reset, !override.")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    if digits.startswith("0x"):
        return sign * int(digits, 16)
    if len(digits) > 1 and digits.startswith("0"):  # 0444, as people write modes
        return sign * int(digits.lstrip("0o") or "0", 8)
    return sign * int(digits)


def plain(value: Any) -> Any:
    """*value* without places: what json and yaml can write."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
