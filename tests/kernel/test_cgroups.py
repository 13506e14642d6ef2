"""Control groups: the numbers written, and limits that really limit (v1 here, v2 in the VM)."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import InvalidInput, KernelError, MinidockError
from minidock.kernel import cgroup_tree, cgroups, cgroups_v1, cgroups_v2, syscalls
from minidock.kernel.cgroup_tree import Limits
from minidock.kernel.cgroups import Cgroup

# The VM runs under software emulation: stretch every deadline there.
SLOWNESS = float(os.environ.get("MINIDOCK_TEST_SLOWNESS") or os.environ.get("MINIDOCK_PATIENCE") or 1)
MIB = 1 << 20


def eventually(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until *what* is true; its value, or the last one when the time is over."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while not (value := what()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return value


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[str]:
    name = cgroups.parent_for(tmp_path)
    yield name
    for left in cgroups.leftovers(name):
        cgroup = Cgroup.open(left, name)
        if cgroup.places:
            cgroup.thaw()
        cgroup.kill(20 * SLOWNESS)
        eventually(reap)
        cgroup.remove(20 * SLOWNESS)
    assert cgroups.remove_parent(name)


def reap() -> bool:
    """Bury the children that ended; whether none is left."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return False
        except ChildProcessError:
            return True


@pytest.fixture
def cgroup(parent: str) -> Cgroup:
    return Cgroup.create("c1", parent)


def start_inside(cgroup: Cgroup, work: Callable[[], Any]) -> int:
    """Fork a child that enters *cgroup*, does *work* and exits with what it returns; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            cgroup.attach(os.getpid())
            code = work() or 0
        finally:
            os._exit(code)
    return pid


def outcome(pid: int) -> int:
    """The exit code of a child; a signal that killed it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleeper() -> None:
    time.sleep(1000)


# --- the numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "v1", "v2"),
    [
        (
            {"memory": 64 * MIB},
            {"memory.limit_in_bytes": 64 * MIB, "memory.memsw.limit_in_bytes": 128 * MIB},
            {"memory.max": 64 * MIB, "memory.swap.max": 64 * MIB},
        ),
        (
            {"memory": 64 * MIB, "memory_swap": 64 * MIB},
            {"memory.limit_in_bytes": 64 * MIB, "memory.memsw.limit_in_bytes": 64 * MIB},
            {"memory.max": 64 * MIB, "memory.swap.max": 0},
        ),
        (
            {"memory": 64 * MIB, "memory_swap": -1, "memory_reservation": MIB},
            {
                "memory.limit_in_bytes": 64 * MIB,
                "memory.memsw.limit_in_bytes": -1,
                "memory.soft_limit_in_bytes": MIB,
            },
            {"memory.max": 64 * MIB, "memory.swap.max": "max", "memory.low": MIB},
        ),
        (
            {"cpu_quota": 50_000},
            {"cpu.cfs_quota_us": 50_000},
            {"cpu.max": "50000 100000"},
        ),
        (
            {"cpu_quota": -1, "cpu_period": 20_000},
            {"cpu.cfs_period_us": 20_000, "cpu.cfs_quota_us": -1},
            {"cpu.max": "max 20000"},
        ),
        ({"cpu_shares": 1024}, {"cpu.shares": 1024}, {"cpu.weight": 39}),
        (
            {"cpuset_cpus": "0", "cpuset_mems": "0"},
            {"cpuset.cpus": "0", "cpuset.mems": "0"},
            {"cpuset.cpus": "0", "cpuset.mems": "0"},
        ),
        ({"pids": 7}, {"pids.max": 7}, {"pids.max": 7}),
        ({"pids": -1}, {"pids.max": "max"}, {"pids.max": "max"}),
        ({"pids": 0}, {}, {}),
        ({"oom_kill_disable": True}, {"memory.oom_control": 1}, {}),
        ({"memory_swappiness": 0}, {"memory.swappiness": 0}, {}),
        ({}, {}, {}),
    ],
)
def test_limits_become_the_files_that_runc_writes(
    limits: dict[str, Any], v1: dict[str, object], v2: dict[str, object]
) -> None:
    for driver, expected in ((cgroups_v1, v1), (cgroups_v2, v2)):
        written = {file: text for _, file, text in driver.settings(Limits(**limits))}
        assert written == {file: str(value) for file, value in expected.items()}


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 39), (512, 20), (262_144, 10_000), (1, 1), (10**6, 10_000)]
)
def test_shares_become_weight_as_in_runc(shares: int, weight: int) -> None:
    assert cgroups_v2.weight_from_shares(shares) == weight
    assert cgroups_v2.weight_from_shares(cgroups_v2.shares_from_weight(weight)) in (weight, weight - 1)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"memory_swap": MIB}, "always set the Memory limit"),
        ({"memory": 2 * MIB, "memory_swap": MIB}, "larger than memory limit"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        cgroups_v1.settings(Limits(**limits))
    with pytest.raises(InvalidInput, match=message):
        cgroups_v2.settings(Limits(**limits))


def test_roots_have_parents_of_their_own() -> None:
    assert cgroups.parent_for(Path("/var/lib/minidock")) == "minidock"
    one, other = cgroups.parent_for(Path("/a")), cgroups.parent_for(Path("/b"))
    assert one != other
    assert one.startswith("minidock-") and len(one) == len("minidock-") + 8


@pytest.mark.parametrize(
    ("mountinfo", "version", "memory"),
    [
        (
            "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            "v2",
            "/sys/fs/cgroup",
        ),
        (
            "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
            "32 30 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
            "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
            "34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
            "v1",
            "/sys/fs/cgroup/memory",
        ),
    ],
    ids=["v2", "hybrid"],
)
def test_the_driver_is_chosen_by_what_is_mounted(
    mountinfo: str, version: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_tree.syscalls, "read_file", lambda path: mountinfo)
    found, places = cgroup_tree.hierarchies.__wrapped__()
    assert (found, places["memory"]) == (version, memory)
    if version == "v1":
        assert places["cpu"] == places["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
        assert "freezer" not in places


# --- limits that limit -----------------------------------------------------------------------------------


@pytest.mark.vm
def test_more_memory_than_allowed_ends_in_an_oom_kill(cgroup: Cgroup) -> None:
    cgroup.apply(memory=32 * MIB, memory_swap=32 * MIB)
    assert cgroup.oom_kills() == 0
    pid = start_inside(cgroup, lambda: len(bytearray(b"x") * (200 * MIB)) and 0)
    assert outcome(pid) == -signal.SIGKILL
    assert cgroup.oom_kills() == 1
    reading = cgroup.statistics()
    assert reading["memory_limit"] == 32 * MIB
    assert MIB < (reading["memory_peak"] or 32 * MIB) <= 32 * MIB


@pytest.mark.vm
def test_one_process_too_many_is_refused(cgroup: Cgroup) -> None:
    cgroup.apply(pids=5)

    def fork_until_refused() -> int:
        children = []
        try:
            while len(children) < 50:
                child = os.fork()
                if child == 0:
                    signal.pause()
                children.append(child)
        except OSError as error:
            return len(children) if error.errno == errno.EAGAIN else 98
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
        return 97

    assert outcome(start_inside(cgroup, fork_until_refused)) == 4
    assert cgroup.statistics()["pids_limit"] == 5


@pytest.mark.vm
def test_a_quota_throttles(cgroup: Cgroup) -> None:
    cgroup.apply(cpu_quota=10_000, cpu_period=100_000)

    def spin() -> None:
        while True:
            pass

    pid = start_inside(cgroup, spin)
    assert eventually(lambda: (cgroup.statistics()["cpu_throttled_periods"] or 0) >= 3, 30)
    reading = cgroup.statistics()
    assert (reading["cpu_usage"] or 0) > 0
    assert (reading["cpu_throttled_time"] or 0) > 0
    os.kill(pid, signal.SIGKILL)
    outcome(pid)


@pytest.mark.vm
def test_a_cpuset_binds_to_its_processors(cgroup: Cgroup) -> None:
    cpu = min(os.sched_getaffinity(0))
    cgroup.apply(cpuset_cpus=str(cpu))
    assert outcome(start_inside(cgroup, lambda: os.sched_getaffinity(0) != {cpu})) == 0


@pytest.mark.vm
def test_a_cpuset_that_comes_late_moves_the_running_processes(cgroup: Cgroup) -> None:
    cpu = min(os.sched_getaffinity(0))
    pid = start_inside(cgroup, sleeper)
    assert eventually(lambda: pid in cgroup.processes())
    cgroup.apply(cpuset_cpus=str(cpu))
    assert eventually(lambda: os.sched_getaffinity(pid) == {cpu})


@pytest.mark.vm
def test_limits_can_be_raised_while_it_runs(cgroup: Cgroup) -> None:
    cgroup.apply(memory=32 * MIB)
    cgroup.apply(memory=128 * MIB)
    assert cgroup.statistics()["memory_limit"] == 128 * MIB


@pytest.mark.vm
def test_frozen_processes_stand_still_and_run_on_after_the_thaw(cgroup: Cgroup) -> None:
    counter = mmap.mmap(-1, 8)

    def count() -> None:
        number = 0
        while True:
            number += 1
            counter[:] = number.to_bytes(8)

    pid = start_inside(cgroup, count)
    assert eventually(lambda: int.from_bytes(counter[:]) > 0)
    assert not cgroup.frozen()
    cgroup.freeze(20 * SLOWNESS)
    assert cgroup.frozen()
    standing = counter[:]
    time.sleep(0.05)
    assert counter[:] == standing
    cgroup.thaw()
    assert eventually(lambda: counter[:] != standing)
    assert not cgroup.frozen()
    os.kill(pid, signal.SIGKILL)
    outcome(pid)


@pytest.mark.vm
def test_an_empty_cgroup_freezes_too(cgroup: Cgroup) -> None:
    cgroup.freeze(20 * SLOWNESS)
    assert cgroup.frozen()


# --- all processes at once -------------------------------------------------------------------------------


@pytest.mark.vm
def test_kill_ends_a_fork_bomb(cgroup: Cgroup) -> None:
    cgroup.apply(pids=40)
    bomb = "import os, signal\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    pid = start_inside(cgroup, lambda: os.execv(sys.executable, [sys.executable, "-IS", "-c", bomb]))
    assert eventually(lambda: len(cgroup.processes()) >= 20, 60)
    cgroup.kill(30 * SLOWNESS)
    assert cgroup.processes() == []
    assert outcome(pid) == -signal.SIGKILL


@pytest.mark.vm
def test_kill_reaches_frozen_processes(cgroup: Cgroup) -> None:
    pid = start_inside(cgroup, sleeper)
    assert eventually(lambda: cgroup.processes() == [pid])
    cgroup.freeze(20 * SLOWNESS)
    cgroup.kill(20 * SLOWNESS)
    assert outcome(pid) == -signal.SIGKILL
    assert cgroup.processes() == []


@pytest.mark.vm
@pytest.mark.parametrize("frozen", [False, True])
def test_kill_reaches_processes_in_cgroups_that_the_container_made(cgroup: Cgroup, frozen: bool) -> None:
    inner = Cgroup.create("inner", cgroup.name)
    pid = start_inside(inner, sleeper)
    assert eventually(lambda: cgroup.processes() == [pid])
    if frozen:
        inner.freeze(20 * SLOWNESS)
    cgroup.kill(20 * SLOWNESS)
    assert outcome(pid) == -signal.SIGKILL
    cgroup.remove(20 * SLOWNESS)
    assert not cgroup.path().exists()


@pytest.mark.vm
def test_a_child_is_born_in_its_parents_cgroup(cgroup: Cgroup) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    cgroup.attach(process.pid)
    assert cgroup.processes() == [process.pid]
    assert cgroup.statistics()["pids"] == 1
    process.kill()
    process.wait()


# --- coming and going ------------------------------------------------------------------------------------


@pytest.mark.vm
def test_a_process_enters_every_place_by_itself(cgroup: Cgroup) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(_entered(cgroup))
    assert outcome(pid) == 0


def _entered(cgroup: Cgroup) -> int:
    """0 when this process is in all places of *cgroup* after entering, else 1."""
    try:
        cgroups.enter(cgroup.places)
        inside = [os.getpid() in cgroup_tree.processes(place) for place in cgroup.places.values()]
        return 0 if inside and all(inside) else 1
    except BaseException:
        return 2


@pytest.mark.vm
def test_remove_waits_for_the_dying_and_is_content_with_the_gone(cgroup: Cgroup) -> None:
    pid = start_inside(cgroup, sleeper)
    assert eventually(lambda: cgroup.processes() == [pid])
    os.kill(pid, signal.SIGKILL)
    cgroup.remove(20 * SLOWNESS)
    outcome(pid)
    cgroup.remove()
    assert Cgroup.open("c1", cgroup.name.rpartition("/")[0]).places == {}


@pytest.mark.vm
def test_a_living_process_keeps_its_cgroup(cgroup: Cgroup) -> None:
    pid = start_inside(cgroup, sleeper)
    assert eventually(lambda: cgroup.processes() == [pid])
    with pytest.raises(KernelError, match="EBUSY"):
        cgroup.remove(0)
    os.kill(pid, 0)


@pytest.mark.vm
def test_what_is_left_is_found_by_name(cgroup: Cgroup, parent: str) -> None:
    Cgroup.create("c2", parent)
    assert cgroups.leftovers(parent) == ["c1", "c2"]
    assert parent in cgroups.parents()
    assert not cgroups.remove_parent(parent)
    assert cgroups.leftovers("minidock-never") == []


@pytest.mark.vm
def test_a_cgroup_that_is_gone_answers_quietly(parent: str) -> None:
    gone = Cgroup.open("never", parent)
    assert gone.processes() == []
    assert gone.oom_kills() == 0
    assert gone.statistics()["memory_usage"] is None
    gone.kill()
    gone.remove()


@pytest.mark.vm
def test_many_commands_make_and_remove_the_same_parent_at_once(parent: str) -> None:
    def work(number: int) -> int:
        for turn in range(5):
            mine = Cgroup.create(f"p{number}-{turn}", parent)
            mine.apply(pids=10)
            mine.remove()
            cgroups.remove_parent(parent)
        return 0

    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                os._exit(work(number))
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
        children.append(child)
    assert [outcome(child) for child in children] == [0, 0, 0, 0]


def test_a_controller_that_another_command_hands_down_just_now_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files play the kernel, which names a controller before its files are below, for some microseconds."""
    ours = tmp_path / "ours"
    ours.mkdir()
    (tmp_path / "cgroup.subtree_control").write_text("memory pids")

    def write(path: str, text: str) -> None:
        assert (path, text) == (f"{tmp_path}/cgroup.subtree_control", "+pids")
        (ours / "pids.max").touch()

    monkeypatch.setattr(syscalls, "write_file", write)
    wanted = [("pids", "pids.max", "10")]
    assert cgroups_v2.prepare({"pids": str(ours)}, wanted) == wanted
    with pytest.raises(MinidockError, match="the cpu controller is not available"):
        cgroups_v2.prepare({"cpu": str(ours)}, [("cpu", "cpu.max", "10 100")])


@pytest.mark.vm
def test_a_limit_that_the_kernel_refuses_names_the_file(cgroup: Cgroup) -> None:
    with pytest.raises(KernelError, match=r"cpuset\.cpus.*4095"):
        cgroup.apply(cpuset_cpus="4095")


@pytest.mark.vm
def test_statistics_count_in_bytes_and_nanoseconds(cgroup: Cgroup) -> None:
    ready, go = os.pipe()

    def use() -> None:
        room = bytearray(b"x") * (20 * MIB)
        total = 0
        for number in range(2_000_000):
            total += number
        os.write(go, bytes(room[:1]))
        time.sleep(1000)

    pid = start_inside(cgroup, use)
    assert os.read(ready, 1) == b"x"
    reading = cgroup.statistics()
    assert 20 * MIB < (reading["memory_usage"] or 0) < 200 * MIB
    assert 20 * MIB < (reading["memory_working"] or 0) <= (reading["memory_usage"] or 0)
    assert 5_000_000 < (reading["cpu_usage"] or 0) < 60e9 * SLOWNESS
    assert (reading["cpu_user"] or 0) <= (reading["cpu_usage"] or 0) * 2
    assert reading["memory_limit"] is None
    assert reading["pids"] == 1
    os.kill(pid, signal.SIGKILL)
    outcome(pid)


@pytest.mark.vm
def test_without_delegation_containers_run_and_only_their_limits_fail(cgroup: Cgroup) -> None:
    """Inside a container the root of the cgroup tree holds processes: v2 then hands no controller down."""
    if cgroups.detect() == "v1":
        pytest.skip("a rule of cgroup v2")

    def nested() -> int:
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
        syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.umount("/sys/fs/cgroup", syscalls.MNT_DETACH)
        syscalls.mount("none", "/sys/fs/cgroup", "cgroup2")
        cgroup_tree.hierarchies.cache_clear()
        inner = Cgroup.create("inner", "minidock")
        child = start_inside(inner, sleeper)
        eventually(lambda: inner.processes() == [child])
        inner.freeze(20 * SLOWNESS)
        inner.kill(20 * SLOWNESS)
        killed = outcome(child) == -signal.SIGKILL
        try:
            inner.apply(memory=64 * MIB)
        except MinidockError as error:
            refused = "memory controller is not available" in str(error) and error.hint is not None
            inner.remove()
            return 0 if killed and refused else 3
        return 2

    assert outcome(start_inside(cgroup, nested)) == 0
