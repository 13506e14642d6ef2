"""Several compose files make one: what a later file says changes what an earlier one said.

Both are in their long form (forms.py). Mappings merge key by key, lists grow, single values are replaced;
what runs (command, entrypoint, the test of a health check) is replaced as a whole. ``!reset`` takes a value
away, ``!override`` replaces it.

Source: Compose specification, 13-merge.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from minidock.compose.reading import Map, Replacement, Reset, Seq

_WHOLE = {"command", "entrypoint", "test"}
_TARGET: Callable[[Any], Any] = lambda item: posixpath.normpath(str(item.get("target", "")))  # noqa: E731
_GRANT: Callable[[Any], Any] = lambda item: item.get("target") or item["source"]  # noqa: E731
# Lists in which an item takes the place of another with the same key.
_SAME: dict[str, Callable[[Any], Any]] = {
    "ports": lambda item: tuple(
        str(item.get(key, "")) for key in ("host_ip", "published", "target", "protocol")
    ),
    "volumes": _TARGET,
    "devices": _TARGET,
    "secrets": _GRANT,
    "configs": _GRANT,
    "env_file": lambda item: item["path"],
}


def merge(base: Map, more: Map) -> Map:
    """A new mapping: *base*, changed by *more*."""
    made = Map(base, base.places)
    for key, value in more.items():
        if isinstance(value, Reset):
            made.pop(key, None)
            continue
        made[key] = _merged(key, base.get(key), value)
        if key in more.places:
            made.places[key] = more.places[key]
    return made


def _merged(key: str, old: Any, new: Any) -> Any:
    if isinstance(new, Replacement):
        return str(new)
    if getattr(new, "replaces", False):
        return settled(new)
    if isinstance(new, Map):
        if not isinstance(old, Map):
            return settled(new)
        if key == "logging" and old.get("driver", new.get("driver")) != new.get("driver", old.get("driver")):
            return settled(new)
        return merge(old, new)
    if isinstance(new, Seq) and isinstance(old, Seq) and key not in _WHOLE:
        return _joined(key, old, settled(new))
    if new is None and isinstance(old, Map | Seq):  # `volumes: {data: }` again says nothing new
        return old
    return settled(new)


def _joined(key: str, old: Seq, new: Seq) -> Seq:
    same = _SAME.get(key)
    if same is None or not all(isinstance(item, Map) for item in [*old, *new]):
        return Seq([*old, *(item for item in new if item not in old)])
    found = {same(item): item for item in old}
    found.update((same(item), item) for item in new)
    return Seq(found.values())


def settled(value: Any) -> Any:
    """*value* when there is nothing below it: a !reset leaves nothing."""
    if isinstance(value, Map):
        return Map(
            {key: settled(item) for key, item in value.items() if not isinstance(item, Reset)}, value.places
        )
    if isinstance(value, Seq):
        return Seq([settled(item) for item in value if not isinstance(item, Reset)], value.places)
    return str(value) if isinstance(value, Replacement) else value
