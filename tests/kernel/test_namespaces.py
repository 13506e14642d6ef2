"""namespaces: create, join, tell who shares what, map ids."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidock import trace
from minidock.errors import InvalidInput, KernelError, NotFound
from minidock.kernel import namespaces, syscalls
from minidock.kernel.namespaces import KINDS, IdRange

pytestmark = pytest.mark.vm

InChild = Callable[..., Any]


@pytest.fixture
def neighbour() -> Iterator[int]:
    """The pid of a process in new namespaces of every kind but user and time, with the host name `next`."""
    script = "hostname next; echo ready; exec sleep 1000"
    program = ["unshare", "-m", "-u", "-i", "-n", "-C", "-p", "--fork", "--kill-child", "sh", "-c", script]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0])
        process.kill()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("pid", "time")])
def test_create_gives_exactly_the_namespaces_asked_for(in_child: InChild, kind: str) -> None:
    def look() -> set[str]:
        before = namespaces.identify()
        namespaces.create({kind})
        after = namespaces.identify()
        return {each for each in KINDS if before[each] != after[each]}

    assert in_child(look) == {kind}


def test_a_new_pid_namespace_begins_with_the_next_child(in_child: InChild) -> None:
    def look() -> tuple[bool, int]:
        before = os.getpid()
        namespaces.create({"pid"})
        child = os.fork()
        if child == 0:
            os._exit(os.getpid())
        return os.getpid() == before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(look) == (True, 1)


def test_a_time_namespace_has_its_own_clock(in_child: InChild) -> None:
    def look() -> float:
        import time

        namespaces.create({"time"})
        namespaces.shift_clocks(boottime=1_000_000)
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, str(time.clock_gettime(time.CLOCK_BOOTTIME)).encode())
            os._exit(0)
        os.wait()
        return float(os.read(reader, 100)) - before

    assert in_child(look) == pytest.approx(1_000_000, abs=60)


def test_join_enters_another_processes_namespaces_and_no_others(in_child: InChild, neighbour: int) -> None:
    def look() -> tuple[str, set[str]]:
        theirs = namespaces.identify(neighbour)
        namespaces.join(neighbour, {"uts", "ipc", "user"})  # user is shared already: left out
        ours = namespaces.identify()
        return os.uname().nodename, {kind for kind in KINDS if ours[kind] == theirs[kind]}

    assert in_child(look) == ("next", {"uts", "ipc", "user", "time"})


def test_join_by_the_path_of_a_namespace_file(in_child: InChild, neighbour: int) -> None:
    def look() -> str:
        namespaces.join(Path(f"/proc/{neighbour}/ns/uts"), {"uts"})
        return os.uname().nodename

    assert in_child(look) == "next"


def test_join_all_is_one_step(in_child: InChild, neighbour: int) -> None:
    def look() -> list[str]:
        with trace.recording(trace.Recorder()) as recorder:
            namespaces.join(neighbour, KINDS)
        assert {step.lesson for step in recorder.steps} == {2}
        return [step.operation for step in recorder.steps]

    assert in_child(look) == ["pidfd_open", "setns"]


def test_sharing_lists_who_shares_what(neighbour: int) -> None:
    me = os.getpid()
    found = namespaces.sharing([me, neighbour])
    assert sorted(found["user"][namespaces.identify()["user"]]) == sorted([me, neighbour])
    assert [neighbour] in found["pid"].values()
    assert set(found) == set(KINDS)


def test_sharing_finds_every_process_by_itself() -> None:
    assert os.getpid() in namespaces.sharing()["mnt"][namespaces.identify()["mnt"]]


def test_what_does_not_exist_is_said(in_child: InChild) -> None:
    with pytest.raises(InvalidInput, match="'nett'"):
        namespaces.create({"nett"})
    with pytest.raises(NotFound, match="no such process"):
        namespaces.identify(2**22)


def test_id_maps_make_root_inside_somebody_else_outside(in_child: InChild) -> None:
    def look() -> tuple[int, int, str]:
        ready, go = os.pipe()
        reader, writer = os.pipe()
        child = syscalls.clone(syscalls.CLONE_NEWUSER)
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os.setgid(0)
            os.setuid(0)
            Path("/tmp").stat()
            os.write(writer, f"{os.getuid()}".encode())
            signal.pause()
        namespaces.write_id_map(child, [IdRange(0, 100_000, 65536)], [IdRange(0, 100_000, 65536)])
        os.close(go)
        inside = int(os.read(reader, 10))
        outside = os.stat(f"/proc/{child}").st_uid
        text = Path(f"/proc/{child}/setgroups").read_text().strip()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return inside, outside, text

    assert in_child(look) == (0, 100_000, "allow")


def test_a_user_without_rights_maps_only_itself(in_child: InChild) -> None:
    def look() -> tuple[int, str]:
        os.setresgid(1000, 1000, 1000)
        os.setgroups([]) if os.geteuid() == 0 else None
        os.setresuid(1000, 1000, 1000)
        syscalls.set_dumpable(True)
        namespaces.create({"user"})
        me = os.getpid()
        with pytest.raises(KernelError) as caught:
            namespaces.write_id_map(me, [IdRange(0, 0)], [IdRange(0, 0)])
        namespaces.write_id_map(me, [IdRange(0, 1000)], [IdRange(0, 1000)], deny_setgroups=False)
        return os.getuid(), caught.value.errno_name

    assert in_child(look) == (0, "EPERM")


def test_set_hostname(in_child: InChild) -> None:
    def look() -> tuple[str, str]:
        namespaces.create({"uts"})
        namespaces.set_hostname("web", "example.org")
        return os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text().strip()

    assert in_child(look) == ("web", "example.org")


def test_process_1_buries_orphans_and_passes_signals_on(in_child: InChild) -> None:
    script = "(sleep 0 &); trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"

    def look() -> tuple[int, int]:
        namespaces.create({"pid"})
        reading, writing = os.pipe()
        first = os.fork()
        if first == 0:
            main = os.fork()
            if main == 0:
                os.dup2(writing, 1)
                os.execv("/bin/sh", ["sh", "-c", script])
            os._exit(namespaces.supervise(main))
        os.read(reading, 1)
        os.kill(first, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]), first

    assert in_child(look)[0] == 5


def test_process_1_tells_of_a_signal_as_a_shell_does(in_child: InChild) -> None:
    def look() -> int:
        main = os.fork()
        if main == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return namespaces.supervise(main)

    assert in_child(look) == 137
