"""The instructor's board: who is where, from the progress files of a class. No server needed.

``minidock lab board DIR…`` reads ``progress.json`` in each student's workshop. Students write these files:
what is not as it should be is shown as such for that one student, and never stops the table.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidock.lab.workshop import Lab

MAX_FILE = 1 << 20  # bytes; an honest progress file has a few thousand
OUTCOMES = ("passed", "failed", "blocked")


@dataclass(slots=True)
class Row:
    """One student in one lab. *minutes* by task number; *trouble* says what is wrong with the file."""

    student: str
    lab: str = ""
    points: int = 0
    out_of: int = 0
    at: str = ""
    minutes: dict[int, int] = field(default_factory=dict)
    failing: str = ""
    attempts: int = 0
    trouble: str = ""


@dataclass(slots=True)
class Board:
    """All rows, and for each lab the check that most students fail: (check, how many of them)."""

    rows: list[Row]
    commonest: dict[str, tuple[str, int]]


def read(places: Sequence[Path], labs: Sequence[Lab]) -> Board:
    """Read the progress of everybody: *places* are workshops, their parents, or progress files."""
    rows: list[Row] = []
    failing: dict[str, Counter[str]] = {lab.number: Counter() for lab in labs}
    names = _names([_file(place) for place in places])
    for place in places:
        file = _file(place)
        try:
            progress = _read(file)
        except ValueError as error:
            rows.append(Row(names[file], trouble=str(error)))
            continue
        own = [
            _row(names[file], lab, progress[lab.number], failing[lab.number])
            for lab in labs
            if isinstance(progress.get(lab.number), dict)
        ]
        rows += own or [Row(names[file], at="not started")]
    commonest = {number: count.most_common(1)[0] for number, count in failing.items() if count}
    return Board(sorted(rows, key=lambda row: (row.lab, row.student)), commonest)


def _file(place: Path) -> Path:
    for candidate in (place / "progress.json", place / "mydock" / "progress.json"):
        if candidate.is_file():
            return candidate
    named = place.name == "progress.json" or (place.exists() and not place.is_dir())
    return place if named else place / "progress.json"


def _names(files: list[Path]) -> dict[Path, str]:
    """A name for each file: the student's directory, with its parent where two are called the same."""
    names = {file: _student(file) for file in files}
    often = Counter(names.values())
    for file, name in names.items():
        if often[name] > 1:
            names[file] = (
                "…" + str(file.absolute().parent)[-38:]
            )  # the end of a path tells more than its head
    return {file: printable(name) for file, name in names.items()}


def _student(file: Path) -> str:
    directory = file.absolute().parent
    return directory.parent.name if directory.name == "mydock" else directory.name


def _read(file: Path) -> dict[str, Any]:
    """The progress in *file*; ValueError says in a few words why there is none."""
    try:
        if not file.exists():
            raise ValueError("no progress file" if file.parent.is_dir() else "no such directory")
        if not file.is_file():  # a pipe would be waited for, for ever
            raise ValueError("no ordinary file")
        with open(file, "rb") as opened:
            data = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"unreadable: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ValueError("too large")
    try:
        progress = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(progress, dict):
        raise ValueError("not a progress file")
    return progress


def _row(student: str, lab: Lab, record: dict[str, Any], failing: Counter[str]) -> Row:
    checks = _checks(lab, record)
    done = {task.number for task in lab.tasks if _is_done(checks, task.number)}
    open_tasks = [task.number for task in lab.tasks if task.number not in done]
    at = f"task {open_tasks[0]}" if checks and open_tasks else ("done" if checks else "started")
    failed = {name: check for name, check in checks.items() if check["outcome"] == "failed"}
    failing.update(failed.keys())
    worst = max(failed, key=lambda name: failed[name]["attempts"], default="")
    return Row(
        student,
        lab.number,
        sum(task.points for task in lab.tasks if task.number in done),
        lab.points,
        at,
        _minutes(lab, record, checks),
        worst,
        failed[worst]["attempts"] if worst else 0,
    )


def _checks(lab: Lab, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The checks of a record that are what they should be; a file that was tampered with loses the others."""
    known = {task.number for task in lab.tasks}
    found = record.get("checks")
    return {
        name: {"attempts": 0, **check}
        for name, check in (found.items() if isinstance(found, dict) else ())
        if isinstance(check, dict)
        and check.get("outcome") in OUTCOMES
        and type(check.get("task")) is int
        and check["task"] in known
        and type(check.get("attempts", 0)) is int
    }


def _is_done(checks: dict[str, dict[str, Any]], task: int) -> bool:
    own = [check for check in checks.values() if check["task"] == task]
    return bool(own) and all(check["outcome"] == "passed" for check in own)


def _minutes(lab: Lab, record: dict[str, Any], checks: dict[str, dict[str, Any]]) -> dict[int, int]:
    """Minutes from the end of one task to the end of the next; for the task at hand, to the last check."""
    ends = {}
    for task in lab.tasks:
        own = [_seconds(check.get("passed_at")) for check in checks.values() if check["task"] == task.number]
        if _is_done(checks, task.number) and None not in own:
            ends[task.number] = max(end for end in own if end is not None)
    spent: dict[int, int] = {}
    before, last = _seconds(record.get("started")), _seconds(record.get("last_check"))
    for number, end in sorted(ends.items(), key=lambda pair: (pair[1], pair[0])):
        if before is not None and end >= before:
            spent[number] = round((end - before) / 60)
        before = end
    waiting = [task.number for task in lab.tasks if task.number not in ends]
    if waiting and before is not None and last is not None and last >= before and checks:
        spent[waiting[0]] = round((last - before) / 60)
    return spent


def _seconds(text: Any) -> float | None:
    try:
        return time.mktime(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """*text* without what could move a terminal's cursor or colour its lines, and not too long."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= 40 else clean[:39] + "…"


# --- showing ---------------------------------------------------------------------------------------

HEAD = ("STUDENT", "LAB", "POINTS", "AT", "MINUTES BY TASK", "FAILS MOST", "TRIES")


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, a cell for each column."""
    if row.trouble:
        return (row.student, "-", "-", row.trouble, "", "", "")
    spent = " ".join(f"{number}:{minutes}" for number, minutes in sorted(row.minutes.items()))
    failing = printable(row.failing.removeprefix("test_").replace("_", " "))
    points = f"{row.points}/{row.out_of}" if row.lab else "-"
    return (row.student, row.lab or "-", points, row.at, spent, failing, str(row.attempts or ""))


def show(board: Board) -> None:
    """Print the board: a coloured table in a terminal, plain aligned columns in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = [cells(row) for row in board.rows]
    if console.is_terminal:
        table = Table(*HEAD, header_style="bold")
        for row, words in zip(board.rows, rows, strict=True):
            colour = "red" if row.trouble else "green" if row.at == "done" else ""
            table.add_row(*(Text(word, style=colour) for word in words))
        console.print(table)
    else:
        widths = [max(len(line[column]) for line in (HEAD, *rows)) + 2 for column in range(len(HEAD))]
        for line in (HEAD, *rows):
            print("".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    for number, (check, count) in sorted(board.commonest.items()):
        name = printable(check.removeprefix("test_").replace("_", " "))
        who = f"{count} student{'s' if count > 1 else ''}"
        console.print(Text(f'Lab {number}: most often fails "{name}", for {who}.'), soft_wrap=True)
