"""``minidock lab list|start|check|hint|reset|board``: the labs from the terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidock.engine import Engine
from minidock.errors import NotFound
from minidock.lab import board, workshop
from minidock.lab.judge import judge
from minidock.lab.workshop import Lab, Workshop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the lab verbs."""
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    verbs.add_parser("list", help="The labs, their points, and how far you are")
    for verb, words in (
        ("start", "Put the lab's skeleton into your workshop"),
        ("check", "Check your work, in a world that cannot hurt the machine"),
        ("hint", "A hint for one task, stronger each time"),
        ("reset", "Begin the lab again; your file is kept beside the fresh one"),
    ):
        each = verbs.add_parser(verb, help=words, allow_abbrev=False)
        each.add_argument("lab", help="its number: 01")
        if verb == "check":
            each.add_argument("task", nargs="?", type=int, help="only this task")
        if verb == "hint":
            each.add_argument("task", type=int)
            each.add_argument("--strength", type=int, choices=(1, 2, 3))
    table = verbs.add_parser("board", help="For instructors: who is where, from progress files")
    table.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="students' workshops")


def run(arguments: argparse.Namespace, engine: Engine) -> int:
    """Run the chosen verb; returns the exit code (check: 0 only when everything passed)."""
    if arguments.verb == "list":
        return _list(Workshop.open())
    if arguments.verb == "board":
        board.show(board.read(arguments.directories, workshop.labs()))
        return 0
    lab, shop = workshop.find(arguments.lab), Workshop.open()
    if arguments.verb == "start":
        target = shop.start(lab)
        print(f"{target} is yours to write. Check it with: sudo minidock lab check {lab.number}")
    elif arguments.verb == "reset":
        kept = shop.reset(lab)
        print(f"{shop.file(lab)} is the skeleton again." + (f" Your file is kept as {kept}." if kept else ""))
    elif arguments.verb == "hint":
        strength, words = shop.hint(lab, arguments.task, arguments.strength)
        print(f"Task {arguments.task}, hint {strength} of {len(lab.task(arguments.task).hints)}: {words}")
    else:
        return check(lab, shop, engine, arguments.task)
    return 0


def check(lab: Lab, shop: Workshop, engine: Engine, task: int | None = None) -> int:
    """Run the lab's checks on the student's file, show the results and record the progress."""
    if task is not None:
        lab.task(task)
    if not shop.file(lab).exists():
        raise NotFound(f"{shop.file(lab)}: no such file", hint=f"Start with: minidock lab start {lab.number}")
    (results,) = judge(lab, [shop.directory], engine, task)
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


def _list(shop: Workshop) -> int:
    rows = []
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
