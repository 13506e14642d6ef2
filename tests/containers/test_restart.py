"""Restart policies: who starts again, who does not, and that a user's word comes first."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from minidock import files
from minidock.containers import archives, cgroup, life, lifecycle, restart, timestamps
from minidock.containers.restart import BackOff
from minidock.containers.state import State
from minidock.errors import InvalidInput

# Fails until it has been started three times; the file is in its own layer, which stays.
THIRD_TIME = "echo x >> /turns; [ $(wc -l < /turns) -ge 3 ]"


def until_settled(container):
    """Follow a container through its restarts to its last end; its exit code."""
    while container.status() in life.ALIVE:
        lifecycle.wait(container)
    return container.state().exit_code


def turns(container) -> int:
    file = container.directory / "upper" / "turns"
    return file.read_text().count("x") if file.exists() else 0


@pytest.mark.parametrize(
    ("policy", "script", "starts", "code"),
    [
        (("no", 0), "echo x >> /turns; exit 1", 1, 1),
        (("on-failure", 0), THIRD_TIME, 3, 0),
        (("on-failure", 1), "echo x >> /turns; exit 5", 2, 5),
        (("on-failure", 4), "echo x >> /turns; exit 0", 1, 0),
    ],
)
def test_how_often_it_starts(box, policy, script, starts, code):
    name, retries = policy
    container = box.start("sh", "-c", script, restart_policy=name, restart_retries=retries)
    assert until_settled(container) == code
    assert turns(container) == starts
    assert container.state().restart_count == starts - 1


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_an_end_without_failure_counts_too(box, wait_for, policy):
    container = box.start("sh", "-c", "echo x >> /turns", restart_policy=policy)
    wait_for(lambda: turns(container) >= 3, what="three starts")
    lifecycle.stop(container)
    assert container.status() == life.EXITED
    seen = turns(container)
    assert container.state().stopped_by_user
    assert not container.alive()
    assert turns(container) == seen


@pytest.mark.parametrize("end", [lifecycle.stop, lifecycle.kill])
def test_a_user_who_ends_it_wants_it_to_end(box, end):
    container = box.start("sleep", "1000", restart_policy="always")
    end(container)
    assert (container.status(), container.alive()) == (life.EXITED, False)


def test_a_signal_that_it_dies_of_by_itself_restarts_it(box, wait_for):
    container = box.start(
        "sh", "-c", "trap 'exit 3' USR1; while :; do sleep 0.1; done", restart_policy="always"
    )
    lifecycle.exec(container, ["true"])  # by now the shell runs; its trap is set by the first sleep
    wait_for(lambda: _handles_usr1(container), what="the trap")
    lifecycle.kill(container, "SIGUSR1")
    wait_for(lambda: container.state().restart_count == 1, what="the restart")
    lifecycle.kill(container)


def _handles_usr1(container) -> bool:
    status = open(f"/proc/{container.state().pid}/status").read()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << 9)


def test_who_is_attached_is_told_of_the_first_end(box):
    """As `docker run --restart=always` in the foreground: it returns, the container goes on."""
    ran = box.run("sh", "-c", "echo once; exit 4", restart_policy="always")
    assert (ran.code, ran.out) == (4, b"once\n")
    assert ran.container.status() in life.ALIVE
    lifecycle.remove(ran.container, force=True)


def test_a_start_that_fails_while_restarting_ends_it(box, wait_for):
    container = box.start("sh", "-c", "mv /bin/sh /gone", restart_policy="always")
    wait_for(lambda: not container.alive(), what="the end of the shim")
    state = container.state()
    assert (state.status, state.exit_code) == (life.EXITED, 127)
    assert "executable file not found" in state.error


def test_a_start_by_hand_counts_anew(box):
    container = box.start("sh", "-c", "exit 1", restart_policy="on-failure", restart_retries=2)
    until_settled(container)
    assert container.state().restart_count == 2
    lifecycle.start(container)
    until_settled(container)
    assert container.state().restart_count == 2


def test_a_restart_waits_for_who_copies_files(box, until):
    """Its writable directory is mounted for the copy: a second mount at once would damage it."""
    container = box.start("sh", "-c", "echo x >> /turns; sleep 1000", restart_policy="always")
    until(lambda: turns(container) == 1, "the first start")
    with archives.opened(container) as files:
        os.kill(container.state().pid, signal.SIGKILL)
        until(container.resting, "the end")
        time.sleep(0.4)  # its rest is 0.1 seconds
        assert container.resting()
        assert files.look("/turns").size == 2
        begun = time.time_ns()
    until(lambda: turns(container) == 2, "the restart")
    assert timestamps.to_nanoseconds(container.state().started_at) > begun
    lifecycle.kill(container)


@pytest.mark.parametrize("end", [lifecycle.stop, lifecycle.kill])
def test_a_user_can_end_it_while_it_waits_for_who_copies(box, until, end):
    container = box.start("false", restart_policy="always")
    until(container.resting, "a rest")
    with archives.opened(container) as files:
        end(container)
        assert container.status() == life.EXITED
        assert files.look("/bin").is_directory
    lifecycle.remove(container)


def test_what_is_changed_between_two_lives_counts_for_the_next(box, until):
    script = "echo x >> /turns; [ $(wc -l < /turns) = 1 ] || sleep 1000"
    container = box.start("sh", "-c", script, restart_policy="always")
    until(container.resting, "a rest")
    lifecycle.update(container, {"memory": 64 << 20})
    until(lambda: turns(container) == 2, "the restart")
    assert cgroup.find(container.root, container.id).statistics()["memory_limit"] == 64 << 20
    lifecycle.kill(container)


def test_the_log_goes_on_after_a_restart(box):
    container = box.start("sh", "-c", f"echo turn; {THIRD_TIME}", restart_policy="on-failure")
    until_settled(container)
    assert len(list(lifecycle.read_logs(container))) == 3


def test_the_rest_before_a_restart_doubles_and_begins_anew():
    back_off = BackOff()
    assert [back_off.rest(0) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert [back_off.rest(1) for _ in range(10)][-1] == 60.0
    assert back_off.rest(10) == 0.1


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", ("no", 0)),
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("on-failure", ("on-failure", 0)),
        ("on-failure:3", ("on-failure", 3)),
    ],
)
def test_how_a_policy_is_written(text, meaning):
    assert restart.parse(text) == meaning


@pytest.mark.parametrize("text", ["sometimes", "on-failure:x", "on-failure:", "always:3", "on-failure:-1"])
def test_what_is_no_policy(text):
    with pytest.raises(InvalidInput):
        restart.parse(text)


# ── through the command ──────────────────────────────────────────────────────────────────────────────


def test_resume_starts_what_the_policies_want(busybox, minidock):
    """The names say what dockerd 20.10 and 26.1 did with the same ones, killed with their machine."""
    for name, policy in (
        ("alway", "always"),
        ("unless", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("stubborn", "always"),
        ("plain", "no"),
        ("failing", "on-failure"),
        ("failstop", "on-failure"),
        ("frozen", "always"),
    ):
        minidock("run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1000")
    minidock("stop", "-t", "0", "stopped", "stubborn", "failstop")
    minidock("pause", "frozen")
    minidock("create", "--name", "never", "--restart", "always", "busybox", "true")
    minidock("run", "--name", "goodend", "--restart", "on-failure", "busybox", "true")
    minidock("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000")
    _power_cut(busybox)
    assert minidock("ps", "-q").stdout == ""
    ended = "exited 255 \n"
    for name, expected in {"alway": ended, "plain": ended, "stopped": "exited 137 \n"}.items():
        shown = minidock("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", name)
        assert shown.stdout == expected, name
    started = minidock("resume").stdout.split()
    assert sorted(started) == ["alway", "failing", "failstop", "frozen", "stubborn", "unless"]
    assert sorted(minidock("ps", "--format", "{{.Names}}").stdout.split()) == sorted(started)
    everyone = minidock("ps", "-a", "--format", "{{.Names}}").stdout.split()
    assert sorted({*everyone} - {*started}) == ["goodend", "never", "plain", "stopped"]
    assert minidock("resume").stdout == ""


def test_resume_does_not_begin_again_what_was_given_up(busybox, minidock, wait_for):
    minidock("run", "-d", "--name", "flaky", "--restart", "on-failure:1", "busybox", "false")
    state = ("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", "flaky")
    wait_for(lambda: minidock(*state).stdout == "exited 1\n", what="the last of its tries")
    assert minidock("resume").stdout == ""
    assert minidock(*state).stdout == "exited 1\n"


def _power_cut(root):
    """Kill every shim, and with it its container: a power cut leaves only files, of another boot."""
    import os
    import signal

    from worlds import wait_for

    from minidock.containers import state

    for container in state.containers(root):
        if container.alive():
            inode = os.stat(container.directory / "shim.lock").st_ino
            for line in open("/proc/locks"):
                words = line.split()
                if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                    os.kill(int(words[4]), signal.SIGKILL)
            wait_for(lambda each=container: not each.alive(), what="the shim's end")
            written = container.state()
            written.boot = "11111111-2222-3333-4444-555555555555"
            container.write_state(written)


def test_what_a_restart_policy_asks_is_on_disk_at_once(box, monkeypatch):
    """A power cut may take what nobody synced: then `resume` would not know that it ever ran."""
    synced = []
    monkeypatch.setattr(files, "sync_directory", lambda path: synced.append(path))
    for policy, expected in (("no", 0), ("always", 1), ("unless-stopped", 1), ("on-failure", 1)):
        container = box.create("true", restart_policy=policy)
        synced.clear()
        container.write_state(State("running"))
        assert synced == [container.directory] * expected, policy


def test_inspect_and_ps_show_the_policy_and_the_count(busybox, minidock):
    minidock("run", "-d", "--name", "web", "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 1")
    minidock("wait", "web")
    shown = json.loads(minidock("inspect", "web").stdout)[0]
    assert shown["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    minidock("update", "--restart", "no", "web")
    shown = json.loads(minidock("inspect", "web").stdout)[0]
    assert shown["HostConfig"]["RestartPolicy"]["Name"] == "no"
    minidock("rm", "-f", "web")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--restart", "sometimes"], "unknown policy 'sometimes'"),
        (["--restart", "always:3"], "maximum retry count can only be used with 'on-failure'"),
        (["--rm", "--restart", "always"], "cannot specify both --restart and --rm"),
    ],
)
def test_wrong_policies_are_refused_before_anything_is_made(busybox, minidock, flags, words):
    done = minidock("run", "-d", *flags, "busybox", "true", check=False)
    assert done.returncode == 125
    assert words in done.stderr
    assert minidock("ps", "-aq").stdout == ""
