"""The real docker-compose drives the daemon: 1.29, written in Python, and the plugin of `docker compose`.

Each client tries every verb on a project with a build, a network, a volume and a health check; and each sees
what `minidock compose` made, and the other way round: their labels are the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, Cli, compose_v2, wait_for

pytestmark = pytest.mark.peer

# Version "3.8" is for the old one: without it that reads the format of ten years ago.
SHOP = """
version: "3.8"
services:
  web:
    image: shop-web:1
    build: {context: app, args: {WHO: somebody}}
    command: ["sh", "-c", "cp /who /www/who; exec httpd -f -h /www -p 80"]
    volumes: ["www:/www"]
    ports: ["127.0.0.1:8088:80"]
    networks: [back]
    stop_signal: SIGKILL
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1/who", interval: 1s, retries: 30}
  client:
    image: busybox
    command: ["sh", "-c", "trap exit TERM; echo up; while :; do sleep 0.1; done"]
    depends_on: [web]
    networks: [back]
networks: {back: {}}
volumes: {www: {}}
"""
MADE = {"shop-web-1", "shop-client-1"}


@dataclass
class Client:
    """One of the real ones. ``client("up", "-d")`` runs it beside the compose file."""

    command: list[str]
    directory: Path
    environment: dict[str, str]

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.line(*words),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90 * PATIENCE,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"$ {' '.join(words)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def line(self, *words: str) -> list[str]:
        return [*self.command, "--ansi", "never", *words]


def _compose_v1() -> list[str] | None:
    """docker-compose 1.29; later versions of that name are the plugin."""
    program = shutil.which("docker-compose")
    if program is None:
        return None
    shown = subprocess.run([program, "version", "--short"], capture_output=True, text=True, timeout=60)
    return [program] if shown.stdout.startswith("1.") else None


@pytest.fixture(params=["docker-compose 1.29", "docker compose v2"])
def client(request: Any, daemon: Any, tmp_path: Path) -> Iterator[Client]:
    command = _compose_v1() if "1.29" in request.param else compose_v2()
    if command is None:
        pytest.skip(f"{request.param} is not on this machine: what it makes of the daemon is not known")
    directory = tmp_path / "shop"
    (directory / "app").mkdir(parents=True)
    (directory / "docker-compose.yml").write_text(SHOP)
    (directory / "app/Dockerfile").write_text("FROM busybox\nARG WHO=nobody\nRUN echo $WHO > /who\n")
    environment = os.environ | {
        "DOCKER_HOST": daemon.host,
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "DOCKER_BUILDKIT": "0",
        "COMPOSE_DOCKER_CLI_BUILD": "0",  # 1.29 would have the docker command build
        "HOME": str(tmp_path),
    }
    for name in ("DOCKER_CONTEXT", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE"):
        environment.pop(name, None)
    yield Client(command, directory, environment)


@pytest.fixture
def ours(client: Client, minidock: Cli) -> Callable[..., Any]:
    """``minidock compose`` in the same directory."""
    return lambda *words, **more: minidock("compose", *words, cwd=client.directory, **more)


def names(minidock: Cli, *words: str) -> set[str]:
    """The names of all containers, with the hyphens of today: 1.29 writes ``shop_web_1``."""
    shown = minidock("ps", "-a", "--format", "{{.Names}}", *words).stdout
    return set(shown.replace("_", "-").split())


def test_a_whole_project(client: Client, minidock: Cli, registry: str) -> None:
    client("pull", "client")
    assert "Successfully tagged shop-web:1" in client("build").stdout
    client("up", "-d")
    assert names(minidock) == MADE
    wait_for(lambda: "(healthy)" in minidock("ps").stdout, what="the health check")
    assert re.search(r"shop.web.1 .*healthy", client("ps").stdout)
    assert client("port", "web", "80").stdout.strip() == "127.0.0.1:8088"
    fetch = ("wget", "-q", "-O", "-", "http://web/who")
    assert client("exec", "-T", "client", *fetch).stdout == "somebody\n"
    assert client("exec", "-T", "client", "sh", "-c", "exit 7", check=False).returncode == 7
    assert re.search(r"client-?_?1 +\| up\n", client("logs", "client").stdout)
    assert client("run", "--rm", "client", "echo", "one-off").stdout.splitlines()[-1] == "one-off"
    assert client("run", "--rm", "-T", "client", "sh", "-c", "exit 5", check=False).returncode == 5
    assert "httpd" in client("top", "web").stdout
    assert "shop-web" in client("images").stdout

    before = minidock("ps", "-aq", "--filter", "name=web").stdout
    client("up", "-d", "--scale", "client=3")
    assert names(minidock) == MADE | {"shop-client-2", "shop-client-3"}
    client("up", "-d", "--scale", "client=1")
    assert names(minidock) == MADE
    assert minidock("ps", "-aq", "--filter", "name=web").stdout == before  # nothing was made anew

    client("pause")
    assert minidock("ps", "-q", "--filter", "status=paused").stdout.count("\n") == 2
    client("unpause")
    client("restart")
    client("stop")
    assert minidock("ps", "-q").stdout == ""
    client("start")
    assert minidock("ps", "-q").stdout.count("\n") == 2
    client("kill", "client")
    client("rm", "-f")
    assert names(minidock) == {"shop-web-1"}
    client("down", "-v", "--rmi", "all")
    assert names(minidock) == set()
    assert minidock("volume", "ls", "-q").stdout == ""
    assert "shop" not in minidock("network", "ls").stdout + minidock("images").stdout


def test_only_what_changed_is_made_anew(client: Client, minidock: Cli) -> None:
    client("up", "-d")
    web = minidock("ps", "-q", "--filter", "name=web").stdout
    reader = minidock("ps", "-q", "--filter", "name=client").stdout
    file = client.directory / "docker-compose.yml"
    file.write_text(SHOP.replace("depends_on: [web]", "depends_on: [web]\n    environment: {NEW: '1'}"))
    client("up", "-d")
    assert minidock("ps", "-q", "--filter", "name=web").stdout == web
    assert minidock("ps", "-q", "--filter", "name=client").stdout != reader
    assert client("exec", "-T", "client", "sh", "-c", "echo $NEW").stdout == "1\n"
    client("down", "-v")


def test_in_the_foreground(client: Client, minidock: Cli) -> None:
    """`up` shows what containers write; Ctrl-C stops them."""
    process = subprocess.Popen(
        client.line("up"),
        cwd=client.directory,
        env=client.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    shown = ""
    while not re.search(r"client.1 +\| up", shown):
        line = process.stdout.readline()
        assert line, f"it ended: {shown}"
        shown += line
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60 * PATIENCE)
    assert names(minidock) == MADE
    assert minidock("ps", "-q").stdout == ""
    client("down", "-v")


def test_we_see_what_it_made(client: Client, minidock: Cli, ours: Any) -> None:
    client("up", "-d")
    found = [json.loads(line) for line in ours("ps", "--format", "json").stdout.splitlines()]
    assert sorted(row["Service"] for row in found) == ["client", "web"]
    assert ours("ls", "-q").stdout == "shop\n"
    assert ours("exec", "client", "wget", "-q", "-O", "-", "http://web/who").stdout == "somebody\n"
    ours("up", "-d")
    assert names(minidock) == MADE
    ours("down", "-v")
    assert names(minidock) == set()
    assert "shop" not in minidock("network", "ls").stdout + minidock("volume", "ls").stdout


def test_it_sees_what_we_made(client: Client, minidock: Cli, ours: Any) -> None:
    ours("up", "-d", "--wait")
    shown = client("ps").stdout
    assert "shop-web-1" in shown and "shop-client-1" in shown
    assert client("exec", "-T", "client", "wget", "-q", "-O", "-", "http://web/who").stdout == "somebody\n"
    assert re.search(r"client.1 +\| up\n", client("logs", "client").stdout)
    client("up", "-d")
    assert names(minidock) == MADE
    client("down", "-v")
    assert names(minidock) == set()
    assert "shop" not in minidock("network", "ls").stdout + minidock("volume", "ls").stdout
