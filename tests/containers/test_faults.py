"""When something is killed: the container ends with its shim, and the next command puts things right."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from minidock.containers import cgroup, channel, lifecycle, protocol, state
from minidock.errors import Conflict, MinidockError, NotFound


def shim_of(container) -> int:
    pid = container.state().pid
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_container_dies_with_its_shim(box, until):
    container = box.start("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    until(lambda: len(lifecycle.processes(container)) == 3, "three processes")
    pids = [*lifecycle.processes(container), shim_of(container)]
    os.kill(pids[-1], signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in pids), "their end")
    assert container.status() == "exited"
    found = state.find(box.root, container.id)
    assert (found.state().status, found.state().exit_code) == ("exited", 137)
    assert not cgroup.find(box.root, container.id).places
    assert not (container.directory / "shim.sock").exists()
    lifecycle.start(container)
    assert container.status() == "running"


def test_another_users_process_dies_too(box, until):
    container = box.start("sleep", "1000", user="nobody")
    pid = container.state().pid
    os.kill(shim_of(container), signal.SIGKILL)
    until(lambda: gone(pid), "its end")


def test_what_exec_started_dies_too(box, until):
    container = box.service()
    lifecycle.exec(container, ["sleep", "4321"], detach=True, user="nobody")
    pids = until(lambda: len(found := lifecycle.processes(container)) >= 3 and found, "the process")
    os.kill(shim_of(container), signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in pids), "their end")


def test_auto_remove_when_the_shim_was_killed(box, until):
    container = box.start("sleep", "1000", auto_remove=True, name="short")
    pid = container.state().pid
    os.kill(shim_of(container), signal.SIGKILL)
    until(lambda: gone(pid), "its end")
    with pytest.raises(NotFound):
        state.find(box.root, "short")
    assert state.containers(box.root) == []
    assert not cgroup.find(box.root, container.id).places


def test_who_waits_is_told(box):
    container = box.start("sleep", "1000")
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(lifecycle.wait(container)))
    waiter.start()
    os.kill(shim_of(container), signal.SIGKILL)
    waiter.join(20)
    assert codes == [137]


def test_who_is_attached_is_told(box):
    container = box.create("sleep", "1000")
    errors: list[MinidockError] = []

    def run() -> None:
        try:
            lifecycle.start(container, box.streams(None, [], []))
        except MinidockError as error:
            errors.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    while container.status() != "running":
        pass
    os.kill(shim_of(container), signal.SIGKILL)
    runner.join(20)
    assert "shim was killed" in errors[0].message


def test_verbs_on_what_does_not_run(box):
    container = box.create("true")
    for verb in (
        lifecycle.kill,
        lifecycle.pause,
        lifecycle.processes,
        lifecycle.statistics,
    ):
        with pytest.raises(Conflict, match="not running"):
            verb(container)
    with pytest.raises(Conflict):
        lifecycle.attach_to(container, box.streams(None, [], []))
    lifecycle.stop(container)


def test_a_long_root_path(box, make_root, busybox_rootfs, overlay_dir):
    deep = overlay_dir / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    box.root = deep
    (deep / "layers").mkdir()
    (deep / "layers" / ("b" * 64)).symlink_to(busybox_rootfs)
    container = box.service()
    assert box.exec(container, "echo", "deep").out == b"deep\n"
    assert protocol.connect(container.directory) is not None
    lifecycle.remove(container, force=True)


def test_a_missing_layer_is_named(box):
    container = box.create("true")
    container.spec.layers = ["sha256:" + "c" * 64]
    from minidock import files

    files.write_json(container.directory / "config.json", container.spec)
    with pytest.raises(MinidockError, match="the layer sha256:cccc"):
        lifecycle.start(state.find(box.root, container.id))


def test_removed_while_we_wait_for_the_lock(box):
    container = box.create("true")
    lifecycle.remove(container)
    with pytest.raises(NotFound):
        lifecycle.start(container)
    with pytest.raises(NotFound):
        lifecycle.remove(container)


def test_the_spawner_is_replaced_when_killed(box):
    from minidock.containers import spawner

    box.run("true")
    for connection in list(spawner._warm.values()):
        connection.close()
    assert box.run("true").code == 0


def test_what_a_newborn_said_is_heard_also_when_it_left_something_unread():
    ours, theirs = channel.pair()
    theirs.report(Conflict("it failed"))
    ours._send(b"never read")
    theirs.close()
    assert "it failed" in ours.listen().error.message
    ours.close()
