"""Imported before all else: what takes 20 ms off every start of the command.

* The garbage collector would run several times over the thousands of objects that imports make, and find
  nothing. It starts later.
* Modules of Python import others that they need for one function which we never call. A stand-in takes the
  place of those until somebody really asks for something in them.
* `@dataclass` compiles methods that no command calls: see lazy_dataclasses.py.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

gc.set_threshold(100_000, 50, 50)


class _Later(ModuleType):
    """Becomes the real module at the first look into it, but for what is *known* of it."""

    def __init__(self, name: str, known: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __bool__(self) -> bool:  # dataclasses asks whether `typing` is there
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for __spec__ and __path__ of what is loaded
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = _module(self.__name__)
        self.__dict__.update(vars(real))
        return getattr(real, name)


def _module(name: str) -> Any:
    __import__(name)  # what `importlib`, which would cost time itself, does
    return sys.modules[name]


def _quote(*arguments: Any, **named: Any) -> Any:
    return _module("urllib.parse").quote_from_bytes(*arguments, **named)


def _own_annotations(owner: type) -> dict[str, Any]:
    """All that Python 3.13's dataclasses asks of `inspect` for every class: its ``get_annotations``."""
    return dict(owner.__dict__.get("__annotations__") or {})  # noqa: RUF063 (it is what we stand in for)


# Who imports them: dataclasses (inspect, with tokenize, ast and dis, to write a docstring for classes that
# have none, and copy), pathlib (urllib.parse, ntpath), socket (selectors); and ours: shutil for something
# rare, typing for names in annotations, which nobody evaluates: there `Any` may as well be `object`.
_STAND_INS: dict[str, dict[str, Any]] = {
    "inspect": {"get_annotations": _own_annotations} if sys.version_info < (3, 14) else {},
    "copy": {},
    "urllib.parse": {"quote_from_bytes": _quote},
    "ntpath": {},
    "selectors": {},
    "shutil": {},
    "typing": {"TYPE_CHECKING": False, "Any": object, "NoReturn": None},
}
for _name, _known in _STAND_INS.items():
    if _name not in sys.modules:
        sys.modules[_name] = _Later(_name, _known)
        _package, _, _child = _name.rpartition(".")
        if _package:
            setattr(_module(_package), _child, sys.modules[_name])

import minidock.cli.lazy_dataclasses  # noqa: E402, F401 (with the stand-ins in place)
