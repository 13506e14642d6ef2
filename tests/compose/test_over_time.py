"""A project that goes on: other numbers, containers that come later, networks and volumes that change."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, Cli, cli_command

Write = Callable[..., Path]
Compose = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("busybox")

STAY = '["sh", "-c", "trap exit TERM; echo here; while :; do sleep 0.1; done"]'


def names(compose: Compose) -> list[str]:
    return [json.loads(line)["Name"] for line in compose("ps", "--format", "json").stdout.splitlines()]


def test_scale(compose: Compose, write: Write) -> None:
    write(
        f"""
        services:
          a: {{image: busybox, command: {STAY}}}
          b: {{image: busybox, command: {STAY}, depends_on: [a]}}
        """
    )
    compose("scale", "--no-deps", "b=2")
    assert names(compose) == ["shop-b-1", "shop-b-2"]
    compose("scale", "a=3", "b=1")
    assert names(compose) == ["shop-a-1", "shop-a-2", "shop-a-3", "shop-b-1"]
    assert "no such service: c" in compose("scale", "c=1", check=False).stderr
    assert "Write SERVICE=NUMBER" in compose("scale", "a", check=False).stderr
    compose("down")


def test_wait(compose: Compose, minidock: Cli, write: Write) -> None:
    write(
        f"""
        services:
          ends: {{image: busybox, command: ["sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"]}}
          stays: {{image: busybox, command: {STAY}}}
        """
    )
    compose("up", "-d")
    ender = threading.Timer(0.1, lambda: minidock("stop", "shop-ends-1"))
    ender.start()
    done = compose("wait", "ends", check=False)
    ender.join()
    assert done.returncode == 4
    assert done.stdout == "exited with status code 4: shop-ends-1\n"
    assert names(compose) == ["shop-stays-1"]
    ender = threading.Timer(0.1, lambda: minidock("kill", "shop-stays-1"))
    ender.start()
    assert compose("wait", "--down-project", "stays", check=False).returncode == 137
    ender.join()
    assert minidock("ps", "-aq").stdout == ""
    assert 'service "ends" has no container' in compose("wait", "ends", check=False).stderr


def test_stats(compose: Compose, write: Write) -> None:
    write(f"services: {{a: {{image: busybox, command: {STAY}}}, b: {{image: busybox, command: {STAY}}}}}")
    assert compose("stats", "--no-stream", "--format", "{{.Name}}").stdout == ""
    compose("up", "-d")
    shown = compose("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}").stdout.split()
    assert shown[::2] == ["shop-a-1", "shop-b-1"]
    assert compose("stats", "--no-stream", "--format", "{{.Name}}", "b").stdout == "shop-b-1\n"
    compose("down")


def test_volumes(compose: Compose, write: Write) -> None:
    write(
        f"""
        services: {{a: {{image: busybox, command: {STAY}, volumes: ['v:/v', 'w:/w']}}}}
        volumes: {{v: , w: }}
        """
    )
    compose("create")
    assert compose("volumes", "-q").stdout == "shop_v\nshop_w\n"
    assert compose("volumes").stdout.splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    compose("down", "-v")
    assert compose("volumes", "-q").stdout == ""


def test_logs_follow_those_who_come_later(
    compose: Compose, root: Path, daemon_json: Path, tmp_path: Path, write: Write
) -> None:
    write(f"services: {{a: {{image: busybox, command: {STAY}}}, b: {{image: busybox, command: {STAY}}}}}")
    compose("up", "-d", "a")
    process = subprocess.Popen(
        [*cli_command(), "--root", str(root), "compose", "logs", "-f"],
        cwd=tmp_path / "shop",
        env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a-1  | here\n"
    compose("up", "-d", "b")
    assert process.stdout.readline() == "b-1  | here\n"
    compose("restart", "a")  # b goes on meanwhile
    assert process.stdout.readline() == "a-1  | here\n"
    compose("up", "-d", "--scale", "b=2")
    assert process.stdout.readline() == "b-2  | here\n"
    compose("down")  # nobody is left to write
    rest, _ = process.communicate(timeout=30 * PATIENCE)
    assert (rest, process.returncode) == ("", 0)


def test_a_network_that_the_file_changes_is_made_anew(compose: Compose, minidock: Cli, write: Write) -> None:
    text = f"""
        services:
          a: {{image: busybox, command: {STAY}, networks: [inside, other]}}
          b: {{image: busybox, command: {STAY}, networks: [other]}}
        networks:
          inside: {{ipam: {{config: [{{subnet: 10.77.0.0/24}}]}}}}
          other:
        """
    write(text)
    compose("up", "-d")
    other = minidock("network", "inspect", "-f", "{{.Id}}", "shop_other").stdout
    b = compose("ps", "-q", "b").stdout
    write(text.replace("10.77.0", "10.78.0"))
    said = compose("up", "-d").stderr
    assert "Network shop_inside  Recreated" in said
    assert "10.78.0." in compose("exec", "a", "ip", "addr").stdout
    assert minidock("network", "inspect", "-f", "{{.Id}}", "shop_other").stdout == other
    assert compose("ps", "-q", "b").stdout == b  # who does not use it runs on
    assert "Recreated" not in compose("up", "-d").stderr

    minidock("run", "-d", "--name", "guest", "--network", "shop_inside", "busybox", "sleep", "1000")
    write(text)
    failed = compose("up", "-d", check=False)
    assert failed.returncode == 1 and "guest" in failed.stderr
    assert "10.78.0." in compose("exec", "a", "ip", "addr").stdout  # and nothing was stopped for it
    minidock("rm", "-f", "guest")
    compose("down")


def test_a_volume_that_the_file_changes_keeps_its_data(compose: Compose, minidock: Cli, write: Write) -> None:
    text = f"""
        services: {{a: {{image: busybox, command: {STAY}, volumes: ["v:/v"]}}}}
        volumes: {{v: {{labels: {{a: b}}}}}}
        """
    write(text)
    compose("up", "-d")
    compose("exec", "a", "touch", "/v/mine")
    write(text.replace("a: b", "a: c"))
    said = compose("up", "-d").stderr
    assert "the volume shop_v was made otherwise than the file says now" in said
    assert "mine" in compose("exec", "a", "ls", "/v").stdout
    compose("down", "-v")
    assert "otherwise" not in compose("up", "-d").stderr
    compose("down", "-v")
