"""What happened, in order: ``<root>/events.jsonl``, one JSON object a line, in the form of Docker's API.

    {"Type":"container","Action":"die","Actor":{"ID":"4fb…","Attributes":{"exitCode":"0",…}},"scope":"local",…}

Whoever does something writes one line, shims too: there is no daemon that could lose it. The file is only
ever appended to. When it has grown large it becomes ``events.jsonl.1``, and a new one begins.

Source: Docker Engine API v1.44, GET /events (EventMessage).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAME = "events.jsonl"
LARGEST = 16 << 20  # bytes of one file

Event = dict[str, Any]


def record(root: Path, kind: str, action: str, identifier: str, **attributes: str) -> None:
    """Note that *action* happened to the *kind* (container, image, network, volume) *identifier*.

    Never fails: what happened has happened, whether or not it can be written down.
    """
    at = time.time_ns()
    event = {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": identifier, "Attributes": attributes},
        "scope": "local",
        "time": at // 1_000_000_000,
        "timeNano": at,
    }
    line = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    path = root / NAME
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size >= LARGEST:
                _turn_over(path, descriptor)
            os.write(descriptor, line)  # one write: lines of several processes do not mix
        finally:
            os.close(descriptor)


def _turn_over(path: Path, descriptor: int) -> None:
    """Let a full file become the old one. Who still has it open writes its line there."""
    if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
        os.rename(path, path.with_name(f"{NAME}.1"))


def read(root: Path, wait: Callable[[], bool] | None = None) -> Iterator[Event]:
    """All events on record, oldest first.

    *wait* makes it follow: called when there is no more, it returns True as soon as there may be, False
    to end.
    """
    old, path = root / f"{NAME}.1", root / NAME
    if old.exists():
        with contextlib.suppress(FileNotFoundError), open(old, "rb") as file:
            yield from _events(file.read())
    file_id, position = 0, 0
    more = True
    while True:
        try:
            with open(path, "rb") as file:
                current = os.fstat(file.fileno()).st_ino
                if current != file_id:
                    if file_id:  # it was turned over meanwhile: first the rest of the old one
                        yield from _events(_rest(old, file_id, position))
                    file_id, position = current, 0
                file.seek(position)
                block = file.read()
        except FileNotFoundError:  # turned over just now, or nothing has happened yet
            block = _rest(old, file_id, position) if file_id else b""
            file_id = position = 0
        whole = block[: block.rfind(b"\n") + 1]
        position += len(whole)
        yield from _events(whole)
        if not whole:
            if wait is None or not more:
                return
            more = wait()


def _rest(path: Path, file_id: int, position: int) -> bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_ino != file_id:
                return b""
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""


def _events(block: bytes) -> Iterator[Event]:
    for line in block.splitlines():
        with contextlib.suppress(ValueError):  # cut short when the machine went down
            event = json.loads(line)
            if isinstance(event, dict) and "timeNano" in event:
                yield event
