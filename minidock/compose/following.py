"""The logs of many containers as one text: each line behind the coloured name of its container."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from minidock.compose import labels, members
from minidock.compose.interpolation import Warn
from minidock.compose.members import Member
from minidock.errors import MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.engine import Engine

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


@dataclass(slots=True)
class Page:
    """Where the lines go. *prefix* shows the names, *colours* paints them."""

    out: TextIO
    prefix: bool = True
    colours: bool = False
    timestamps: bool = False
    width: int = 0
    _names: list[str] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def expect(self, names: Iterable[str]) -> None:
        """Make room for these names."""
        self.width = max([self.width, *map(len, names)])

    def lines(self, name: str, text: bytes, moment: str = "") -> None:
        """Write whole lines of the container *name*."""
        head = self._head(name)
        stamp = f"{moment} " if self.timestamps and moment else ""
        shown = "".join(f"{head}{stamp}{line}\n" for line in text.decode(errors="replace").split("\n"))
        with self._lock:
            self.out.write(shown)
            self.out.flush()

    def note(self, name: str, text: str) -> None:
        with self._lock:
            self.out.write(f"{name} {text}\n")
            self.out.flush()

    def _head(self, name: str) -> str:
        if not self.prefix:
            return ""
        with self._lock:
            if name not in self._names:
                self._names.append(name)
        head = f"{name.ljust(self.width)}  | "
        if not self.colours:
            return head
        return f"\x1b[{_COLOURS[self._names.index(name) % len(_COLOURS)]}m{head}\x1b[0m"


def short_name(member: Member) -> str:
    """``web-1``; a container with a name of its own, or of `run`, by that name."""
    usual = f"-{member.service}-{member.number}"
    return f"{member.service}-{member.number}" if member.name.endswith(usual) else member.name


def show(engine: Engine, member: Member, page: Page, **options: Any) -> None:
    """Write the log of one container: `compose logs`. *options* as of engine.logs."""
    name, rest = short_name(member), {"stdout": b"", "stderr": b""}
    for stream, text, moment in engine.logs(member.id, **options):
        text = rest[stream] + text
        whole, newline, rest[stream] = text.rpartition(b"\n")
        if newline:
            page.lines(name, whole.rstrip(b"\r"), moment)
    for left in rest.values():
        if left:
            page.lines(name, left)


class Follower:
    """`logs -f`: shows what containers write, also those that start later; *options* as of engine.logs."""

    def __init__(self, engine: Engine, page: Page, **options: Any) -> None:
        self._engine, self._page, self._options = engine, page, options
        self._ends: queue.Queue[Member] = queue.Queue()
        self._reading = set[str]()
        self._read_until: dict[str, str] = {}  # of each container that was read already
        self._lock = threading.Lock()

    def follow(self, project: str, services: Collection[str], warn: Warn) -> None:
        """Until nobody is left who could write."""
        ready = threading.Event()
        threading.Thread(target=self._watch, args=(project, services, warn, ready), daemon=True).start()
        ready.wait()  # from here on nobody starts unseen
        for member in members.find(self._engine, project, services):
            self._begin(member, warn)
        while self._reading:
            member = self._ends.get()
            with self._lock:
                self._reading.discard(member.id)

    def _watch(self, project: str, services: Collection[str], warn: Warn, ready: threading.Event) -> None:
        filters = {"type": ["container"], "event": ["start"], "label": [f"{labels.PROJECT}={project}"]}
        for event in self._engine.events(filters=filters, on_ready=ready.set):
            for member in members.find(self._engine, project, services):
                if member.id == event["Actor"]["ID"]:
                    self._begin(member, warn)

    def _begin(self, member: Member, warn: Warn) -> None:
        with self._lock:
            if member.id in self._reading or member.container.spec.log_driver == "none":
                return
            self._reading.add(member.id)
        threading.Thread(target=self._read, args=(member, warn), daemon=True).start()

    def _read(self, member: Member, warn: Warn) -> None:
        options = dict(self._options)
        if member.id in self._read_until:  # it was started again
            options.update(tail=None, since=self._read_until[member.id])
        try:
            show(self._engine, member, self._page, follow=True, **options)
        except NotFound:
            pass
        except MinidockError as error:
            warn(error.message)
        finally:
            self._read_until[member.id] = f"{time.time():.9f}"
            self._ends.put(member)


class Audience:
    """Follows containers while they run, in the foreground. *ends* tells of each that has ended for good."""

    def __init__(self, engine: Engine, page: Page, *, silent: Iterable[str] = ()) -> None:
        self.ends: queue.Queue[tuple[Member, int]] = queue.Queue()
        self.watched = set[str]()
        self._engine, self._page, self._silent = engine, page, set(silent)
        self._since = f"{time.time():.9f}"

    def watch(self, member: Member) -> None:
        """Show what the container writes from the time on at which this object was made."""
        if member.id in self.watched:
            return
        self.watched.add(member.id)
        threading.Thread(target=self._follow, args=(member,), daemon=True).start()

    def _follow(self, member: Member) -> None:
        code, since = 0, self._since
        try:
            if member.service in self._silent or member.container.spec.log_driver == "none":
                code = self._engine.wait(member.id)
            else:
                with contextlib.suppress(MinidockError):
                    show(self._engine, member, self._page, follow=True, since=since)
                code = self._engine.wait(member.id)
            self._page.note(short_name(member), f"exited with code {code}")
        except MinidockError:  # removed meanwhile
            pass
        finally:
            self.ends.put((member, code))
