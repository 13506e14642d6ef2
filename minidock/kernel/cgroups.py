"""Control groups: how much a container may use, and how to get hold of all its processes at once.

The kernel has two interfaces. In **v1** every controller (memory, cpu, pids, …) is a directory tree of
its own, and a container is one directory in each. In **v2** there is one tree and a container is one
directory in it. Both are driven through files, and both look the same from here: a :class:`Cgroup`
has *places*, a map from controller to directory (in v2 all of them are the same directory).
cgroups_v1.py and cgroups_v2.py hold what differs, and which number goes into which file;
cgroup_tree.py what they share.

A container's cgroup is ``<parent>/<container id>``; everything below *parent* is minidock's, and
nothing outside it is ever changed (except that v2's root must hand controllers down).

Cost: making, entering and removing one takes about 0.3 ms. But whoever moves *another* process takes a
lock over all processes of the machine, and the first one in a while waits 5–15 ms for it. A thread that
moves only itself (v1's ``tasks``) does not need it: a container's first process enters on its own.
"""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from minidock import trace
from minidock.config import DEFAULT_ROOT
from minidock.errors import KernelError
from minidock.kernel import syscalls
from minidock.kernel.cgroup_tree import (
    Limits,
    Places,
    Reading,
    Setting,
    Statistics,
    children,
    hierarchies,
    processes,
)

# --- which kernel interface ----------------------------------------------------------------------


def detect() -> str:
    """The interface that this machine uses: "v1" or "v2"."""
    return hierarchies()[0]


def driver() -> ModuleType:
    """The module that speaks this machine's interface."""
    if detect() == "v1":
        from minidock.kernel import cgroups_v1

        return cgroups_v1
    from minidock.kernel import cgroups_v2

    return cgroups_v2


def parent_for(root: Path) -> str:
    """The cgroup under which the containers of the state directory *root* live."""
    if root == DEFAULT_ROOT:
        return "minidock"
    return f"minidock-{zlib.crc32(os.fsencode(root)):08x}"


# --- the mechanisms (lesson 03): each takes the places of a cgroup ---------------------------------


@trace.mechanism(lesson=3)
def create(parent: str, name: str) -> Places:
    """Make the container's own cgroup: from then on its processes can be counted and held as one."""
    places: Places = driver().create(hierarchies()[1], parent, name)
    return places


@trace.mechanism(lesson=3)
def limit(places: Places, settings: list[Setting]) -> None:
    """Write the limits before the first process enters, so that none ever runs without them."""
    for controller, file, text in settings:
        syscalls.write_file(f"{places[controller]}/{file}", text)


@trace.mechanism(lesson=3)
def attach(places: Places, pid: int) -> None:
    """Move the process in: its children are born in the same cgroup and cannot leave it."""
    for directory in dict.fromkeys(places.values()):
        syscalls.write_file(f"{directory}/cgroup.procs", str(pid))


@trace.mechanism(lesson=3)
def enter(places: Places) -> None:
    """Move ourselves in, before anything of the container runs: the program is born in its cgroup.

    The process must have one thread. Source: cgroup_procs_write_start() in the kernel's cgroup.c.
    """
    entrance = driver().ENTRANCE
    for directory in dict.fromkeys(places.values()):
        syscalls.write_file(f"{directory}/{entrance}", "0")  # 0 is whoever writes


@trace.mechanism(lesson=3)
def freeze(places: Places, deadline: float) -> None:
    """Stop every process at once: unlike SIGSTOP they cannot notice it, nor be woken by SIGCONT."""
    driver().freeze(places, deadline)


@trace.mechanism(lesson=3)
def thaw(places: Places) -> None:
    """Let the frozen processes run on."""
    driver().thaw(places)


@trace.mechanism(lesson=3)
def memory_in_use(places: Places) -> int | None:
    """The bytes that the kernel could not simply take back: what `docker stats` shows, without idle cache."""
    value: int | None = driver().memory_in_use(places)
    return value


@trace.mechanism(lesson=3)
def oom_kills(places: Places) -> int:
    """How many processes the kernel killed in here for want of memory: inspect calls it OOMKilled."""
    return int(driver().oom_kills(places))


@trace.mechanism(lesson=3)
def kill_all(places: Places, deadline: float) -> None:
    """Kill every process in the cgroup, also those that fork while we kill."""
    driver().kill_all(places, deadline)


@trace.mechanism(lesson=3)
def remove(places: Places, deadline: float) -> None:
    """Remove the emptied cgroup: the kernel would keep it for ever."""
    for directory in dict.fromkeys(places.values()):
        _remove_tree(directory, deadline)


def _remove_tree(directory: str, deadline: float) -> None:
    """rmdir *directory* and the cgroups below it, which the container made; gone already is fine."""
    while True:
        try:
            syscalls.rmdir(directory)
            return
        except KernelError as error:
            if error.errno_name == "ENOENT":
                return
            if error.errno_name != "EBUSY" or time.monotonic() > deadline:
                raise
        # busy: cgroups inside, or killed processes that are still on their way out
        for child in children(directory):
            _remove_tree(f"{directory}/{child}", deadline)
        time.sleep(0.001)


# --- one container's cgroup ----------------------------------------------------------------------


@dataclass(slots=True)
class Cgroup:
    """One cgroup, named as /proc/PID/cgroup names it: *name* is ``minidock/<container id>``."""

    name: str
    places: Places

    @classmethod
    def create(cls, name: str, parent: str) -> Cgroup:
        """Make ``<parent>/<name>`` (and *parent*, when it is the first). An existing one is taken over."""
        return cls(f"{parent}/{name}", create(parent, name))

    @classmethod
    def open(cls, name: str, parent: str) -> Cgroup:
        """The cgroup ``<parent>/<name>`` where it exists; it may have no places at all (already removed)."""
        found = {
            controller: directory
            for controller, root in hierarchies()[1].items()
            if os.path.isdir(directory := f"{root}/{parent}/{name}")
        }
        return cls(f"{parent}/{name}", found)

    def path(self, controller: str = "pids") -> Path | None:
        """The directory of *controller*, or None where this machine lacks it."""
        return Path(self.places[controller]) if controller in self.places else None

    def apply(self, **limits: int | str | bool | None) -> None:
        """Set limits: the fields of :class:`Limits` as keywords.

        Raises InvalidInput for impossible combinations, MinidockError when the machine lacks the
        controller, KernelError when the kernel refuses a value.
        """
        wanted = Limits(**limits)  # type: ignore[arg-type]
        settings: list[Setting] = driver().prepare(self.places, driver().settings(wanted))
        if settings:
            limit(self.places, settings)

    def attach(self, pid: int) -> None:
        """Move process *pid* in (0: the caller)."""
        attach(self.places, pid)

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop all processes and wait until they stand; MinidockError after *timeout* seconds."""
        freeze(self.places, time.monotonic() + timeout)

    def thaw(self) -> None:
        """Let all processes run on."""
        thaw(self.places)

    def frozen(self) -> bool:
        """Whether the processes stand still."""
        return bool(driver().frozen(self.places))

    def processes(self) -> list[int]:
        """The pids in this cgroup and in those below it, as this pid namespace sees them."""
        last = next(reversed(self.places.values()), None)  # entered last: listed there, a process is in all
        return [] if last is None else processes(last)

    def kill(self, timeout: float = 10.0) -> None:
        """SIGKILL to every process inside, frozen ones too; returns when none is left.

        Raises MinidockError when some survive *timeout* seconds (stuck inside the kernel).
        """
        kill_all(self.places, time.monotonic() + timeout)

    def statistics(self) -> Statistics:
        """What the cgroup uses now, and its limits."""
        reading: Reading = driver().statistics(self.places)
        return {**reading, "memory_working": memory_in_use(self.places)}

    def oom_kills(self) -> int:
        """How many processes the kernel killed in here for want of memory."""
        return oom_kills(self.places)

    def remove(self, timeout: float = 5.0) -> None:
        """Remove the cgroup; waits while killed processes are dying. Nothing happens when it is gone."""
        remove(self.places, time.monotonic() + timeout)


# --- what is left of minidock on the machine -----------------------------------------------------


def parents() -> list[str]:
    """The parent cgroups of all minidock state directories on this machine."""
    names = {
        name
        for root in set(hierarchies()[1].values())
        for name in children(root)
        if name == "minidock" or name.startswith("minidock-")
    }
    return sorted(names)


def leftovers(parent: str) -> list[str]:
    """The names (container ids) of the cgroups that exist below *parent*."""
    return sorted({name for root in set(hierarchies()[1].values()) for name in children(f"{root}/{parent}")})


def remove_parent(parent: str) -> bool:
    """Remove *parent* itself if nothing is left in it; whether it is gone afterwards."""
    gone = True
    for root in dict.fromkeys(hierarchies()[1].values()):
        try:
            os.rmdir(f"{root}/{parent}")
        except FileNotFoundError:
            continue
        except OSError:
            gone = False
    return gone
