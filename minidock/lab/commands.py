"""``minidock lab list|start|check|hint|reset|board``: the labs from the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidock.engine import Engine
from minidock.errors import NotFound
from minidock.lab import board, workshop
from minidock.lab.judge import judge
from minidock.lab.workshop import Lab, Workshop


def start(number: str) -> int:
    """Put the skeleton of lab *number* into the workshop."""
    lab = workshop.find(number)
    target = Workshop.open().start(lab)
    print(f"{target} is yours to write. Check it with: sudo minidock lab check {lab.number}")
    return 0


def reset(number: str) -> int:
    """Put the skeleton back; the student's file is kept."""
    lab, shop = workshop.find(number), Workshop.open()
    kept = shop.reset(lab)
    print(f"{shop.file(lab)} is the skeleton again." + (f" Your file is kept as {kept}." if kept else ""))
    return 0


def hint(number: str, task: str, strength: int | None) -> int:
    """Print the next stronger hint for a task, or the one of *strength*."""
    lab = workshop.find(number)
    chosen = lab.task(task)
    strength, words = Workshop.open().hint(lab, chosen.number, strength)
    print(f"Task {chosen.number}, hint {strength} of {len(chosen.hints)}: {words}")
    return 0


def show_board(directories: Sequence[str]) -> int:
    """Print the instructor's table from students' workshops."""
    board.show(board.read([Path(directory) for directory in directories], workshop.labs()))
    return 0


def check(number: str, engine: Engine, task: str = "") -> int:
    """Run the checks of a lab, or of one task, on the student's file; show the results, record the progress.

    Returns the exit code: 0 only when everything passed.
    """
    lab, shop = workshop.find(number), Workshop.open()
    only = lab.task(task).number if task else None
    if not shop.file(lab).exists():
        raise NotFound(f"{shop.file(lab)}: no such file", hint=f"Start with: minidock lab start {lab.number}")
    (results,) = judge(lab, [shop.directory], engine, only)
    _record(lab, shop, results)
    _show(lab, results)
    return 0 if all(result["outcome"] == "passed" for result in results) else 1


def _record(lab: Lab, shop: Workshop, results: list[dict[str, Any]]) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    checks = shop.record(lab).setdefault("checks", {})
    for result in results:
        entry = checks.setdefault(result["name"], {"attempts": 0, "task": result["task"]})
        entry["outcome"] = result["outcome"]
        if result["outcome"] != "blocked":
            entry["attempts"] += 1
        if result["outcome"] == "passed":
            entry.setdefault("passed_at", now)
    shop.record(lab)["last_check"] = now
    shop.save()


def points(lab: Lab, record: dict[str, Any]) -> int:
    """Points earned: a task's points count when all of its checks passed."""
    checks = record.get("checks", {}).values()
    earned = 0
    for task in lab.tasks:
        own = [entry for entry in checks if entry["task"] == task.number]
        if own and all(entry["outcome"] == "passed" for entry in own):
            earned += task.points
    return earned


def _show(lab: Lab, results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    marks = {"passed": "[green]✔[/]", "failed": "[red]✘[/]", "blocked": "[yellow]•[/]"}
    for task in lab.tasks:
        own = [result for result in results if result["task"] == task.number]
        if not own:
            continue
        console.print(f"[bold]Task {task.number}: {escape(task.title)}[/] ({task.points} points)")
        for result in own:
            blocked = f", {escape(_blocked(result))}" if result["outcome"] == "blocked" else ""
            console.print(f"  {marks[result['outcome']]} {_plain(result['name'])}{blocked}")
            if result["outcome"] == "failed":
                rows = (("called", "call"), ("got", "result"), ("expected", "expected"), ("try", "next_step"))
                for label, key in rows:
                    if result[key]:
                        console.print(f"      {label:<9}{escape(result[key])}")
    passed = sum(result["outcome"] == "passed" for result in results)
    console.print(f"{passed} of {len(results)} checks pass.")


def _plain(check: str) -> str:
    """``test_no_way_out`` → ``no way out``."""
    return check.removeprefix("test_").replace("_", " ")


def _blocked(result: dict[str, Any]) -> str:
    first, *others = result["result"].removeprefix("blocked by ").split(", ")
    more = f" and {len(others)} more" if others else ""
    return f'waits for "{_plain(first)}"{more}'


def show_labs() -> int:
    """Print the labs, and how far the student is."""
    shop, rows = Workshop.open(), []
    for lab in workshop.labs():
        record = shop.progress.get(lab.number, {})
        state = f"{points(lab, record)}/{lab.points}" if record else "not started"
        minutes = sum(task.minutes for task in lab.tasks)
        rows.append((lab.number, lab.title, str(len(lab.tasks)), f"{minutes} min", state))
    _table(("LAB", "TITLE", "TASKS", "TIME", "POINTS"), rows)
    return 0


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) + 3 for column in range(len(head))]
    for row in [head, *rows]:
        print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
