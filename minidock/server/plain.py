"""Plain values out of a JSON object, each of the type that it must have. All raise InvalidInput.

A key that is missing, or null, gives the empty value of its type. Docker's server reads names whatever their
case, and clients rely on it: the SDK for Python sends ``detachKeys``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock.errors import InvalidInput

Json = dict[str, Any]


def _typed(
    where: Json, key: str, kind: type | tuple[type, ...], what: str, default: Callable[[], Any]
) -> Any:
    value = where.get(key)
    if value is None:
        value = next((found for name, found in where.items() if name.lower() == key.lower()), None)
    if value is None:
        return default()
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise InvalidInput(f"invalid JSON: {key} must be {what}")
    return value


def text(where: Json, key: str) -> str:
    found: str = _typed(where, key, str, "a string", str)
    return found


def flag(where: Json, key: str) -> bool:
    return bool(_typed(where, key, bool, "true or false", bool))


def number(where: Json, key: str) -> int | None:
    found: int | None = _typed(where, key, int, "a whole number", lambda: None)
    if found is not None and not -(1 << 63) <= found < 1 << 63:
        raise InvalidInput(f"invalid JSON: {key} must be a number of 64 bits")
    return found


def table(where: Json, key: str) -> Json:
    found: Json = _typed(where, key, dict, "an object", dict)
    return found


def pairs(where: Json, key: str) -> dict[str, str]:
    """An object whose values are strings: what else a label has, no client could read again."""
    found = table(where, key)
    if not all(isinstance(each, str | None) for each in found.values()):
        raise InvalidInput(f"invalid JSON: {key} must be an object of strings")
    return {name: each or "" for name, each in found.items()}


def tables(where: Json, key: str) -> list[Json]:
    found = _typed(where, key, list, "a list of objects", list)
    if not all(isinstance(each, dict) for each in found):
        raise InvalidInput(f"invalid JSON: {key} must be a list of objects")
    return list(found)


def words(where: Json, key: str) -> list[str] | None:
    """A list of strings; one string stands for a list of one."""
    found = _typed(where, key, (list, str), "a list of strings", lambda: None)
    if isinstance(found, str):
        return [found]
    if found is None:
        return None
    if not all(isinstance(each, str) for each in found):
        raise InvalidInput(f"invalid JSON: {key} must be a list of strings")
    return list(found)
