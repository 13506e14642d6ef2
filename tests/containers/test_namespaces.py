"""Sharing namespaces with the host or with another container."""

from __future__ import annotations

import contextlib
import os

import pytest

from minidock.containers import lifecycle
from minidock.containers.spec import Namespaces
from minidock.errors import Conflict

SHARED = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")]
SHOW = "for n in ipc mnt net pid uts; do readlink /proc/self/ns/$n; done"


def test_private_by_default(box):
    inside = box.sh(SHOW).lines
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in ("ipc", "mnt", "net", "pid", "uts")]
    assert not set(inside) & set(outside)


@pytest.mark.parametrize(("field", "kind"), SHARED)
def test_shared_with_the_host(box, field, kind):
    spaces = Namespaces(**{field: "host"})
    ran = box.sh(f"readlink /proc/self/ns/{kind}", namespaces=spaces)
    assert ran.text.strip() == os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(("field", "kind"), SHARED)
def test_shared_with_a_container(box, field, kind):
    other = box.service(hostname="first")
    spaces = Namespaces(**{field: f"container:{other.id}"})
    ran = box.sh(f"readlink /proc/self/ns/{kind}; hostname; ps | grep -c wait", namespaces=spaces)
    assert ran.lines[0] == os.readlink(f"/proc/{other.state().pid}/ns/{kind}")
    if field == "uts":
        assert ran.lines[1] == "first"
    if field == "ipc":
        box.exec(other, "sh", "-c", "echo x > /dev/shm/mine")
        assert box.sh("cat /dev/shm/mine", namespaces=spaces).text == "x\n"


def test_not_with_one_that_does_not_run(box):
    other = box.create("true")
    with pytest.raises(Conflict, match="non running container"):
        box.sh("true", namespaces=Namespaces(network=f"container:{other.id}"))


def test_the_files_of_a_shared_network_are_shared(box):
    other = box.service(hostname="first")
    ran = box.sh("cat /etc/hostname", namespaces=Namespaces(network=f"container:{other.id}"))
    assert ran.text == "first\n"


def test_in_the_hosts_pid_namespace_all_die_together(box, until):
    container = box.start(
        "sh", "-c", "sleep 1234 & sleep 1234 & echo up; wait", namespaces=Namespaces(pid="host")
    )
    pids = until(lambda: len(found := lifecycle.processes(container)) == 3 and found, "three processes")
    lifecycle.kill(container)
    for pid in pids:  # at most a zombie that the host's init has not reaped yet
        with contextlib.suppress(FileNotFoundError):
            assert open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"


def test_none_has_a_loopback(box):
    ran = box.sh("ip addr show lo; ping -c 1 -w 5 127.0.0.1 > /dev/null && echo pong")
    assert "inet 127.0.0.1/8" in ran.text
    assert ran.lines[-1] == "pong"


def test_exec_follows_the_shared_namespaces(box):
    other = box.service()
    same = f"container:{other.id}"
    container = box.service(namespaces=Namespaces(network=same, pid=same))
    script = "readlink /proc/self/ns/net; readlink /proc/self/ns/pid"
    assert box.exec(container, "sh", "-c", script).out == box.exec(other, "sh", "-c", script).out


def test_any_user_may_ping_and_serve_low_ports(box):
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
    assert box.sh(script, user="nobody").text.split() == ["0", "0", "2147483647"]
