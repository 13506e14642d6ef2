"""cgroup v2: one tree, one directory per container.

Two rules of v2 shape this file. A cgroup offers a controller only if every ancestor handed it down
in its ``cgroup.subtree_control``. And a cgroup that hands controllers down holds no processes itself
(the root excepted): processes live in the leaves, which is why containers sit *below* the parent.

Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import time

from minidock.errors import KernelError, MinidockError
from minidock.kernel import cgroup_tree, syscalls
from minidock.kernel.cgroup_tree import Limits, Places, Reading, Setting, check, given, keyed

DEFAULT_PERIOD = 100_000  # microseconds: the kernel's own cpu period
WANTED = ("cpu", "cpuset", "io", "memory", "pids")
ENTRANCE = "cgroup.procs"  # the file by which a process of one thread enters


def create(roots: Places, parent: str, name: str) -> Places:
    """Make ``parent/name``, then hand the controllers down to it, level by level.

    In this order because other commands may be removing the same parent, or making it anew: once our
    own cgroup stands in it, nobody can remove it.
    """
    root, steps = roots["pids"], f"{parent}/{name}".split("/")
    levels = ["/".join([root, *steps[:depth]]) for depth in range(len(steps) + 1)]
    for attempt in range(5):
        try:
            for directory in levels[1:]:
                _make(directory)
        except KernelError as error:
            # the parent, empty until now, was just removed: make it again
            if error.errno_name not in ("ENOENT", "ENODEV") or attempt == 4:
                raise
        else:
            break
    for directory in levels[:-1]:
        _hand_down(directory)
    return dict.fromkeys(cgroup_tree.CONTROLLERS, levels[-1])


def _make(directory: str) -> None:
    try:
        if not os.path.isdir(directory):
            syscalls.mkdir(directory)
    except KernelError as error:
        if error.errno_name != "EEXIST":
            raise


def _hand_down(directory: str) -> None:
    """Enable in *directory* what its children need and it may give; one by one where all at once fails.

    A controller that cannot be had is no error yet: only a limit that needs it is (see prepare).
    """
    offered = syscalls.read_file(f"{directory}/cgroup.controllers").split()
    control = f"{directory}/cgroup.subtree_control"
    enabled = syscalls.read_file(control).split()
    missing = [f"+{name}" for name in WANTED if name in offered and name not in enabled]
    if not missing or _holds_processes(directory):
        return
    try:
        syscalls.write_file(control, " ".join(missing))
    except KernelError:
        for each in missing:
            try:
                syscalls.write_file(control, each)
            except KernelError:
                continue


def _let_others_finish(directory: str, controller: str) -> None:
    """Wait until who hands *controller* down in *directory* just now has brought it to our cgroup, too.

    cgroup.subtree_control names it a moment before its files are in the cgroups below. The kernel lets in
    one writer at a time: when our write, which changes nothing, is done, so is the other's.
    """
    control = f"{directory}/cgroup.subtree_control"
    with contextlib.suppress(KernelError):
        if controller in syscalls.read_file(control).split():
            syscalls.write_file(control, f"+{controller}")


def _holds_processes(directory: str) -> bool:
    """Whether this cgroup may hand nothing down: it has processes, and is not the root of all.

    So it is inside a container. The kernel would refuse memory and io, but take cpu and pids: they can
    count threads, and the children would become threaded cgroups, which take no process ("domain invalid").
    """
    is_root = not os.path.exists(f"{directory}/cgroup.type")
    return not is_root and bool(syscalls.read_file(f"{directory}/cgroup.procs"))


def settings(limits: Limits) -> list[Setting]:
    """The settings for cgroup v2. Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

    oom_kill_disable and memory_swappiness have no counterpart (Docker drops the options there, too).
    """
    check(limits)
    wanted: list[tuple[str, str, object]] = [
        ("memory", "memory.max", _or_max(limits.memory) if limits.memory else None),
        ("memory", "memory.swap.max", _swap_alone(limits)),
        ("memory", "memory.low", limits.memory_reservation),
        ("cpu", "cpu.weight", weight_from_shares(limits.cpu_shares) if limits.cpu_shares else None),
        ("cpuset", "cpuset.cpus", limits.cpuset_cpus),
        ("cpuset", "cpuset.mems", limits.cpuset_mems),
    ]
    if limits.cpu_quota or limits.cpu_period:
        quota = _or_max(limits.cpu_quota or -1)
        wanted.append(("cpu", "cpu.max", f"{quota} {limits.cpu_period or DEFAULT_PERIOD}"))
    if limits.pids:
        wanted.append(("pids", "pids.max", _or_max(limits.pids)))
    return given(wanted)


def weight_from_shares(shares: int) -> int:
    """v1's cpu.shares (2..262144) as v2's cpu.weight (1..10000), by runc's linear formula."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142


def shares_from_weight(weight: int) -> int:
    """v2's cpu.weight as v1's cpu.shares: the way back, for showing."""
    return 2 + (min(max(weight, 1), 10_000) - 1) * 262_142 // 9999


def _swap_alone(limits: Limits) -> str | None:
    """v2 counts swap alone, Docker's option counts memory and swap together."""
    both = limits.swap_too
    if both is None:
        return None
    return "max" if both < 0 else str(both - (limits.memory or 0))


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def prepare(places: Places, settings: list[Setting]) -> list[Setting]:
    """What is to be written of *settings*. Raises MinidockError where a controller was not handed down."""
    ready: list[Setting] = []
    for controller, file, text in settings:
        path, above = f"{places[controller]}/{file}", os.path.dirname(places[controller])
        if not os.path.exists(path):
            if file == "memory.swap.max":
                continue  # a kernel without swap accounting; Docker goes on, too
            _let_others_finish(above, controller)
        if not os.path.exists(path):
            raise MinidockError(
                f"cgroup: the {controller} controller is not available in {above}, which {file} needs",
                hint=f"See {os.path.dirname(above)}/cgroup.subtree_control: each level must hand it down.",
            )
        ready.append((controller, file, text))
    return ready


def freeze(places: Places, deadline: float) -> None:
    """Write 1 and wait for the event that says all of them stand."""
    directory = places["freezer"]
    syscalls.write_file(f"{directory}/cgroup.freeze", "1")
    if not _await_event(directory, "frozen", 1, deadline):
        syscalls.write_file(f"{directory}/cgroup.freeze", "0")
        raise MinidockError("cgroup: the processes did not freeze in time; they run on")


def thaw(places: Places) -> None:
    """Wake all."""
    syscalls.write_file(f"{places['freezer']}/cgroup.freeze", "0")


def frozen(places: Places) -> bool:
    """Whether all stand still."""
    return keyed(syscalls.read_file(f"{places['freezer']}/cgroup.events")).get("frozen") == 1


def _await_event(directory: str, key: str, value: int, deadline: float) -> bool:
    """Wait until *key* in cgroup.events has *value*; the kernel wakes poll(2) when the file changes."""
    import select

    with open(f"{directory}/cgroup.events") as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while keyed(events.read()).get(key) != value:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(min(left, 0.5) * 1000)
            events.seek(0)
    return True


def kill_all(places: Places, deadline: float) -> None:
    """One write kills the whole tree (kernel 5.14); an older kernel needs freeze, signal each, thaw."""
    if not places or not os.path.isdir(places["pids"]):
        return
    directory = places["pids"]
    if os.path.exists(f"{directory}/cgroup.kill"):
        syscalls.write_file(f"{directory}/cgroup.kill", "1")
    else:
        _kill_each(directory)
    if not _await_event(directory, "populated", 0, deadline):
        pids = cgroup_tree.processes(directory)
        raise MinidockError(f"cgroup: processes {pids} do not die: they are stuck inside the kernel")


def _kill_each(directory: str) -> None:
    while pids := cgroup_tree.processes(directory):
        syscalls.write_file(f"{directory}/cgroup.freeze", "1")
        for pid in pids:
            try:
                os.kill(pid, syscalls.SIGKILL)
            except ProcessLookupError:
                continue
        syscalls.write_file(f"{directory}/cgroup.freeze", "0")
        time.sleep(0.001)


def oom_kills(places: Places) -> int:
    """The oom_kill counter of memory.events."""
    return keyed(_read(places, "memory.events")).get("oom_kill", 0)


def memory_in_use(places: Places) -> int | None:
    """Usage without the page cache that nobody has used for a while."""
    usage = _number(places, "memory.current")
    inactive = keyed(_read(places, "memory.stat")).get("inactive_file", 0)
    return None if usage is None else max(usage - inactive, 0)


def statistics(places: Places) -> Reading:
    """One reading of all controllers. v2 counts cpu time in microseconds: times 1000."""
    cpu = keyed(_read(places, "cpu.stat"))
    nanoseconds = {key: 1000 * value for key, value in cpu.items() if key.endswith("_usec")}
    read, write = _io(_read(places, "io.stat"))
    return {
        "memory_usage": _number(places, "memory.current"),
        "memory_limit": _number(places, "memory.max"),
        "memory_peak": _number(places, "memory.peak"),
        "cpu_usage": nanoseconds.get("usage_usec"),
        "cpu_user": nanoseconds.get("user_usec"),
        "cpu_system": nanoseconds.get("system_usec"),
        "cpu_periods": cpu.get("nr_periods"),
        "cpu_throttled_periods": cpu.get("nr_throttled"),
        "cpu_throttled_time": nanoseconds.get("throttled_usec"),
        "pids": _number(places, "pids.current"),
        "pids_limit": _number(places, "pids.max"),
        "io_read": read,
        "io_write": write,
    }


def _read(places: Places, file: str) -> str:
    path = f"{places.get('pids', '')}/{file}"
    return syscalls.read_file(path) if places and os.path.exists(path) else ""


def _number(places: Places, file: str) -> int | None:
    text = _read(places, file).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _io(text: str) -> tuple[int, int]:
    """``8:0 rbytes=4096 wbytes=0 …`` lines, summed over the devices."""
    pairs = [pair.partition("=") for line in text.splitlines() for pair in line.split()[1:]]
    read, write = (sum(int(value) for key, _, value in pairs if key == name) for name in ("rbytes", "wbytes"))
    return read, write
