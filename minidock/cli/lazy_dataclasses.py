"""Makes `@dataclass` compile a class's methods when they are first called, not when the class is made.

There are three to six for each of our forty classes, and most commands call few of them. ``__init__`` is not
compiled before a fourth object of its class is made: of most there is one, and a loop over the fields takes a
tenth of the compiler's time.

Python 3.13 compiles all methods of a class at once; there nothing is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FEW = 3  # objects of a class, for whose sake no ``__init__`` is compiled

_create_fn: Any = getattr(dataclasses, "_create_fn", None)
_init_fn: Any = getattr(dataclasses, "_init_fn", None)


def _method_later(name: str, *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """Stands in for ``_create_fn``, which compiles the text of a method."""
    compiled: list[Callable[..., Any]] = []

    def method(*values: Any, **named: Any) -> Any:
        if not compiled:
            compiled.append(_create_fn(name, *arguments, **keywords))
            compiled[0].__qualname__ = method.__qualname__
        return compiled[0](*values, **named)

    method.__name__ = name
    return method


def _init_later(
    fields: list[Any], in_order: Any, only_named: Any, frozen: bool, has_post_init: bool, *rest: Any
) -> Callable[..., None]:
    """Stands in for ``_init_fn``, which writes the text of ``__init__``."""
    plain = all(each.init and each._field_type is dataclasses._FIELD for each in fields)  # type: ignore[attr-defined]
    left = FEW if plain and not only_named and not has_post_init else 0
    put = object.__setattr__ if frozen else setattr
    compiled: list[Callable[..., None]] = []

    def method(self: Any, *values: Any, **named: Any) -> None:
        nonlocal left
        if not compiled:
            left -= 1
            if left >= 0 and (given := _given(fields, values, named)) is not None:
                for name, value in given.items():
                    put(self, name, value)
                return
            compiled.append(_init_fn(fields, in_order, only_named, frozen, has_post_init, *rest))
            compiled[0].__qualname__ = method.__qualname__
        compiled[0](self, *values, **named)

    method.__name__ = "__init__"
    return method


def _given(fields: list[Any], values: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any] | None:
    """The value of every field; None for a call that the compiled ``__init__`` would refuse: it says why."""
    given = dict(zip((each.name for each in fields), values, strict=False))
    if len(values) > len(fields) or given.keys() & named.keys():
        return None
    given |= named
    for each in fields:
        if each.name in given:
            continue
        if each.default is not dataclasses.MISSING:
            given[each.name] = each.default
        elif each.default_factory is not dataclasses.MISSING:
            given[each.name] = each.default_factory()
        else:
            return None
    return given if len(given) == len(fields) else None  # more: a name that is no field's


if _create_fn and _init_fn:
    dataclasses._create_fn = _method_later  # type: ignore[attr-defined]
    dataclasses._init_fn = _init_later  # type: ignore[attr-defined]
