"""What systemd does to a shim when the machine goes down, and what the next boot makes of it."""

from __future__ import annotations

import os
import signal

import pytest

from minidock.containers import life, lifecycle, state

SAVES = "trap 'echo saved; exit 7' TERM; echo up; while :; do sleep 1 & wait $!; done"


def shim_of(container) -> int:
    pid = container.state().pid
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])


def tell(container, *signals: int) -> None:
    """Signal the shim, and wait for its end."""
    shim = os.pidfd_open(shim_of(container))
    try:
        for number in signals:
            signal.pidfd_send_signal(shim, number)
        lifecycle.wait(container)
    finally:
        os.close(shim)


@pytest.mark.vm
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGHUP]], ids=len)
def test_the_program_is_asked_to_end_and_no_user_stopped_it(box, signals):
    container = box.until_ready(box.start("sh", "-c", SAVES, restart_policy="unless-stopped"))
    tell(container, *signals)
    found = container.state()
    assert (container.status(), found.exit_code, found.error) == (life.EXITED, 7, "")
    assert not found.stopped_by_user
    assert [entry[1] for entry in lifecycle.read_logs(container)] == [b"up\n", b"saved\n"]


def test_it_hears_the_stop_signal_and_is_killed_when_it_does_not_listen(box):
    deaf = box.start("sleep", "1000", stop_timeout=0)
    tell(deaf, signal.SIGTERM)
    assert deaf.state().exit_code == 137
    script = "trap 'exit 8' USR1; echo up; while :; do sleep 1 & wait $!; done"
    listens = box.until_ready(box.start("sh", "-c", script, stop_signal="SIGUSR1"))
    tell(listens, signal.SIGTERM)
    assert listens.state().exit_code == 8


def test_a_paused_one_can_end_too(box):
    container = box.until_ready(box.start("sh", "-c", SAVES))
    lifecycle.pause(container)
    tell(container, signal.SIGTERM)
    assert (container.status(), container.state().exit_code) == (life.EXITED, 7)


def test_one_that_rests_before_a_restart_ends(box, until):
    container = box.start("sh", "-c", "echo turn; sleep 0.2; exit 3", restart_policy="always")
    shim = shim_of(container)
    until(container.resting, "a rest")
    os.kill(shim, signal.SIGTERM)
    until(lambda: not container.alive(), "the end of the shim")
    found = container.state()
    assert (found.status, found.exit_code, found.stopped_by_user) == (life.EXITED, 3, False)


def test_one_that_removes_itself_does(box):
    container = box.until_ready(box.start("sh", "-c", SAVES, auto_remove=True))
    tell(container, signal.SIGTERM)
    assert state.containers(box.root) == []
