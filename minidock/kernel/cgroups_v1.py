"""cgroup v1: one directory per controller.

Source: Documentation/admin-guide/cgroup-v1 of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import time

from minidock.errors import KernelError, MinidockError
from minidock.kernel import cgroup_tree, syscalls
from minidock.kernel.cgroup_tree import Limits, Places, Reading, Setting, check, given, keyed

# cpuset is made only when asked for: an unfilled one refuses every process
ALWAYS = tuple(name for name in cgroup_tree.CONTROLLERS if name != "cpuset")
UNLIMITED = 1 << 62  # v1 spells "no limit" as a huge number of bytes
_BOTH = "memory.memsw.limit_in_bytes"  # memory and swap together


ENTRANCE = "tasks"  # the file by which a process of one thread enters


def create(roots: Places, parent: str, name: str) -> Places:
    """Make ``parent/name`` in every mounted tree. Controllers mounted together share one directory."""
    places = {name_: f"{roots[name_]}/{parent}/{name}" for name_ in ALWAYS if name_ in roots}
    for directory in dict.fromkeys(places.values()):
        _make(directory)
    return places


def _make(directory: str) -> None:
    """mkdir with parents; another process may be making or removing the same ones."""
    above = os.path.dirname(directory)
    for attempt in range(5):
        try:
            if not os.path.isdir(above):
                _make(above)
            syscalls.mkdir(directory)
        except KernelError as error:
            if error.errno_name == "EEXIST":
                return
            if error.errno_name != "ENOENT" or attempt == 4:
                raise
        else:
            return


def settings(limits: Limits) -> list[Setting]:
    """The settings for cgroup v1. Source: Documentation/admin-guide/cgroup-v1 of the kernel."""
    check(limits)
    wanted: list[tuple[str, str, object]] = [
        # memory before memory+swap: on a fresh cgroup memsw may never be below memory
        ("memory", "memory.limit_in_bytes", limits.memory),
        ("memory", _BOTH, limits.swap_too),
        ("memory", "memory.soft_limit_in_bytes", limits.memory_reservation),
        ("memory", "memory.oom_control", 1 if limits.oom_kill_disable else None),
        ("memory", "memory.swappiness", _text(limits.memory_swappiness)),
        # the period first: a quota above the old period's bandwidth could be refused
        ("cpu", "cpu.cfs_period_us", limits.cpu_period),
        ("cpu", "cpu.cfs_quota_us", limits.cpu_quota),
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("cpuset", "cpuset.cpus", limits.cpuset_cpus),
        ("cpuset", "cpuset.mems", limits.cpuset_mems),
    ]
    if limits.pids:
        wanted.append(("pids", "pids.max", "max" if limits.pids < 0 else limits.pids))
    return given(wanted)


def _text(value: int | None) -> str | None:
    """As text, so that 0 is a value like any other."""
    return None if value is None else str(value)


def prepare(places: Places, settings: list[Setting]) -> list[Setting]:
    """What is to be written so that *settings* hold; the cpuset directory is made when one needs it.

    Raises MinidockError when the machine lacks a controller.
    """
    if any(controller == "cpuset" for controller, _, _ in settings) and "cpuset" not in places:
        _add_cpuset(places)
    ready: list[Setting] = []
    for controller, file, text in settings:
        if controller not in places:
            raise MinidockError(
                f"cgroup: this machine has no {controller} controller, which {file} needs",
                hint="See /proc/cgroups; a kernel option such as cgroup_enable=memory may switch it on.",
            )
        both = f"{places[controller]}/{_BOTH}"
        if file == _BOTH and not os.path.exists(both):
            continue  # a kernel without swap accounting has no such file; Docker goes on, too
        # Above the present limit of memory+swap the kernel says EINVAL: lift that first (it is set next).
        above = file == "memory.limit_in_bytes" and os.path.exists(both)
        if above and int(text) > int(syscalls.read_file(both)):
            ready.append((controller, _BOTH, "-1"))
        ready.append((controller, file, text))
    return ready


def _add_cpuset(places: Places) -> None:
    """A new v1 cpuset is empty, and a process in an empty one could run nowhere: fill it from above."""
    roots = cgroup_tree.hierarchies()[1]
    if "cpuset" not in roots:
        return
    below_root = places["freezer"].removeprefix(roots["freezer"])
    directory = roots["cpuset"]
    for part in below_root.strip("/").split("/"):
        above, directory = directory, f"{directory}/{part}"
        _make(directory)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not syscalls.read_file(f"{directory}/{file}").strip():
                syscalls.write_file(f"{directory}/{file}", syscalls.read_file(f"{above}/{file}").strip())
    places["cpuset"] = directory
    for pid in cgroup_tree.processes(places["freezer"]):  # a limit that comes while it runs
        syscalls.write_file(f"{directory}/cgroup.procs", str(pid))


def freeze(places: Places, deadline: float) -> None:
    """Ask for FROZEN until it is so: a process forked meanwhile leaves the state at FREEZING."""
    if "freezer" not in places:
        raise MinidockError("cgroup: nothing to freeze: the container has no freezer cgroup")
    state = f"{places['freezer']}/freezer.state"
    pause = 0.0005
    while True:
        syscalls.write_file(state, "FROZEN")
        if frozen(places):
            return
        if time.monotonic() > deadline:
            syscalls.write_file(state, "THAWED")  # half a container standing is worse than none
            raise MinidockError("cgroup: the processes did not freeze in time; they run on")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def thaw(places: Places) -> None:
    """Wake all."""
    if "freezer" in places:
        syscalls.write_file(f"{places['freezer']}/freezer.state", "THAWED")


def frozen(places: Places) -> bool:
    """Whether all stand still (FREEZING: not yet all)."""
    return "freezer" in places and syscalls.read_file(f"{places['freezer']}/freezer.state") == "FROZEN\n"


def kill_all(places: Places, deadline: float) -> None:
    """Freeze so that none can fork away, signal each, thaw so that they can die; again until none is left."""
    while pids := _everywhere(places):
        if "freezer" in places:
            with contextlib.suppress(KernelError):  # removed meanwhile
                syscalls.write_file(f"{places['freezer']}/freezer.state", "FROZEN")
        # read again: what forked before the freeze is now on the list, and a frozen pid cannot be reused
        for pid in _everywhere(places):
            try:
                os.kill(pid, syscalls.SIGKILL)
            except ProcessLookupError:
                continue
        _thaw_below(places)
        if time.monotonic() > deadline:
            raise MinidockError(f"cgroup: processes {pids} do not die: they are stuck inside the kernel")
        time.sleep(0.001)
    with contextlib.suppress(KernelError):
        if places and frozen(places):
            thaw(places)  # paused while empty: nobody who enters now should stand still for ever


def _thaw_below(places: Places) -> None:
    """Wake the cgroup and those in it: a frozen process does not even die."""
    waiting = [places["freezer"]] if "freezer" in places else []
    while waiting:
        directory = waiting.pop()
        with contextlib.suppress(KernelError):  # removed meanwhile
            syscalls.write_file(f"{directory}/freezer.state", "THAWED")
        waiting += [f"{directory}/{child}" for child in cgroup_tree.children(directory)]


def _everywhere(places: Places) -> list[int]:
    """The pids in any tree: one that is just entering is in some trees, but not yet in all."""
    return sorted({pid for place in set(places.values()) for pid in cgroup_tree.processes(place)})


def oom_kills(places: Places) -> int:
    """The oom_kill counter of memory.oom_control (kernel 4.13 and newer)."""
    if "memory" not in places:
        return 0
    return keyed(syscalls.read_file(f"{places['memory']}/memory.oom_control")).get("oom_kill", 0)


def memory_in_use(places: Places) -> int | None:
    """Usage without the page cache that nobody has used for a while; "total": with the cgroups below."""
    usage = _number(places, "memory", "memory.usage_in_bytes")
    inactive = keyed(_read(places, "memory", "memory.stat")).get("total_inactive_file", 0)
    return None if usage is None else max(usage - inactive, 0)


def statistics(places: Places) -> Reading:
    """One reading of all controllers."""
    cpu = keyed(_read(places, "cpu", "cpu.stat"))
    read, write = _io(_read(places, "blkio", "blkio.throttle.io_service_bytes_recursive"))
    return {
        "memory_usage": _number(places, "memory", "memory.usage_in_bytes"),
        "memory_limit": _number(places, "memory", "memory.limit_in_bytes"),
        "memory_peak": _number(places, "memory", "memory.max_usage_in_bytes"),
        "cpu_usage": _number(places, "cpuacct", "cpuacct.usage"),
        "cpu_user": _number(places, "cpuacct", "cpuacct.usage_user"),
        "cpu_system": _number(places, "cpuacct", "cpuacct.usage_sys"),
        "cpu_periods": cpu.get("nr_periods"),
        "cpu_throttled_periods": cpu.get("nr_throttled"),
        "cpu_throttled_time": cpu.get("throttled_time"),
        "pids": _number(places, "pids", "pids.current"),
        "pids_limit": _number(places, "pids", "pids.max"),
        "io_read": read,
        "io_write": write,
    }


def _read(places: Places, controller: str, file: str) -> str:
    path = f"{places.get(controller, '')}/{file}"
    return syscalls.read_file(path) if controller in places and os.path.exists(path) else ""


def _number(places: Places, controller: str, file: str) -> int | None:
    text = _read(places, controller, file).strip()
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _io(text: str) -> tuple[int | None, int | None]:
    """``8:0 Read 4096`` lines, summed over the devices."""
    if not text:
        return None, None
    lines = [line.split() for line in text.splitlines()]
    return tuple(sum(int(line[2]) for line in lines if line[1:2] == [kind]) for kind in ("Read", "Write"))  # type: ignore[return-value]
