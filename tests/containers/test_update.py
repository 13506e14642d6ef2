"""`update`: the limits of a container change while it runs, all of them or none."""

from __future__ import annotations

import json

import pytest

from minidock.containers import cgroup, lifecycle
from minidock.errors import InvalidInput

pytestmark = pytest.mark.vm


def pids_max(container) -> str:
    return (cgroup.find(container.root, container.id).path("pids") / "pids.max").read_text().strip()


def test_a_running_container_is_limited_anew(box):
    container = box.service()
    lifecycle.update(container, {"pids": 20})
    assert pids_max(container) == "20"
    lifecycle.update(container, {"pids": -1})
    assert pids_max(container) == "max"
    assert lifecycle.statistics(container)["pids"] >= 1


def test_the_next_start_has_the_new_limits(box):
    container = box.create("sleep", "1000")
    lifecycle.update(container, {"pids": 33})
    lifecycle.start(container)
    assert pids_max(container) == "33"


def test_memory_goes_up_and_down(box):
    container = box.service()
    for size in (64 << 20, 32 << 20, 128 << 20):
        lifecycle.update(container, {"memory": size, "memory_swap": 2 * size})
        assert lifecycle.statistics(container)["memory_limit"] == size


def test_more_memory_than_memory_and_swap(box):
    container = box.create("true")
    lifecycle.update(container, {"memory": 32 << 20, "memory_swap": 64 << 20})
    with pytest.raises(InvalidInput, match="update the memoryswap at the same time"):
        lifecycle.update(container, {"memory": 128 << 20})


def test_what_the_kernel_refuses_changes_nothing(box):
    container = box.service()
    lifecycle.update(container, {"pids": 20})
    with pytest.raises(Exception, match="cpuset"):
        lifecycle.update(container, {"pids": 30, "cpuset_cpus": "4000"})
    assert pids_max(container) == "20"
    assert json.loads((container.directory / "config.json").read_text())["limits"]["pids"] == 20


def test_through_the_command(busybox, minidock):
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert minidock("update", "-m", "20m", "--cpus", "0.5", "web").stdout == "web\n"
    host = json.loads(minidock("inspect", "web").stdout)[0]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["CpuQuota"]) == (20 << 20, 500_000_000, 0)
    done = minidock("update", "web", check=False)
    assert (done.returncode, "one or more flags" in done.stderr) == (1, True)
    assert "Minimum memory limit" in minidock("update", "-m", "1m", "web", check=False).stderr
    minidock("rm", "-f", "web")
