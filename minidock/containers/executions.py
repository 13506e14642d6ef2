"""One more program in a container, as a thing of its own: made, then started, then asked how it ended.

The Engine API does an `exec` in these steps. What is known stands in ``<container>/execs/<id>.json``,
written by whoever makes it and then by the shim, which starts it and sees its end: no daemon has to
remember anything. Source: Docker Engine API v1.44, "Exec".
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minidock import files
from minidock.containers import streams
from minidock.containers.state import Container
from minidock.errors import Conflict, NotFound

KEPT = 300.0  # seconds that one which ended can still be asked about; Docker's
_ID = r"[0-9a-f]{64}"


@dataclass(slots=True)
class Execution:
    """*pid* is 0 and *exit_code* None until they are known. *detach_keys* as a user writes them."""

    id: str
    container: str
    argv: list[str]
    env: list[str] = field(default_factory=list)
    user: str = ""
    cwd: str = ""
    tty: bool = False
    privileged: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""
    pid: int = 0
    exit_code: int | None = None

    @property
    def running(self) -> bool:
        return self.pid != 0 and self.exit_code is None


def create(container: Container, argv: list[str], **wanted: Any) -> Execution:
    """Make one, for a container that runs, as the caller has checked. Raises InvalidInput for wrong keys."""
    made = Execution(os.urandom(32).hex(), container.id, argv, **wanted)
    streams.keys(made.detach_keys)
    directory = container.directory / "execs"
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _forget_old(directory)
    write(container, made)
    return made


def write(container: Container, execution: Execution) -> None:
    """Replace what is known. Nothing is durable: with the machine, what runs in it has ended."""
    path = container.directory / "execs" / f"{execution.id}.json"
    files.write_json(path, execution, sync=False, squeeze=True)


def find(root: Path, identifier: str) -> tuple[Container, Execution]:
    """The execution with this id, and its container. Raises NotFound."""
    if re.fullmatch(_ID, identifier):
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(root / "containers"):
                container = Container(root, name)
                found = read(container, identifier) if re.fullmatch(_ID, name) else None
                if found is not None:
                    return container, found
    raise NotFound(f"No such exec instance: {identifier}")


def read(container: Container, identifier: str) -> Execution | None:
    """What is known of one; None when it is not this container's."""
    try:
        value = files.read_json(container.directory / "execs" / f"{identifier}.json")
    except NotFound:
        return None
    known = {each.name for each in fields(Execution)}
    return Execution(**{key: item for key, item in value.items() if key in known})


def listed(container: Container) -> list[Execution]:
    """Those of a container that run or are still to be started."""
    try:
        names = sorted(os.listdir(container.directory / "execs"))
    except FileNotFoundError:
        return []
    found = (read(container, name.removesuffix(".json")) for name in names if name.endswith(".json"))
    return [each for each in found if each is not None and each.exit_code is None]


def check_startable(execution: Execution) -> None:
    """Raise Conflict for one that was started already: each is for one run."""
    if execution.exit_code is not None:
        raise Conflict(f"exec command {execution.id} has already run")
    if execution.pid:
        raise Conflict(f"Error: Exec command {execution.id} is already running")


def _forget_old(directory: Path) -> None:
    """Those that were written long ago, and do not run: they ended, or nobody ever started them."""
    oldest = time.time() - KEPT
    for entry in os.scandir(directory):
        with contextlib.suppress(OSError, ValueError, NotFound):
            if entry.stat().st_mtime < oldest:
                value = files.read_json(Path(entry.path))
                if value["exit_code"] is not None or not value["pid"]:
                    os.unlink(entry.path)
