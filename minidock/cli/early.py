"""Imported before all else: three things that take 15 ms off every start of the command.

* The garbage collector would run several times over the thousands of objects that imports make, and find
  nothing. It starts later.
* `dataclasses` imports `inspect` (with tokenize, ast, dis) to write a docstring for classes that have none.
  Ours have one, so a stand-in takes the place of `inspect` until somebody really asks for something in it.
* `@dataclass` compiles three to six methods for each of our forty classes, most of which no command calls.
  They are compiled when first called.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

gc.set_threshold(100_000, 50, 50)


class _Later(ModuleType):
    """Becomes the real module at the first look into it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for __spec__ and __path__ of what is loaded
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


# The others are imported by modules of Python that need them for one function which we never call
# (pathlib → urllib.parse → ipaddress, socket → selectors), and by ours for something rare (shutil).
for _name in ("inspect", "ipaddress", "selectors", "shutil"):
    if _name not in sys.modules:
        sys.modules[_name] = _Later(_name)


def _own_annotations(owner: type) -> dict[str, Any]:
    """All that Python 3.13's dataclasses asks of `inspect` for every class: its ``get_annotations``."""
    return dict(owner.__dict__.get("__annotations__") or {})  # noqa: RUF063 (it is what we stand in for)


if isinstance(sys.modules["inspect"], _Later) and sys.version_info < (3, 14):
    sys.modules["inspect"].get_annotations = _own_annotations  # type: ignore[attr-defined]

import dataclasses  # noqa: E402 (with the stand-in in place)


def _compile_later(name: str, *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    compiled: list[Callable[..., Any]] = []

    def method(*values: Any, **named: Any) -> Any:
        if not compiled:
            compiled.append(_compile(name, *arguments, **keywords))
        return compiled[0](*values, **named)

    method.__name__ = name
    return method


_compile: Any = getattr(dataclasses, "_create_fn", None)
if _compile:  # Python 3.13 has no such function any more, and compiles all methods at once
    dataclasses._create_fn = _compile_later  # type: ignore[attr-defined]
