"""Does a file say what compose understands? Each mistake with its file, its line and the nearest key."""

from __future__ import annotations

import difflib
import re
from typing import Any

from minidock.compose.interpolation import Filled
from minidock.compose.reading import ComposeError, Map, Place, Reset, Seq
from minidock.compose.rules import Anything, Each, Is, Keys, Names, Or, Rule

_WORDS = {
    "text": "a text",
    "int": "a whole number",
    "number": "a number",
    "bool": "true or false",
    "none": "empty",
}


def check(value: Any, rule: Rule, path: str, place: Place) -> Any:
    """*value*, with texts that came from variables made numbers where only numbers may stand.

    Raises ComposeError for the first mistake.
    """
    if isinstance(value, Reset) or isinstance(rule, Anything):
        return value
    chosen = _fitting(value, rule)
    if isinstance(chosen, Keys) and isinstance(value, Map):
        return _keys(value, chosen, path, place)
    if isinstance(chosen, Names) and isinstance(value, Map):
        return _names(value, chosen, path, place)
    if isinstance(chosen, Each) and isinstance(value, Seq):
        return _items(value, chosen, path, place)
    if isinstance(chosen, Is):
        return _single(value, chosen, path, place)
    raise ComposeError(f"{path or 'the file'} must be {_wanted(rule)}, not {_shown(value)}", place)


def _fitting(value: Any, rule: Rule) -> Rule | None:
    """The rule among alternatives that is about values of this shape."""
    kinds: tuple[type, ...] = (Is,)
    if isinstance(value, Map):
        kinds = (Keys, Names)
    elif isinstance(value, Seq):
        kinds = (Each,)
    for each in rule.rules if isinstance(rule, Or) else (rule,):
        if isinstance(each, kinds):
            return each
        if isinstance(each, Or) and (found := _fitting(value, each)) is not None:
            return found
    return None


def _keys(value: Map, rule: Keys, path: str, place: Place) -> Map:
    for key in value:
        if key in rule.keys or (key.startswith("x-") and not rule.strict):
            continue
        where = path or "the file"
        close = difflib.get_close_matches(key, rule.keys, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Known there: {', '.join(sorted(rule.keys))}."
        raise ComposeError(f'unknown key "{key}" in {where}', value.places.get(key, place), hint=hint)
    for key in rule.required:
        if key not in value:
            raise ComposeError(f'{path}: the key "{key}" is missing', place)
    checked = {
        key: check(item, rule.keys[key], _below(path, key), value.places.get(key, place))
        if key in rule.keys
        else item
        for key, item in value.items()
    }
    return _like(value, checked)


def _names(value: Map, rule: Names, path: str, place: Place) -> Map:
    for key in value:
        if not re.fullmatch(rule.pattern, key) and not (key.startswith("x-") and path == ""):
            raise ComposeError(
                f'"{key}" is no name for {path}',
                value.places.get(key, place),
                hint=f"Allowed: {rule.pattern}",
            )
    checked = {
        key: check(item, rule.value, _below(path, key), value.places.get(key, place))
        for key, item in value.items()
    }
    return _like(value, checked)


def _like(value: Map, items: dict[str, Any]) -> Map:
    made = Map(items, value.places)
    made.replaces = value.replaces
    return made


def _items(value: Seq, rule: Each, path: str, place: Place) -> Seq:
    places = value.places or [place] * len(value)
    made = Seq(
        [check(item, rule.item, f"{path}[{n}]", places[n]) for n, item in enumerate(value)], value.places
    )
    if rule.unique:
        for number, item in enumerate(made):
            if item in made[:number]:
                raise ComposeError(f"{path}: {_shown(item)} stands there twice", places[number])
    made.replaces = value.replaces
    return made


def _single(value: Any, rule: Is, path: str, place: Place) -> Any:
    kinds = rule.kinds.split()
    if isinstance(value, Filled) and "text" in kinds and len(kinds) > 1:
        value = _as_number(value, kinds)
    if not any(_is(value, kind) for kind in kinds):
        raise ComposeError(
            f"{path} must be {_wanted(rule)}, not {_shown(value)}", place, hint=_quoting(value, kinds)
        )
    if (
        isinstance(value, str)
        and "text" in kinds
        and len(kinds) == 2
        and kinds[0] in ("bool", "int", "number")
    ):
        return _meant(value, kinds[0], path, place)
    if rule.choices and value not in rule.choices:
        close = difflib.get_close_matches(str(value), rule.choices, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else None
        raise ComposeError(
            f"{path} must be one of {', '.join(rule.choices)}, not {_shown(value)}", place, hint=hint
        )
    if rule.pattern and not re.fullmatch(rule.pattern, str(value)):
        raise ComposeError(f"{path}: {_shown(value)} is not allowed", place, hint=f"Allowed: {rule.pattern}")
    return value


def _as_number(value: str, kinds: list[str]) -> Any:
    if "int" in kinds and re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    if "bool" in kinds and value in ("true", "false"):
        return value == "true"
    return value


def _meant(value: str, kind: str, path: str, place: Place) -> Any:
    """``"true"`` in quotes means true. Numbers may have units (64m), which their readers know."""
    if kind == "bool":
        if value.lower() in ("true", "1", "yes", "y", "on"):
            return True
        if value.lower() in ("false", "0", "no", "n", "off"):
            return False
        return value
    if re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    return value


def _is(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "none":
        return value is None
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quoting(value: Any, kinds: list[str]) -> str | None:
    if "text" in kinds and isinstance(value, int | float):
        return f'Put it in quotes: "{str(value).lower()}".'
    return None


def _wanted(rule: Rule) -> str:
    if isinstance(rule, Or):
        return " or ".join(dict.fromkeys(_wanted(each) for each in rule.rules))
    if isinstance(rule, Each):
        return "a list"
    if isinstance(rule, Keys | Names):
        return "a mapping"
    return " or ".join(_WORDS[kind] for kind in rule.kinds.split())


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, str)
        else str(value)
    )


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
