"""What cgroup v1 and v2 share: where the trees are mounted, what a cgroup may be asked and answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from minidock.errors import InvalidInput, MinidockError
from minidock.kernel import syscalls

if TYPE_CHECKING:
    from typing import TypedDict
else:
    TypedDict = dict  # a start does not wait for the real one

Places = dict[str, str]  # controller → the cgroup's directory in that controller's tree
Setting = tuple[str, str, str]  # controller, file in the cgroup's directory, what to write
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a cgroup may use. Memory in bytes, cpu times in microseconds; None: no limit.

    memory_swap is memory *and* swap together; -1 is unlimited swap; None with a memory limit means
    twice that limit, as Docker has it. cpu_shares is v1's scale (2..262144, default 1024). pids below
    1 means unlimited. memory_swappiness, 0 to 100, is how readily memory goes to swap; only v1 has it.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None
    oom_kill_disable: bool = False
    memory_swappiness: int | None = None

    @property
    def swap_too(self) -> int | None:
        """The limit of memory and swap together, after Docker's default."""
        if self.memory_swap:
            return self.memory_swap
        return 2 * self.memory if self.memory and self.memory > 0 else None


def check(limits: Limits) -> None:
    """Raise InvalidInput for limits that contradict each other, in Docker's words."""
    if limits.memory_swap and limits.memory_swap > 0:
        if not limits.memory:
            raise InvalidInput(
                "You should always set the Memory limit when using Memoryswap limit, see usage"
            )
        if limits.memory_swap < limits.memory:
            raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")


class Reading(TypedDict):
    """One reading. Bytes and nanoseconds; None where the machine has no such limit or controller."""

    memory_usage: int | None
    memory_limit: int | None
    memory_peak: int | None
    cpu_usage: int | None
    cpu_user: int | None
    cpu_system: int | None
    cpu_periods: int | None
    cpu_throttled_periods: int | None
    cpu_throttled_time: int | None
    pids: int | None
    pids_limit: int | None
    io_read: int | None
    io_write: int | None


class Statistics(Reading):
    """A reading, and what follows from it."""

    memory_working: int | None  # usage without inactive page cache: what `docker stats` shows


@cache
def hierarchies() -> tuple[str, Places]:
    """("v1" or "v2", where each controller is mounted), found in /proc/self/mountinfo.

    A hybrid machine (v1 controllers beside an empty v2 tree) counts as v1.
    """
    found: Places = {}
    unified = ""
    for line in syscalls.read_file("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        where = left.split(" ")[4]
        if kind == "cgroup":
            for controller in set(options.split(",")) & set(CONTROLLERS):
                found.setdefault(controller, where)
        elif kind == "cgroup2" and not unified:
            unified = where
    if found:
        return "v1", found
    if unified:
        return "v2", dict.fromkeys(CONTROLLERS, unified)
    raise MinidockError(
        "no cgroup filesystem is mounted",
        hint="mount -t cgroup2 none /sys/fs/cgroup (a booted system has it).",
    )


def children(directory: str) -> list[str]:
    """The names of the cgroups directly below *directory*; none where it does not exist."""
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def processes(directory: str) -> list[int]:
    """The pids in the cgroup *directory* and below it, as this pid namespace sees them."""
    try:
        with open(f"{directory}/cgroup.procs") as file:
            pids = [int(line) for line in file]
    except (FileNotFoundError, OSError):  # ENODEV: removed while we read
        return []
    for child in children(directory):
        pids += processes(f"{directory}/{child}")
    return [pid for pid in pids if pid]  # 0: a process that this pid namespace cannot see


def keyed(text: str) -> dict[str, int]:
    """A flat keyed file (``memory.stat``, ``cpu.stat``, ``cgroup.events``) as a dictionary."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def given(wanted: list[tuple[str, str, object]]) -> list[Setting]:
    """Only those settings whose value was asked for, as text."""
    return [
        (controller, file, str(value)) for controller, file, value in wanted if value not in (None, 0, "")
    ]
