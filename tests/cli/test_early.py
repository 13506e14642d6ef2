"""What cli/early.py puts in place of parts of Python behaves as they do, and goes when somebody asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minidock import headstart
from minidock.cli import verbs

REPOSITORY = Path(__file__).resolve().parents[2]

RECORDS = """
from dataclasses import KW_ONLY, FrozenInstanceError, InitVar, dataclass, field, replace

@dataclass
class Plain:
    a: int
    b: str = "b"
    c: list = field(default_factory=list)

@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: int = 2

@dataclass
class Derived(Plain):
    d: int = 4

@dataclass
class Checked:
    a: int
    def __post_init__(self):
        self.a += 1

@dataclass
class Named:
    a: int
    _: KW_ONLY
    b: int = 2

@dataclass
class Hidden:
    a: int
    b: int = field(init=False, default=7)

@dataclass
class Passed:
    a: int
    b: InitVar[int] = 3
    def __post_init__(self, b):
        self.a += b

@dataclass
class Watched:
    a: int
    def __setattr__(self, name, value):
        object.__setattr__(self, name, value * 2)

def attempt(make):
    try:
        print(make())
    except Exception as error:
        print(type(error).__name__, error)

for _ in range(6):  # the first few in one way, the others in another
    for make in (
        lambda: Plain(1),
        lambda: Plain(1, "x", [3]),
        lambda: Plain(b="y", a=2),
        lambda: Plain(),
        lambda: Plain(1, a=1),
        lambda: Plain(1, z=1),
        lambda: Plain(1, "2", [], 4),
        lambda: Plain(1).c is Plain(1).c,
        lambda: Plain(1) == Plain(1),
        lambda: Frozen(1),
        lambda: setattr(Frozen(1), "a", 2),
        lambda: hash(Frozen(1)) == hash(Frozen(1, 2)),
        lambda: replace(Frozen(1), b=9),
        lambda: Derived(1, d=5),
        lambda: Checked(1),
        lambda: Named(1, b=3),
        lambda: Named(1, 3),
        lambda: Hidden(1),
        lambda: Hidden(1, 2),
        lambda: Passed(1, 2),
        lambda: Watched(2),
    ):
        attempt(make)
"""

LIBRARY = """
import copy, hashlib, inspect, pathlib, shutil, socket, typing, urllib.parse
from typing import NamedTuple, Any, NoReturn, Optional, TYPE_CHECKING, get_type_hints
from urllib.parse import urlsplit

class Pair(NamedTuple):
    a: int
    b: Optional[Any] = None

def never(wish: Any) -> NoReturn:
    raise SystemExit

print(Pair(1), typing.get_type_hints(Pair), TYPE_CHECKING, Any)
print(get_type_hints(never), inspect.signature(never))
print(pathlib.Path("/a b/ü").as_uri(), urllib.parse.quote("a b"), urlsplit("http://h:1/p?q").port)
print(pathlib.PureWindowsPath("c:/x").drive, copy.deepcopy({"a": [1]}), shutil.which("sh") is not None)
print(socket.AF_UNIX, [each.name for each in socket.socketpair()[:0]])
"""


def output(program: str, *, early: bool) -> str:
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    code += "import minidock.cli.early\n" if early else ""
    done = subprocess.run([sys.executable, "-c", code + program], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [RECORDS, LIBRARY], ids=["dataclasses", "library"])
def test_nobody_notices(program: str) -> None:
    assert output(program, early=True) == output(program, early=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run busybox", True),
        ("start app", True),
        ("container run busybox", True),
        ("--root /state -D --config=x run busybox", True),
        ("--root run ps", False),
        ("exec app npm run start", False),
        ("container ls", False),
        ("--version", False),
        ("", False),
    ],
)
def test_only_who_starts_a_container_gets_a_head_start(line: str, expected: bool) -> None:
    assert headstart.helps(line.split()) == expected


def test_the_head_start_knows_the_flags_before_a_verb() -> None:
    """It looks before the command's own grammar is read, so it has a copy of a small part."""
    assert {f"--{flag.name}" for flag in verbs.GLOBAL_FLAGS if flag.kind != "bool"} == headstart._WITH_VALUE
    assert verbs.GROUPS[headstart._GROUP].keys() & verbs.VERBS.keys() >= headstart._VERBS
