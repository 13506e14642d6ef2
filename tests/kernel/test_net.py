"""The loopback of a new network namespace."""

from __future__ import annotations

import os
import socket

import pytest

from minidock import trace
from minidock.kernel import net, syscalls


def reachable() -> bool:
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname(), timeout=5).close()
        except OSError:
            return False
    return True


@pytest.mark.vm
def test_a_new_network_can_reach_itself_after_the_loopback_is_up() -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            before = reachable()
            net.loopback_up()
            net.loopback_up()  # twice does no harm
            code = 0 if not before and reachable() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_change_is_a_recorded_step() -> None:
    recorder = trace.Recorder()
    with trace.recording(recorder):
        net.loopback_up()
    assert recorder.steps[0].operation == "ioctl"
    assert {step.mechanism for step in recorder.steps} == {"net.loopback_up"}
    assert {step.lesson for step in recorder.steps} == {11}
