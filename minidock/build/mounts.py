"""``RUN --mount=type=cache,target=/root/.cache``: what a mount says.

Each field is ``key=value``; ``readonly``, ``readwrite`` and ``required`` may stand alone. Variables
count in every value but that of ``from``: which stages a build needs must be known before it starts.

Source: Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from minidock import notation
from minidock.build.forms import RunMount
from minidock.build.problems import SyntaxProblem, meant
from minidock.errors import InvalidInput

KINDS = ("bind", "cache", "tmpfs", "secret")
SHARINGS = ("shared", "private", "locked")
_SWITCHES = ("readonly", "readwrite", "required")
_KEYS = ("type", "from", "source", "target", "id", "sharing", "size", "mode", "uid", "gid", "env", *_SWITCHES)
_OTHER_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_OTHER_NAMES |= {"rw": "readwrite"}
_ONLY_FOR = {"size": ("tmpfs",), "required": ("secret",), "env": ("secret",), "sharing": ("cache",)}
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_VARIABLE = re.compile(r"\$.")


def read(text: str, expand: Callable[[str], str] | None = None) -> RunMount:
    """The mount that ``--mount=text`` asks for.

    *expand* puts the variables into a value. Without it values that hold a variable stand as they are,
    or are missing where they must be numbers, and whatever depends on them is not yet checked.
    Raises SyntaxProblem, in BuildKit's words.
    """
    values = _values(text, expand)
    waiting = {name for name, value in values.items() if "$" in value} if expand is None else set()
    sure = {name: value for name, value in values.items() if name not in waiting}
    kind = _one_of(KINDS, "mount type", sure.get("type", "bind"))
    if not waiting:
        _check(kind, sure)
    identifier, target = values.get("id", ""), values.get("target", "")
    if kind == "secret" and not waiting:
        identifier = identifier or values.get("source") or posixpath.basename(target)
        if not target and "env" not in values:
            target = f"/run/secrets/{posixpath.basename(identifier)}"
    return RunMount(
        kind=values.get("type", kind) if "type" in waiting else kind,
        target=target,
        source=values.get("source", ""),
        from_stage=values.get("from", ""),
        read_only=_read_only(kind, sure),
        identifier=identifier,
        sharing=_one_of(SHARINGS, "sharing value", sure.get("sharing", "shared")),
        mode=_number(sure, "mode", 8),
        uid=_number(sure, "uid", 10),
        gid=_number(sure, "gid", 10),
        size=_size(sure["size"]) if "size" in sure else None,
        required="required" in sure and _truth("required", sure["required"]),
        env=values.get("env", ""),
        text=text,
    )


def no_variable(name: str, value: str, instead: str) -> None:
    """Raise SyntaxProblem when *value*, which must be known before the build starts, holds a variable."""
    if _VARIABLE.search(value):
        raise SyntaxProblem(f"{name}, {instead}", hint="ARG x, then FROM $x AS name: use that name here.")


def _values(text: str, expand: Callable[[str], str] | None) -> dict[str, str]:
    """The fields by the long form of their keys, in the order in which they count: the last one wins."""
    import csv  # here, since few Dockerfiles have mounts

    values: dict[str, str] = {}
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        name = _OTHER_NAMES.get(key.lower(), key.lower())
        if not equals and name not in _SWITCHES:
            raise SyntaxProblem(f"invalid field '{field}' must be a key=value pair")
        if name not in _KEYS:
            near = meant(key, [*_KEYS, *_OTHER_NAMES])
            raise SyntaxProblem(f"unexpected key '{key.lower()}' in '{field}'{near}")
        if name == "from":
            no_variable("'from' doesn't support variable expansion", value, "define alias stage instead")
        values.pop(name, None)
        values[name] = expand(value) if expand and equals else value or ("" if equals else "true")
    return values


def _check(kind: str, values: dict[str, str]) -> None:
    """Raise SyntaxProblem for fields that make no sense together."""
    for name, kinds in _ONLY_FOR.items():
        if name in values and kind not in kinds:
            raise SyntaxProblem(f"unexpected key '{name}' for mount type '{kind}'")
    for name in ("mode", "uid", "gid"):
        if name in values and kind not in ("secret", "cache"):
            raise SyntaxProblem(f'{name} not allowed for "{kind}" type mounts')
    if kind == "secret":
        if values.get("from"):
            raise SyntaxProblem("secret mount should not have a from")
        if not any(values.get(name) for name in ("id", "source", "target")):
            raise SyntaxProblem("invalid secret mount. one of source, target required")
        if values.get("id") and values.get("source"):
            raise SyntaxProblem("both source and id can't be set")


def _one_of(options: tuple[str, ...], what: str, value: str) -> str:
    if value.lower() not in options:
        near = meant(value, options)
        raise SyntaxProblem(f'unsupported {what} "{value}"{near}', hint=f"Possible: {', '.join(options)}.")
    return value.lower()


def _read_only(kind: str, values: dict[str, str]) -> bool:
    result = kind in ("bind", "secret")
    for name, value in values.items():
        if name in ("readonly", "readwrite"):
            result = _truth(name, value) == (name == "readonly")
    return result


def _truth(name: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise SyntaxProblem(f"invalid value for {name}: {value}", hint="Write true or false.")
    return value in _TRUE


def _number(values: dict[str, str], name: str, base: int) -> int | None:
    if name not in values:
        return None
    value = values[name]
    if not re.fullmatch("[0-7]+" if base == 8 else "[0-9]+", value) or int(value, base) >= 1 << 32:
        raise SyntaxProblem(f"invalid value {value} for {name}")
    return int(value, base)


def _size(value: str) -> int:
    try:
        return notation.size(value)
    except InvalidInput as error:
        raise SyntaxProblem(f"invalid value for size: {value}", hint=error.hint) from None
