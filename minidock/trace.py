"""The recorder of steps: every container carries its own birth record.

A *step* is one request to the kernel or to a registry: what was asked, with which arguments, what
came back, how long it took, and the lesson that explains it. The few small doors through which such
requests pass (`kernel/syscalls.py`, `images/registry.py`) call :func:`step`; the functions that use
the doors are marked :func:`mechanism`, which says *why* the steps are taken (the first line of the
function's docstring) and in which file the code stands (the library's, or a student's).

Recording costs a few microseconds and is always on. Environment values, credentials and tokens are
never arguments of a step: see :func:`redact`.
"""

from __future__ import annotations

import functools
import operator
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


@dataclass(slots=True)
class Step:
    """One recorded request. *microseconds* is its wall time; *at* seconds since the epoch."""

    operation: str
    arguments: dict[str, Any]
    result: str = ""
    error: str = ""  # errno name and cause, empty when it went well
    microseconds: float = 0.0
    at: float = 0.0
    lesson: int | None = None
    mechanism: str = ""  # "rootfs.pivot_into"
    why: str = ""
    source: str = ""  # file of the mechanism when it is not the library's own
    pid: int = 0  # who took it, as it sees itself: 1 is a container's first process

    def to_json(self) -> dict[str, Any]:
        """The fields by name. (`asdict` would copy every argument, at ten times the price.)"""
        return dict(zip(self.__slots__, self.row(), strict=True))

    def row(self) -> tuple[Any, ...]:
        """The fields' values, in order: what ``Step(*row)`` takes."""
        return _row(self)


_row = operator.attrgetter(*Step.__slots__)


@dataclass(slots=True)
class Recorder:
    """Collects steps in memory and, where *descriptor* is given, appends them to a file as JSON lines.

    The file is opened O_APPEND: the shim and its children write whole lines of one trace.
    """

    descriptor: int | None = None
    steps: list[Step] = field(default_factory=list)
    unwritten: int = 0

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def flush(self) -> None:
        """Write the steps that are not yet in the file. Call before exec, _exit and long waits."""
        if self.descriptor is None:
            return
        fresh, self.unwritten = self.steps[self.unwritten :], len(self.steps)
        if fresh:
            import json

            lines = "".join(json.dumps(step.to_json(), default=str) + "\n" for step in fresh)
            os.write(self.descriptor, lines.encode())


@dataclass(frozen=True, slots=True)
class _Mechanism:
    """What the steps inside one mechanism have in common."""

    name: str = ""
    why: str = ""
    lesson: int | None = None
    source: str = ""


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
_mechanism: ContextVar[_Mechanism] = ContextVar("mechanism", default=_Mechanism())  # noqa: B039 (frozen)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Send the steps of this thread (and of children forked in it) to *recorder*."""
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        recorder.flush()
        _recorder.reset(token)


def current() -> Recorder | None:
    """The recorder of this thread, or None when nobody listens."""
    return _recorder.get()


def step(operation: str, **arguments: Any) -> Taking:
    """Time and record one request: ``with trace.step("chdir", path="/") as taken: …``.

    The body may set ``taken.result``; an exception sets ``taken.error``.
    """
    return Taking(operation, arguments)


class Taking:
    """A step while it is taken. (A class, not a generator: a start takes more than a hundred.)"""

    __slots__ = ("_begin", "step")

    def __init__(self, operation: str, arguments: dict[str, Any]) -> None:
        on = _mechanism.get()
        self.step = Step(
            operation, arguments, "", "", 0.0, time.time(), on.lesson, on.name, on.why, on.source, os.getpid()
        )
        self._begin = time.perf_counter()

    def __enter__(self) -> Step:
        return self.step

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            self.step.error = str(error) or type(error).__name__
        self.step.microseconds = round((time.perf_counter() - self._begin) * 1e6, 1)
        recorder = _recorder.get()
        if recorder is not None:
            recorder.add(self.step)


def mechanism(lesson: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function as one mechanism of lesson *lesson*; its docstring's first line says why."""

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        return label(function, lesson=lesson, why=(function.__doc__ or "").strip().partition("\n")[0])

    return mark


def label(function: Callable[P, R], *, lesson: int | None, why: str, source: str = "") -> Callable[P, R]:
    """Wrap *function* so that the steps taken inside it carry its name, *why*, *lesson*, *source*."""
    inside = _Mechanism(f"{function.__module__.rpartition('.')[2]}.{function.__name__}", why, lesson, source)

    @functools.wraps(function)
    def labelled(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _mechanism.set(inside)
        try:
            return function(*args, **kwargs)
        finally:
            _mechanism.reset(token)

    labelled.__minidock_mechanism__ = inside  # type: ignore[attr-defined]  # read by layers.py
    return labelled


def redact(environment: list[str]) -> list[str]:
    """``["PATH=/bin"]`` → ``["PATH=…"]``: the names of environment variables, never their values."""
    return [entry.partition("=")[0] + "=…" for entry in environment]


def read(path: Path) -> list[Step]:
    """The steps of a ``trace.jsonl``. A last line cut short by a kill is left out."""
    return parse(path.read_text(errors="replace"))


def parse(text: str) -> list[Step]:
    """The steps in the lines of a trace file."""
    import json

    steps = []
    for line in text.splitlines():
        try:
            steps.append(Step(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return steps
