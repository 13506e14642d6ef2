"""One container: a directory and, while it runs, a process that holds a lock.

``<root>/containers/<id>/`` has config.json (what it is asked to be: spec.py) and state.json (what
became of it). Who is alive is known by flock alone: the shim holds shim.lock as long as it lives. A pid
would lie after a reboot, a lock cannot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minidock import events, files
from minidock.containers import timestamps
from minidock.containers.life import ALIVE, RESTARTING
from minidock.containers.spec import Spec
from minidock.errors import MinidockError, NotFound

UNKNOWN = 255  # the exit code of a container whose end nobody recorded; Docker's choice


@dataclass(slots=True)
class State:
    """What became of a container; only its shim writes it (and `reconcile`, when the shim died)."""

    status: str = "created"  # one of life.STATES
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = timestamps.NEVER
    finished_at: str = timestamps.NEVER
    restart_count: int = 0  # starts that the restart policy made since the user's last one
    stopped_by_user: bool = False
    boot: str = ""  # the start of the machine in which it ran: see timestamps.boot
    health: dict[str, Any] = field(default_factory=dict)  # see health.py; empty without a health check


class Container:
    """One container of a state root. Cheap to make: nothing is read before it is asked for."""

    def __init__(self, root: Path, identifier: str, spec: Spec | None = None) -> None:
        self.root = root
        self.id = identifier
        self.directory = root / "containers" / identifier
        self._spec = spec

    def __repr__(self) -> str:
        return f"Container({self.id[:12]})"

    @property
    def spec(self) -> Spec:
        """The specification in config.json, read once.

        Raises NotFound when the container is gone, MinidockError when the file is damaged.
        """
        if self._spec is None:
            path = self.directory / "config.json"
            try:
                self._spec = Spec.from_json(files.read_json(path))
            except NotFound:
                raise no_such_container(self.id) from None
            except (MinidockError, AttributeError, KeyError, TypeError, ValueError) as error:
                why = str(error).removeprefix(f"{path}: ")
                raise MinidockError(
                    f"{path}: what this container is made of cannot be read: {why}",
                    hint=f"It cannot start any more: minidock rm -f {self.id[:12]}",
                ) from None
        return self._spec

    def forget_spec(self) -> None:
        """Read config.json again when it is next asked for: another process changed it."""
        self._spec = None

    @property
    def name(self) -> str:
        return self.spec.name

    def state(self) -> State:
        """What state.json says; a container never started has none.

        A damaged file costs no more than the memory of the last run: whether it lives, the lock tells.
        """
        try:
            value = files.read_json(self.directory / "state.json")
            if not isinstance(value.get("status"), str):
                raise MinidockError(f"{self.directory}/state.json: holds no state")
            found = State()
            for each in fields(State):
                if type(value.get(each.name)) is type(getattr(found, each.name)):
                    setattr(found, each.name, value[each.name])
            return found
        except NotFound:
            return State()
        except (MinidockError, AttributeError) as error:
            return State("running", exit_code=UNKNOWN, error=str(error))  # if not, `reconcile` says so

    def write_state(self, state: State) -> None:
        """Replace state.json. Synced only where a restart policy asks what it says after a power cut.

        Of the others it is enough to know that they have ended.
        """
        try:
            asked = self.spec.restart_policy != "no"
        except MinidockError:  # damaged: it cannot start any more
            asked = False
        files.write_json(self.directory / "state.json", state, sync=asked, squeeze=True)

    def alive(self) -> bool:
        """Whether its shim lives."""
        return files.is_locked(self.directory / "shim.lock")

    def status(self) -> str:
        """One of life.STATES, as the truth is now."""
        status = self.state().status
        return "exited" if status in ALIVE and not self.alive() else status

    def running(self) -> bool:
        """Whether its processes exist (a paused container's do)."""
        return self.status() in ALIVE

    def note(self, action: str, **attributes: str) -> None:
        """Add a line to what `events` shows, with the container's image, name and labels."""
        about = attributes
        with contextlib.suppress(MinidockError):  # damaged, or gone: it happened all the same
            spec = self.spec
            about = {**spec.labels, "image": spec.image, "name": spec.name, **attributes}
        events.record(self.root, "container", action, self.id, **about)

    def exists(self) -> bool:
        return (self.directory / "config.json").exists()

    def resting(self) -> bool:
        """Whether it has ended and its restart policy will start it again: alive, but without processes."""
        return self.status() == RESTARTING

    @contextmanager
    def lock(self, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
        """Be the only one who starts, removes, copies into or commits this container.

        *shared* is for those who look at one that runs: they only keep it from being started anew.
        A flock on the directory itself: no file to make, none to leave behind. Yields its descriptor: who
        inherits that holds the lock, too. Raises NotFound when the container was removed while we waited;
        without *wait* BlockingIOError when somebody else holds it.
        """
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise no_such_container(self.id) from None
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
            if not self.exists():
                raise no_such_container(self.id)
            yield descriptor
        finally:
            os.close(descriptor)


def no_such_container(text: str) -> NotFound:
    return NotFound(f"No such container: {text}")
