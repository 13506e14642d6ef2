"""Terminals: a real pty from the container's own devpts, resize, job control, detach keys."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from minidock.containers import attach, lifecycle, state, streams
from minidock.containers.streams import Streams
from minidock.containers.terminal import set_size
from minidock.errors import InvalidInput

REPOSITORY = Path(__file__).resolve().parent.parent.parent

_CLIENT = """
import sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from minidock.containers import lifecycle, state
from minidock.containers.streams import Streams
container = state.find(Path({root!r}), {id!r})
sys.exit({call} & 0xff)
"""


class Terminal:
    """A user at a terminal, with a small process on it that talks to the container."""

    def __init__(self, box, container, call: str, rows: int = 30, columns: int = 100) -> None:
        program = _CLIENT.format(repository=str(REPOSITORY), root=str(box.root), id=container.id, call=call)
        self.master, slave = pty.openpty()
        set_size(slave, rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", program],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self.slave = slave
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 15) -> str:
        """Read until *text* appears; what came before it, with it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        found, _, self.seen = self.seen.partition(text.encode())
        return found.decode(errors="replace") + text

    def end(self) -> int:
        code = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal was not restored"
        os.close(self.slave)
        os.close(self.master)
        return code


@pytest.fixture
def shell(box):
    container = box.create("sh", tty=True, open_stdin=True, stdin_once=True)
    terminal = Terminal(box, container, "lifecycle.start(container, Streams(0))")
    terminal.expect("/ # ")
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()


def test_it_is_a_terminal(shell):
    shell.type('tty; stty size; ls -l /proc/self/fd/0; echo $TERM; test -c /dev/console && echo con""sole\r')
    shown = shell.expect("console\r\n")
    assert "/dev/pts/0" in shown
    assert "30 100" in shown
    assert "xterm" in shown
    assert "not a tty" not in shown
    shell.type("exit 6\r")
    assert shell.end() == 6


def test_ctrl_d_ends_the_shell(shell):
    shell.type("\x04")
    assert shell.end() == 0


def test_ctrl_c_interrupts_the_program_and_not_the_shell(shell):
    shell.type("sleep 100\r")
    shell.expect("sleep 100")
    time.sleep(0.3)
    shell.type("\x03")
    shell.expect("/ # ")
    shell.type("echo $?\r")
    shell.expect("130")
    shell.type("exit\r")
    shell.end()


def test_job_control(shell):
    shell.type("sleep 100\r")
    shell.expect("sleep 100")
    time.sleep(0.3)
    shell.type("\x1a")
    assert "Stopped" in shell.expect("/ # ")
    shell.type("jobs; kill %1; exit 0\r")
    shell.expect("Stopped")
    shell.type("exit 0\r")
    assert shell.end() == 0


def test_resize(shell):
    set_size(shell.master, 40, 132)
    os.kill(shell.process.pid, signal.SIGWINCH)
    time.sleep(0.3)
    shell.type("stty size\r")
    shell.expect("40 132")
    shell.type("exit\r")
    shell.end()


def test_detach_and_attach_again(box):
    container = box.create("sh", tty=True, open_stdin=True)
    terminal = Terminal(box, container, "lifecycle.start(container, Streams(0))")
    terminal.expect("/ # ")
    terminal.type("x=remembered\r")
    terminal.expect("/ # ")
    terminal.type("\x10\x11")
    assert terminal.end() == 255  # DETACHED
    assert container.status() == "running"
    terminal = Terminal(box, container, "lifecycle.attach_to(container, Streams(0))")
    terminal.type("echo $x\r")
    terminal.expect("remembered\r\n")
    terminal.type("exit 3\r")
    assert terminal.end() == 3


def test_exec_with_a_terminal(box):
    container = box.service()
    terminal = Terminal(box, container, "lifecycle.exec(container, ['sh'], tty=True, streams=Streams(0))")
    terminal.expect("/ # ")
    terminal.type("tty; stty size; ps | grep -c trap; echo $TERM\r")
    shown = terminal.expect("xterm")
    assert "/dev/pts/" in shown
    assert "30 100" in shown
    terminal.type("exit 5\r")
    assert terminal.end() == 5
    assert container.status() == "running"


def test_a_terminal_merges_the_streams_and_maps_newlines(box):
    ran = box.sh("echo out; echo err >&2", tty=True)
    assert ran.out == b"out\r\nerr\r\n"
    assert ran.err == b""


def test_big_output_through_a_terminal(box):
    ran = box.sh("seq 1 30000", tty=True)
    assert ran.out == "".join(f"{n}\r\n" for n in range(1, 30001)).encode()


def test_a_terminal_for_a_user(box):
    ran = box.run("sh", "-c", "echo x > /dev/tty; echo y > /dev/stdout; id -u", tty=True, user="nobody")
    assert ran.out == b"x\r\ny\r\n65534\r\n"


def test_signals_are_forwarded(box):
    container = box.create(
        "sh", "-c", "trap 'echo got it; exit 8' TERM; echo up; while :; do sleep 1 & wait $!; done"
    )
    terminal = Terminal(box, container, "lifecycle.start(container, Streams(0))")
    terminal.expect("up\r\n")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.expect("got it")
    assert terminal.end() == 8


def test_a_client_that_is_killed_leaves_the_container_alone(box, until):
    container = box.create("sh", tty=True, open_stdin=True, stdin_once=False)
    terminal = Terminal(box, container, "lifecycle.start(container, Streams(0))")
    terminal.expect("/ # ")
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.slave)
    os.close(terminal.master)
    assert state.find(box.root, container.id).status() == "running"
    assert box.exec(container, "echo", "alive").out == b"alive\n"


@pytest.mark.parametrize(
    ("text", "expected"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("a,ctrl-]", b"a\x1d"), ("", b"")]
)
def test_detach_keys(text, expected):
    assert streams.keys(text) == expected


def test_wrong_detach_keys():
    with pytest.raises(InvalidInput):
        streams.keys("ctrl-?")
    with pytest.raises(InvalidInput, match="Invalid detach keys"):
        Streams(detach_keys="ctrl-nonsense")


def test_a_detach_sequence_that_goes_astray_is_typed():
    keys = attach.DetachKeys(b"\x10\x11")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False)
    assert keys.feed(b"\x11c") == (b"", True)


def test_streams_without_a_terminal_have_no_size(tmp_path):
    with open(tmp_path / "file", "w") as file:
        assert Streams(file.fileno(), file.fileno()).size() is None


def test_resize_from_elsewhere(box):
    container = box.start("sh", "-c", "read x; stty size", tty=True, open_stdin=True)
    lifecycle.resize(container, 11, 22)
    out: list[bytes] = []
    assert lifecycle.attach_to(container, box.streams(b"\n", out, [])) == 0
    assert b"11 22" in b"".join(out)
