"""SIGKILL among networks and volumes: no cable, rule or address stays, no acknowledged volume goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torture
from torture import Storm, times
from worlds import REPOSITORY, wait_for


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(busybox, minidock, daemon_json, tmp_path, figures) -> Iterator[Storm]:
    storm = Storm(busybox, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    storm.acknowledge("busybox")
    yield storm
    storm.tell(figures)


def cables() -> set[str]:
    """The host's ends of the cables of containers."""
    return {name for _, name in socket.if_nameindex() if name.startswith("veth")}


def addresses(storm: Storm, network: str) -> list[str]:
    """The addresses that are given away, as `network inspect` has them."""
    shown = json.loads(storm.cli("network", "inspect", network).stdout)[0]
    return [each["IPv4Address"] for each in shown["Containers"].values()]


def test_killed_around_networks(storm):
    """The command and the shim die while networks are made, joined, left and removed."""
    storm.cli("network", "create", "--internal", "lan")
    storm.cli("run", "-d", "--name", "server", "--network", "lan", "busybox", "httpd", "-f")
    for number in range(times(2, 40)):
        storm.kill_command("network", "create", f"net{number}")
        storm.check("network create")
        storm.cli("network", "create", f"net{number}", check=False)  # "exists already", or it does now

        name, port = f"web{number}", 8000 + number
        storm.kill_command(
            "run", "-d", "--name", name, "--network", "lan", "-p", f"{port}:80", "busybox", "sleep", "1000"
        )
        storm.check("run --network")
        if storm.cli("inspect", name, check=False).returncode:
            storm.cli(
                "create", "--name", name, "--network", "lan", "-p", f"{port}:80", "busybox", "sleep", "1000"
            )
        storm.cli("start", name)
        storm.kill_command("network", "connect", f"net{number}", name)
        storm.check("network connect")
        storm.kill_command("network", "disconnect", "-f", f"net{number}", name)
        storm.check("network disconnect")
        # Whatever was hit: names and addresses work, and nobody has another's.
        assert storm.cli("exec", name, "ping", "-c", "1", "-W", "10", "server").returncode == 0
        given = addresses(storm, "lan")
        assert len(given) == len(set(given)) == 2, given

        identifier = storm.cli("inspect", "--format", "{{.Id}}", name).stdout.strip()
        assert storm.strike("a shim with cables and a port", storm.shim(identifier))
        storm.check("the shim's end")
        storm.cli("start", name)  # its port and its address are free again
        storm.cli("rm", "-f", name)
        wait_for(lambda: len(cables()) == 1, what=f"the server's cable to be the only one of {cables()}")
        assert len(addresses(storm, "lan")) == 1
        storm.kill_command("network", "rm", f"net{number}")
        storm.check("network rm")
        storm.cli("network", "rm", "-f", f"net{number}", check=False)
    storm.cli("rm", "-f", "server")
    storm.cli("network", "rm", "lan")
    assert cables() == set()
    storm.calm_down()


def test_killed_around_volumes(storm):
    """What was written into an acknowledged volume stays; half a volume is never seen."""
    storm.cli("volume", "create", "precious")
    storm.cli("run", "--rm", "-v", "precious:/data", "busybox", "sh", "-c", "echo gold > /data/file; sync")
    for number in range(times(2, 30)):
        name = f"vol{number}"
        code = storm.kill_command("volume", "create", name)
        storm.check("volume create")
        names = storm.cli("volume", "ls", "-q").stdout.split()
        assert "precious" in names and (code != 0 or name in names)
        storm.kill_command(
            "run", "--rm", "-v", f"{name}:/etc", "-v", "precious:/p", "-v", "/anonymous", "busybox", "true"
        )
        storm.check("run -v")
        script = "ls /etc/passwd; cat /p/file"  # filled from the image: wholly, or now
        done = storm.cli(
            "run", "--rm", "-v", f"{name}:/etc", "-v", "precious:/p:ro", "busybox", "sh", "-c", script
        )
        assert done.stdout == "/etc/passwd\ngold\n"
        storm.cli("container", "prune", "-f")  # one that was made, and never started, has them
        storm.kill_command("volume", "rm", name)
        storm.check("volume rm")
        storm.cli("volume", "rm", "-f", name)
        assert name not in storm.cli("volume", "ls", "-q").stdout.split()
    storm.cli("volume", "prune", "-f")
    assert storm.cli("volume", "ls", "-q").stdout == "precious\n"
    assert (storm.root / "volumes/precious/_data/file").read_text() == "gold\n"
    storm.calm_down()


def test_what_a_killed_shim_leaves_is_named_and_the_next_start_removes_it(storm):
    storm.cli("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000")
    identifier = storm.identifiers()[0]
    shim = storm.shim(identifier)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    wait_for(lambda: storm.shim(identifier) is None, what="the end of the shim")
    left = " ".join(storm.left())
    assert "its shim was killed" in left and "address" in left, left
    storm.cli("start", "web")
    assert storm.left() == [] and len(cables()) == 1
    storm.calm_down()


WRITER = """
import os, sys
from minidock.engine import Engine

engine = Engine(sys.argv[1])
os.rename = lambda *_: os._exit(9)  # killed between the writing of a file and its name
engine.network_create("lan") if sys.argv[2] == "network" else engine.update("web", restart="always")
"""


@pytest.mark.parametrize(("kind", "place"), [("network", "networks"), ("container", "containers/*")])
def test_a_file_without_its_name_is_found_and_the_next_start_removes_it(storm, kind, place):
    storm.cli("create", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000")
    command = [sys.executable, "-c", WRITER, storm.root, kind]
    killed = subprocess.run(command, cwd=REPOSITORY, env=os.environ | storm.environment, check=False)
    assert killed.returncode == 9
    (file,) = storm.root.glob(f"{place}/.*.json.*")
    assert any(str(file) in line for line in storm.left()), storm.left()
    storm.cli("start", "web")
    assert not file.exists() and storm.left() == []
    storm.calm_down()


LESSON = """
import os, subprocess, sys
from minidock.lab.lesson import own_root

for again in range(2):  # who interrupts a lesson runs its first cell once more
    engine = own_root("07")
    assert str(engine.root) == os.environ["MINIDOCK_ROOT"] == sys.argv[1] + "/lessons/07"
    subprocess.run(["cp", "-a", f"{sys.argv[1]}/images", f"{sys.argv[1]}/layers", engine.root], check=True)
    engine.start(engine.create("busybox", ["sleep", "1000"], name="web").id)
os._exit(0)
"""


def test_reset_ends_what_a_lesson_with_a_root_of_its_own_left(storm):
    environment = os.environ | storm.environment | {"MINIDOCK_ROOT": str(storm.root)}
    subprocess.run(
        [sys.executable, "-c", LESSON, storm.root], cwd=REPOSITORY, env=environment, check=True, timeout=60
    )
    assert len(cables()) == 1
    storm.cli("reset", "--yes")
    wait_for(lambda: not cables(), what="the end of the cable")
    storm.check_gone()
