"""The command in a terminal: a pty on our side, the container's own on the other."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, cli_command

Cli = Callable[..., subprocess.CompletedProcess[Any]]
pytestmark = pytest.mark.usefixtures("busybox")


class Terminal:
    """A command whose terminal we hold: type into it, wait for what it shows."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.resize(30, 100)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """Read until *text* comes; returns what came before it."""
        deadline = time.monotonic() + 15 * PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                pytest.fail(f"waited for {text!r}, saw {self.seen!r}")
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                pytest.fail(f"the terminal closed before {text!r}: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def end(self) -> int:
        """The exit code, once the command has ended."""
        deadline = time.monotonic() + 15 * PATIENCE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                pytest.fail(f"the command does not end; saw {self.seen!r}")
            if select.select([self.master], [], [], 0.01)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    continue
        return self.process.returncode


@pytest.fixture
def terminal(root: Path, daemon_json: Path) -> Iterator[Callable[..., Any]]:
    """``with terminal("run", "-it", …) as shown:``"""

    @contextmanager
    def start(*arguments: str) -> Iterator[Terminal]:
        environment = os.environ | {"MINIDOCK_CONFIG": str(daemon_json), "TERM": "xterm"}
        shown = Terminal([*cli_command(), "--root", str(root), *arguments], environment)
        try:
            yield shown
        finally:
            if shown.process.poll() is None:
                shown.process.send_signal(signal.SIGKILL)
                shown.process.wait()
            os.close(shown.master)

    yield start


def test_an_interactive_shell(terminal: Callable[..., Any]) -> None:
    with terminal("run", "-it", "--rm", "busybox", "sh") as shown:
        shown.expect("/ # ")
        shown.type("tty; stty size\n")
        assert "/dev/pts/0" in shown.expect("30 100")
        shown.resize(40, 120)
        shown.process.send_signal(signal.SIGWINCH)
        shown.type("sleep 0.1; stty size\n")
        shown.expect("40 120")
        shown.type("exit 6\n")
        assert shown.end() == 6


def test_control_c_reaches_the_container_and_control_d_ends_the_shell(terminal: Callable[..., Any]) -> None:
    with terminal("run", "-it", "--rm", "busybox", "sh") as shown:
        shown.expect("/ # ")
        shown.type("sh -c 'echo run''ning; exec sleep 1000'\n")
        shown.expect("running")  # typed earlier, the key would still be read by the shell's line editor
        shown.type("\x03")
        shown.expect("/ # ")
        shown.type("echo code $?\n")
        shown.expect("code 130")
        shown.expect("/ # ")  # before it the shell does not read keys one by one, and would miss the next
        shown.type("\x04")
        assert shown.end() == 0


def test_leaving_with_the_detach_keys_and_coming_back(terminal: Callable[..., Any], minidock: Cli) -> None:
    with terminal("run", "-it", "--name", "web", "busybox", "sh") as shown:
        shown.expect("/ # ")
        shown.type("\x10\x11")
        assert shown.end() == 0
    assert minidock("inspect", "-f", "{{.State.Status}}", "web").stdout == "running\n"
    with terminal("attach", "--detach-keys", "ctrl-a,x", "web") as shown:
        shown.type("echo a$((1+1))b\n")
        shown.expect("a2b")
        shown.type("\x01x")
        shown.expect("read escape sequence")
        assert shown.end() == 1  # as docker attach
    minidock("kill", "web")


def test_exec_with_a_terminal(terminal: Callable[..., Any], minidock: Cli) -> None:
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    with terminal("exec", "-it", "web", "sh") as shown:
        shown.expect("/ # ")
        shown.type("tty; exit 9\n")
        shown.expect("/dev/pts/")
        assert shown.end() == 9


def test_our_terminal_is_as_before(terminal: Callable[..., Any]) -> None:
    with terminal("run", "-it", "--rm", "busybox", "true") as shown:
        before = termios.tcgetattr(shown.master)
        assert shown.end() == 0
        assert termios.tcgetattr(shown.master) == before


def test_signals_are_forwarded_without_a_terminal(root: Path, daemon_json: Path) -> None:
    script = "trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    command = [*cli_command(), "--root", str(root), "run", "--rm", "busybox", "sh", "-c", script]
    environment = os.environ | {"MINIDOCK_CONFIG": str(daemon_json)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got TERM\n"
    assert process.returncode == 5


def test_pages_are_coloured_in_a_terminal_only(terminal: Callable[..., Any], minidock: Cli) -> None:
    minidock("run", "--name", "web", "busybox", "true")
    with terminal("explain", "web") as shown:
        assert "\x1b[1m" in shown.expect("Where the time went")
        assert shown.end() == 0


def test_pull_draws_bars_in_a_terminal(terminal: Callable[..., Any], registry: str) -> None:
    with terminal("pull", "hello-world") as shown:
        page = shown.expect("docker.io/library/hello-world:latest")
        assert "Pull complete" in page
        assert "\x1b[" in page
        assert shown.end() == 0
