"""``minidock explain`` and ``run --explain``: a container's birth record, as a page to read.

One line a step: what was asked of the kernel, with which answer, how long it took. Steps that serve one
purpose stand together below it: why, the lesson, and the file when it is a student's own. Steps that
differ in one argument only are folded into one line, as a shell would write them: ``/dev/{null,zero}``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TextIO

from minidock import human
from minidock.cli.context import Context, width
from minidock.cli.flags import Command, Flag, Values, boolean, integer
from minidock.trace import Step

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
_PLAIN_WIDTH = 100  # a notebook shows this much of a line
_ID = re.compile("[0-9a-f]{64}")


def explain(context: Context, values: Values, arguments: list[str]) -> int:
    """Show how a container came to be, from its recorded trace."""
    container, steps = context.engine.container(arguments[0]), context.engine.explain(arguments[0])
    if values["lesson"] is not None:
        steps = [step for step in steps if step.lesson == values["lesson"]]
    if values["format"] == "json":
        import json

        for step in steps:
            print(json.dumps(step.to_json(), ensure_ascii=False))
        return 0
    page = Page(sys.stdout, str(container.directory), whole=values["all"])
    page.show(f"{container.name} ({container.id[:12]})", container.spec.image, steps)
    return 0


class Page:
    """Writes the page to *out*: coloured in a terminal, plain text in a pipe.

    *whole*: every chapter, every step on a line of its own, nothing cut. Otherwise the container's
    *directory* becomes ``…`` in paths, and ids their first twelve digits.
    """

    def __init__(self, out: TextIO, directory: str, *, whole: bool = False) -> None:
        self._out, self._directory, self._whole = out, directory, whole
        self._colours = out.isatty()
        self._width = width() if self._colours else _PLAIN_WIDTH

    def show(self, who: str, image: str, steps: list[Step]) -> None:
        if not steps:
            self._line(f"{who}: nothing is recorded yet. The record begins with the start.")
            return
        first, *others = chapters(steps)
        self._line(self._bold(f"How {who}, made from {image}, came to be"))
        self._chapter(first)
        for chapter in others if self._whole else []:
            self._line(self._bold(f"Later: {program_of(chapter)}"))
            self._chapter(chapter)
        if others and not self._whole:
            programs = ", ".join(program_of(chapter) for chapter in others)
            self._line(f"Later starts in this container (--all shows them): {programs}")
        self._out.flush()

    def _chapter(self, steps: list[Step]) -> None:
        total = sum(step.microseconds for step in steps)
        count = f"{len(steps)} step{'s' if len(steps) != 1 else ''}"
        self._line(f"{count}, {_time(total)} in the kernel's hands\n")
        for group in purposes(steps):
            self._purpose(group)
        self._summary(steps)

    def _purpose(self, group: list[Step]) -> None:
        first = group[0]
        lesson = f"lesson {first.lesson:02d}" if first.lesson else "between the lessons"
        if first.pid:
            lesson += f" · process {first.pid}"
        self._line(f"{self._bold(first.mechanism or 'other steps')}  {self._dim(lesson)}")
        if first.why:
            self._line(f"  {first.why}")
        if first.source:
            self._line(f"  {self._green('your own code: ' + first.source)}")
        shown = [replace(step, arguments=self._abbreviated(step)) for step in group]
        for many in [[step] for step in shown] if self._whole else folded(shown):
            self._steps(many)
        self._line("")

    def _steps(self, many: list[Step]) -> None:
        times = f" × {len(many)}" if len(many) > 1 else ""
        spent = _time(sum(step.microseconds for step in many))
        text = request_of(many)
        if not self._whole:
            text = human.shortened(text, max(self._width - 12 - len(times), 40))
        self._line(f"  {self._dim(spent.rjust(8))}  {text}{times}")
        if many[0].error:
            self._line(f"            {self._red('refused: ' + many[0].error)}")

    def _abbreviated(self, step: Step) -> dict[str, object]:
        shown = {key: _text(value) for key, value in step.arguments.items() if value not in ("", None)}
        if self._whole:
            return dict(shown)
        short = {key: value.replace(self._directory, "…") for key, value in shown.items()}
        return {key: _ID.sub(lambda found: found[0][:12], value) for key, value in short.items()}

    def _summary(self, steps: list[Step]) -> None:
        """Where the time went, by lesson."""
        by_lesson: dict[int, list[Step]] = {}
        for step in steps:
            by_lesson.setdefault(step.lesson or 0, []).append(step)
        self._line(self._bold("Where the time went"))
        for lesson, group in sorted(by_lesson.items()):
            spent = _time(sum(step.microseconds for step in group)).rjust(8)
            name = f"lesson {lesson:02d}  {TITLES.get(lesson, '')}" if lesson else "between the lessons"
            self._line(f"  {spent}  {len(group):>3} step{'s' if len(group) > 1 else ' '}  {name}")
        self._line("")

    def _line(self, text: str) -> None:
        print(text, file=self._out)

    def _paint(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _bold(self, text: str) -> str:
        return self._paint(1, text)

    def _dim(self, text: str) -> str:
        return self._paint(2, text)

    def _green(self, text: str) -> str:
        return self._paint(32, text)

    def _red(self, text: str) -> str:
        return self._paint(31, text)


def chapters(steps: list[Step]) -> list[list[Step]]:
    """One list for each program that was started: the record of a birth ends with execve."""
    found: list[list[Step]] = [[]]
    for step in steps:
        if found[-1] and found[-1][-1].operation == "execve":
            found.append([])
        found[-1].append(step)
    return found


def purposes(steps: list[Step]) -> list[list[Step]]:
    """Steps of one process that follow each other and serve one purpose, together.

    The shim and the container's first process work side by side: what the other does meanwhile does not
    tear a group apart.
    """
    groups: list[list[Step]] = []
    latest: dict[int, list[Step]] = {}
    for step in steps:
        group = latest.get(step.pid)
        if group is None or (group[0].mechanism, group[0].source) != (step.mechanism, step.source):
            group = latest[step.pid] = []
            groups.append(group)
        group.append(step)
    return groups


def program_of(chapter: list[Step]) -> str:
    """What a chapter led to: ``ps aux``; why not, when it failed."""
    last = chapter[-1]
    if last.operation != "execve":
        return "a start that failed" if any(step.error for step in chapter) else "other steps"
    words = last.arguments.get("argv", [])
    return "`" + " ".join(words[2:] if words[:1] == ["minidock-launcher"] else words) + "`"


def folded(steps: list[Step]) -> list[list[Step]]:
    """Neighbours that differ in one and the same argument, together."""
    runs: list[list[Step]] = []
    for step in steps:
        if runs and _fits(runs[-1], step):
            runs[-1].append(step)
        else:
            runs.append([step])
    return runs


def _fits(run: list[Step], step: Step) -> bool:
    if run[-1].error or step.error or run[0].operation != step.operation:
        return False
    wanted = differing(run)
    return len(differing([*run, step])) == 1 and (not wanted or differing([*run, step]) == wanted)


def differing(steps: list[Step]) -> set[str]:
    """The names of the arguments that are not the same in all of *steps*."""
    names = {key for step in steps for key in step.arguments}
    return {name for name in names if len({str(step.arguments.get(name)) for step in steps}) > 1}


def request_of(steps: list[Step]) -> str:
    """``mknod(path=/dev/{null,zero})``: one step, or several that differ in one argument."""
    varying = differing(steps)
    shown = [
        f"{key}={braces([str(step.arguments[key]) for step in steps]) if key in varying else value}"
        for key, value in steps[0].arguments.items()
    ]
    result = f" = {steps[0].result}" if steps[0].result and len(steps) == 1 else ""
    return f"{steps[0].operation}({', '.join(shown)}){result}"


def braces(texts: list[str]) -> str:
    """``["/dev/null", "/dev/zero"]`` → ``/dev/{null,zero}``."""
    head = _common(texts)
    head = head[: head.rfind("/") + 1]
    rests = [text[len(head) :] for text in texts]
    tail = _common([text[::-1] for text in rests])[::-1]
    tail = tail[tail.find("/") :] if "/" in tail else ""
    middles = [text[: len(text) - len(tail)] for text in rests]
    return f"{head}{{{','.join(middles)}}}{tail}"


def _common(texts: list[str]) -> str:
    """The longest beginning that all of *texts* share."""
    first, last = min(texts), max(texts)
    length = next((at for at, letter in enumerate(first) if last[at] != letter), len(first))
    return first[:length]


def _text(value: object) -> str:
    return "[" + " ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _time(microseconds: float) -> str:
    if microseconds >= 1000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds:.0f} µs"


COMMANDS = {
    "explain": Command(
        "explain [OPTIONS] CONTAINER",
        "Show each kernel step that made a container, and why",
        explain,
        (
            boolean("all", "a", "Later programs (exec) too; each step on its own line, nothing cut"),
            Flag("lesson", kind="int", help="Only the steps that this lesson explains", convert=integer),
            Flag("format", help="'json': one step a line, as recorded"),
        ),
        least=1,
        most=1,
    )
}
