"""A container that runs, as its shim holds it: what requests and `exec` work on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minidock import trace
from minidock.containers.client import Client
from minidock.containers.console import Console
from minidock.containers.loop import Loop
from minidock.containers.state import Container, State
from minidock.kernel import cgroups

if TYPE_CHECKING:
    from minidock.containers.cables import Cables


@dataclass(slots=True)
class Running:
    """*pid* is the container's first process; the shim is its parent, so it cannot be another's."""

    container: Container
    loop: Loop
    console: Console
    cgroup: cgroups.Cgroup
    pid: int
    state: State
    cables: Cables | None  # None: in no network of ours
    began: float = field(default_factory=time.monotonic)
    ended: bool = False  # the first process was reaped: *pid* means nothing any more
    resting: bool = False  # it has ended, and the restart policy will start it again
    on_end: list[Callable[[], None]] = field(default_factory=list)  # what has to stop with it
    wanted_end: bool = False  # somebody stopped or killed it: no restart policy counts
    waiters: list[Client] = field(default_factory=list)
    log_readers: list[Client] = field(default_factory=list)
    execs: dict[str, int] = field(default_factory=dict)  # id → pid of what `exec` started and still runs
    executions: dict[str, Console] = field(default_factory=dict)  # their consoles, by the same ids

    def lasted(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def wake_up(self) -> None:
        """The rest before a restart is over, or somebody wants none."""
        self.resting = False

    def end_for_good(self) -> None:
        """A user wants it to end: no restart policy counts from now on."""
        self.state.stopped_by_user = True
        self.end_for_now()

    def end_for_now(self) -> None:
        """It is to end, and no restart policy counts until the machine has started again."""
        self.wanted_end = True
        if self.resting:
            self.wake_up()
        elif not self.ended:  # one that has just ended is about to be recorded anyway
            self.record()

    def record(self, **changes: Any) -> None:
        """Change state.json."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        self.container.write_state(self.state)

    def note(self, action: str, **attributes: str) -> None:
        """Add a line to what `events` shows."""
        self.container.note(action, **attributes)

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        if not self.ended:
            os.kill(self.pid, number)

    def wake_log_readers(self) -> None:
        """Tell those who follow the log that it grew. One word in the socket is enough: they read all."""
        for reader in self.log_readers:
            if not reader.backlog:
                reader.tell(more=True)


def write_trace(container: Container, recorder: trace.Recorder) -> None:
    """Append recorded steps to the container's trace.jsonl, in the order of time."""
    recorder.steps.sort(key=lambda step: step.at)
    path = container.directory / "trace.jsonl"
    with contextlib.suppress(OSError):  # a full disk must not end a container
        recorder.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        recorder.flush()
        os.close(recorder.descriptor)
