"""A project that goes on: other numbers, containers that come later, networks and volumes that change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli

Write = Callable[..., Path]
Compose = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("busybox")

STAY = '["sh", "-c", "trap exit TERM; echo here; while :; do sleep 0.1; done"]'


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
