"""``minidock explain`` and ``run --explain``: a container's birth record, as a page to read.

One line a step: what was asked of the kernel, with which answer, how long it took. Steps that serve one
purpose stand together below it: why, the lesson, and the file when it is a student's own.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import TextIO

from minidock import human
from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values
from minidock.trace import Step

_LONGEST = 96  # columns of one step when nothing limits them
TITLES = {
    1: "the root filesystem",
    2: "namespaces",
    3: "control groups",
    4: "layers stacked by overlayfs",
    5: "image layers",
    6: "registries",
    9: "the container's life",
    10: "volumes",
    11: "networks and what root may do",
}


def explain(context: Context, values: Values, arguments: list[str]) -> int:
    """Show how a container came to be, from its recorded trace."""
    name = arguments[0]
    container, steps = context.engine.container(name), context.engine.explain(name)
    if values["format"] == "json":
        import json
        from dataclasses import asdict

        for step in steps:
            print(json.dumps(asdict(step), ensure_ascii=False))
        return 0
    show(f"{container.name} ({container.id[:12]}), made from {container.spec.image}", steps, sys.stdout)
    return 0


def show(title: str, steps: list[Step], out: TextIO) -> None:
    """Write the page about *steps* to *out*: coloured in a terminal, plain text in a pipe."""
    paint = _Paint(out)
    if not steps:
        print(f"{title}: nothing is recorded yet. The record begins with the start.", file=out)
        return
    total = sum(step.microseconds for step in steps)
    print(paint.bold(f"How {title}, came to be"), file=out)
    print(f"{len(steps)} steps, {_time(total)} inside the kernel\n", file=out)
    for purpose, group in _purposes(steps):
        _show_group(purpose, group, paint, out)
    _show_summary(steps, paint, out)
    out.flush()


def _purposes(steps: list[Step]) -> Iterator[tuple[Step, list[Step]]]:
    """Neighbouring steps of one mechanism, with the first of them, which says why."""
    for _, group in itertools.groupby(steps, key=lambda step: (step.mechanism, step.source)):
        found = list(group)
        yield found[0], found


def _show_group(purpose: Step, group: list[Step], paint: _Paint, out: TextIO) -> None:
    lesson = f"lesson {purpose.lesson:02d}" if purpose.lesson else "between the lessons"
    name = purpose.mechanism or "other steps"
    print(f"{paint.bold(name)}  {paint.dim(lesson)}", file=out)
    if purpose.why:
        print(f"  {purpose.why}", file=out)
    if purpose.source:
        print(f"  {paint.green('your own code: ' + purpose.source)}", file=out)
    for step in group:
        text = human.shortened(request_of(step), max(paint.width - 14, 40))
        print(f"  {paint.dim(_time(step.microseconds).rjust(8))}  {text}", file=out)
        if step.error:
            print(f"            {paint.red('refused: ' + step.error)}", file=out)
    print(file=out)


def _show_summary(steps: list[Step], paint: _Paint, out: TextIO) -> None:
    """Where the time went, by lesson."""
    by_lesson: dict[int, list[Step]] = {}
    for step in steps:
        by_lesson.setdefault(step.lesson or 0, []).append(step)
    print(paint.bold("Where the time went"), file=out)
    for lesson, group in sorted(by_lesson.items()):
        spent = sum(step.microseconds for step in group)
        name = f"lesson {lesson:02d}  {TITLES.get(lesson, '')}" if lesson else "elsewhere"
        print(f"  {_time(spent).rjust(8)}  {len(group):>3} steps  {name}", file=out)


def request_of(step: Step) -> str:
    """``mount(source=proc, target=/proc) = 0``: the step as strace would write it."""
    arguments = ", ".join(
        f"{key}={_value(value)}" for key, value in step.arguments.items() if value not in ("", None)
    )
    return f"{step.operation}({arguments})" + (f" = {step.result}" if step.result else "")


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(map(str, value)) + "]"
    return str(value)


def _time(microseconds: float) -> str:
    if microseconds >= 1000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds:.0f} µs"


class _Paint:
    """Colours where a person looks, nothing where a program reads."""

    def __init__(self, out: TextIO) -> None:
        from minidock.cli.context import width

        self._on = out.isatty()
        self.width = width() if self._on else _LONGEST + 14

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def bold(self, text: str) -> str:
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)

    def green(self, text: str) -> str:
        return self._wrap("32", text)

    def red(self, text: str) -> str:
        return self._wrap("31", text)


COMMANDS = {
    "explain": Command(
        "explain [OPTIONS] CONTAINER",
        "Show each kernel step that made a container, and why",
        explain,
        (Flag("format", help="'json': one step a line, as recorded"),),
        least=1,
        most=1,
    )
}
