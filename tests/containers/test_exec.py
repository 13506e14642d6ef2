"""exec: one more process in the container, with the same walls around it."""

from __future__ import annotations

import concurrent.futures
import os

import pytest

from minidock import inspection
from minidock.containers import lifecycle, protocol
from minidock.errors import Conflict, MinidockError


@pytest.fixture
def service(box):
    return box.service(environment=["A=image"], working_directory="/tmp")


def test_exit_code_and_streams(box, service):
    ran = box.exec(service, "sh", "-c", "cat; echo err >&2; exit 7", input=b"in\n")
    assert (ran.code, ran.out, ran.err) == (7, b"in\n", b"err\n")


def test_same_namespaces_and_cgroup(box, service):
    script = "for n in cgroup ipc mnt net pid uts user; do readlink /proc/$P/ns/$n; done; cat /proc/$P/cgroup"
    of_exec = box.exec(service, "sh", "-c", script, env=["P=self"]).out
    of_init = box.exec(service, "sh", "-c", script, env=["P=1"]).out
    assert of_exec == of_init


def test_same_walls(box, service):
    script = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/$P/status"
    of_exec = box.exec(service, "sh", "-c", script, env=["P=self"]).out
    assert of_exec == box.exec(service, "sh", "-c", script, env=["P=1"]).out
    assert b"00000000a80425fb" in of_exec


def test_environment_directory_and_user(box, service):
    ran = box.exec(service, "sh", "-c", "echo $A $B $HOME $(pwd) $(id -u) $HOSTNAME", env=["B=b"])
    assert ran.text.split() == ["image", "b", "/root", "/tmp", "0", service.id[:12]]
    ran = box.exec(
        service, "sh", "-c", "echo $A $HOME $(pwd) $(id -u)", env=["A=own"], user="nobody", cwd="/etc"
    )
    assert ran.text.split() == ["own", "/home", "/etc", "65534"]


@pytest.mark.parametrize(("argv", "code"), [(["nope"], 127), (["/etc/passwd"], 126), (["/none/x"], 127)])
def test_what_cannot_be_run(box, service, argv, code):
    with pytest.raises(MinidockError) as error:
        box.exec(service, *argv)
    assert error.value.exit_code == code
    assert box.exec(service, "true").code == 0


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_what_cannot_be_run_leaves_nothing_open(box, service, until, tty):
    shim = int(open(f"/proc/{service.state().pid}/stat").read().rpartition(")")[2].split()[1])
    before = len(os.listdir(f"/proc/{shim}/fd"))
    for _ in range(3):
        with pytest.raises(MinidockError):
            box.exec(service, "ghost", tty=tty)
    until(lambda: len(os.listdir(f"/proc/{shim}/fd")) <= before, "the shim to let go")


def test_a_directory_that_is_not_there(box, service):
    with pytest.raises(MinidockError, match="chdir to cwd"):
        box.exec(service, "true", cwd="/none")


def test_an_unknown_user(box, service):
    with pytest.raises(MinidockError, match="unable to find user ghost"):
        box.exec(service, "true", user="ghost")


def test_death_by_signal(box, service):
    assert box.exec(service, "sh", "-c", "kill -9 $$").code == 137


def test_detached(box, service, until):
    lifecycle.exec(service, ["sh", "-c", "echo done > /tmp/done"], detach=True)
    until(lambda: (service.directory / "upper/tmp/done").exists(), "the detached process")


def test_inspect_shows_an_exec_and_no_attach(box, service, until):
    """`attach` adds nothing to a container; `exec` adds a process, with an id until it ends."""

    def execs():
        return inspection.container_json(service)["ExecIDs"]

    first = service.state().pid
    with protocol.connect(service.directory) as connection:
        protocol.send_request(connection, op="attach", stdin=False)
        assert protocol.answer(connection)["attached"]
        assert execs() is None
        for end in ("/tmp/one", "/tmp/two"):
            script = f"until [ -e {end} ]; do sleep 0.02; done"
            lifecycle.exec(service, ["sh", "-c", script], detach=True)
        known = protocol.ask(service.directory, op="execs")["execs"]
        assert execs() == list(known) and len(known) == 2
        assert set(known.values()) < set(lifecycle.processes(service)) - {first}
        box.exec(service, "touch", "/tmp/one")
        until(lambda: len(execs()) == 1, "the end of the first")
        assert execs() == list(known)[1:]
        box.exec(service, "touch", "/tmp/two")
        until(lambda: execs() is None, "the end of both")
    assert service.state().pid == first


def test_privileged(box, service):
    mask = int(
        box.exec(service, "sh", "-c", "grep CapEff /proc/self/status", privileged=True).out.split()[1], 16
    )
    own = next(line for line in open("/proc/self/status") if line.startswith("CapBnd"))
    assert mask == int(own.split()[1], 16)


def test_not_in_a_stopped_container(box):
    container = box.create("true")
    with pytest.raises(Conflict, match="is not running"):
        box.exec(container, "true")


def test_it_dies_with_the_container(box, service):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(box.exec, service, "sleep", "100")
        while not any("sleep 100" in line for line in box.exec(service, "ps").lines):
            pass
        lifecycle.kill(service)
        assert running.result(20).code == 137


def test_output_is_not_in_the_log(box, service):
    box.exec(service, "echo", "secret")
    assert list(lifecycle.read_logs(service)) == []


def test_big_output(box, service):
    data = os.urandom(2 << 20)
    assert box.exec(service, "cat", input=data).out == data


def test_many_at_once(box, service):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        found = list(
            pool.map(lambda n: box.exec(service, "sh", "-c", f"sleep 0.1; exit {n}").code, range(20))
        )
    assert found == list(range(20))


def test_a_background_process_does_not_keep_exec(box, service):
    ran = box.exec(service, "sh", "-c", "sleep 100 & echo here")
    assert (ran.code, ran.out) == (0, b"here\n")
