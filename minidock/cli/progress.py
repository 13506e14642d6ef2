"""The progress of pull and push: one line a layer, with bars in a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from minidock import human
from minidock.cli.context import say

if TYPE_CHECKING:
    from minidock.engine import Event

Show = Callable[["Event"], None]
_MOVING = ("Downloading", "Extracting", "Pushing")
_REDRAW = 0.1  # seconds between two pictures: more often is only heat


@contextmanager
def showing(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Show]:
    """A function that takes events and shows them on *stream* (standard output) while the block runs.

    *quiet* shows warnings only.
    """
    out = stream or sys.stdout
    if quiet:
        yield _only_warnings
    elif out.isatty():
        with _bars(out) as show:
            yield show
    else:
        yield _Lines(out).show


def _only_warnings(event: Event) -> None:
    if event.status == "Warning":
        say(f"WARNING: {event.message}")


class _Lines:
    """Docker's plain lines: each change of a layer's state once, no bytes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: dict[str, str] = {}

    def show(self, event: Event) -> None:
        if event.status == "Warning":
            say(f"WARNING: {event.message}")
        elif not event.id:
            print(event.status, file=self._out, flush=True)
        elif event.status not in _MOVING and self._last.get(event.id) != event.status:
            self._last[event.id] = event.status
            print(f"{event.id}: {event.status}", file=self._out, flush=True)


@contextmanager
def _bars(out: TextIO) -> Iterator[Show]:
    """One bar a layer. Redrawn from here, never from a thread: pull forks workers while we draw."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    console = Console(file=out, highlight=False)
    columns = (
        TextColumn("{task.fields[layer]}: {task.description:<18}"),
        BarColumn(bar_width=40),
        TextColumn("{task.fields[amount]}"),
    )
    tasks: dict[str, TaskID] = {}
    drawn = 0.0
    with Progress(*columns, console=console, auto_refresh=False) as progress:

        def show(event: Event) -> None:
            nonlocal drawn
            if event.status == "Warning":
                console.print(f"WARNING: {event.message}", style="yellow", markup=False)
            elif not event.id or event.status.startswith("Pulling from"):
                console.print(f"{event.id}: {event.status}" if event.id else event.status, markup=False)
            else:
                amount = _amount(event) if event.status in _MOVING else ""
                total = event.total or None
                if event.id not in tasks:
                    tasks[event.id] = progress.add_task(event.status, total=1, layer=event.id, amount="")
                done = event.current if event.status in _MOVING else (total or 1) * _is_over(event.status)
                progress.update(
                    tasks[event.id],
                    description=event.status,
                    completed=done,
                    total=total or 1,
                    amount=amount,
                )
            if time.monotonic() - drawn > _REDRAW or event.status not in _MOVING:
                drawn = time.monotonic()
                progress.refresh()

        yield show


def _amount(event: Event) -> str:
    whole = f"/{human.size(event.total, 4)}" if event.total else ""
    return human.size(event.current, 4) + whole


def _is_over(status: str) -> int:
    waiting = ("Waiting", "Preparing", "Pulling fs layer")
    return 0 if status in waiting else 1
