"""The limits really limit."""

from __future__ import annotations

import pytest

from minidock.containers import lifecycle
from minidock.containers.spec import Limits

pytestmark = pytest.mark.vm


def test_out_of_memory(box):
    ran = box.sh(
        "head -c 200000000 /dev/zero | tail -c 190000000 > /dev/null; exit $?", limits=Limits(memory=32 << 20)
    )
    assert ran.code == 137 or b"Killed" in ran.err
    assert ran.container.state().oom_killed


def test_out_of_memory_of_the_first_process(box):
    ran = box.run("tail", "-c", "190000000", "/dev/zero", limits=Limits(memory=16 << 20))
    assert (ran.code, ran.container.state().oom_killed) == (137, True)


def test_pids(box):
    ran = box.sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; echo survived; wait", limits=Limits(pids=5))
    assert b"Resource temporarily unavailable" in ran.err or b"can't fork" in ran.err


def test_exec_counts_for_the_limits(box):
    container = box.service(limits=Limits(pids=3))
    ran = box.exec(container, "sh", "-c", "sleep 5 & sleep 5 & sleep 5 & sleep 5 & echo no")
    assert b"fork" in ran.err
    assert lifecycle.statistics(container)["pids_limit"] == 3


def test_processor_quota_throttles(box, until):
    container = box.start(
        "sh", "-c", "while :; do :; done", limits=Limits(cpu_quota=10_000, cpu_period=100_000)
    )
    until(lambda: lifecycle.statistics(container)["cpu_throttled_periods"], "throttling")


def test_processes(box):
    container = box.start("sh", "-c", "sleep 100 & sleep 100 & wait")
    while len(lifecycle.processes(container)) < 3:
        pass
    assert container.state().pid in lifecycle.processes(container)
