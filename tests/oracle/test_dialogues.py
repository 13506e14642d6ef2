"""The same keys typed at docker's and at minidock's terminal: the screens must show the same."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any

import pytest
from worlds import PATIENCE

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]

CTRL_C, CTRL_D, DETACH = "\x03", "\x04", "\x10\x11"
# title → (commands before, the command in the terminal, what to wait for and then to type, commands after)
Dialogue = tuple[list[str], str, list[tuple[str, str]], list[str]]
SHELL = "run -it --name one -e PS1=>>> busybox sh"
TRAP = 'trap "echo caught; exit 4" INT; echo ready; while :; do sleep 0.1; done'
DIALOGUES: dict[str, Dialogue] = {
    "a shell": (
        [],
        SHELL,
        [(">>>", "tty; stty size; id -u; echo $TERM; echo $HOME\n"), ("/root", ""), (">>>", "exit 6\n")],
        ["inspect -f '{{.State.ExitCode}} {{.Config.Tty}} {{.Config.OpenStdin}}' one"],
    ),
    "end of input": ([], SHELL, [(">>>", CTRL_D)], ["inspect -f '{{.State.ExitCode}}' one"]),
    "interrupt from the keyboard": (
        [],
        f"run -it --name one busybox sh -c '{TRAP}'",
        [("ready", CTRL_C), ("caught", "")],
        ["inspect -f '{{.State.ExitCode}}' one"],
    ),
    "interrupt without a terminal inside": (
        [],
        f"run --name one busybox sh -c '{TRAP}'",
        [("ready", CTRL_C), ("caught", "")],
        ["inspect -f '{{.State.ExitCode}}' one"],
    ),
    "job control": (
        [],
        SHELL,
        [
            (">>>", "sh -c 'echo up; exec sleep 100'\n"),
            ("up\r\n", "\x1a"),
            ("Stopped", ""),
            (">>>", "jobs; kill %1; exit 3\n"),
            (">>>", "exit 3\n"),
        ],
        [],
    ),
    "leaving a run": (
        [],
        "run -it --name one -e PS1=>>> busybox sh",
        [(">>>", "echo ke''pt\n"), ("kept", ""), (">>>", DETACH)],
        ["ps --format '{{.Names}} {{.Status}}'", "exec one true", "rm -f one"],
    ),
    "leaving with keys of one's own": (
        [],
        "run -it --name one -e PS1=>>> --detach-keys ctrl-a,x busybox sh",
        [(">>>", "\x01x")],
        ["ps --format '{{.Names}}'", "rm -f one"],
    ),
    "attaching and leaving": (
        ["run -dit --name one -e PS1=>>> busybox sh"],
        "attach one",
        [("", "echo hel''lo\n"), ("hello", ""), (">>>", DETACH), ("escape", "")],
        ["ps --format '{{.Names}}'", "rm -f one"],
    ),
    "attaching until the end": (
        ["run -dit --name one -e PS1=>>> busybox sh"],
        "attach one",
        [("", "exit 9\n")],
        ["inspect -f '{{.State.ExitCode}}' one"],
    ),
    "exec of a shell": (
        ["run -d --name one busybox sleep 100"],
        "exec -it -e PS1=>>> one sh",
        [(">>>", "tty; stty size; echo $TERM\n"), ("xterm", ""), (">>>", "exit 8\n")],
        ["ps --format '{{.Names}}'"],
    ),
    "leaving an exec": (
        ["run -d --name one busybox sleep 100"],
        "exec -it -e PS1=>>> one sh",
        [(">>>", "echo ke''pt\n"), ("kept", ""), (">>>", DETACH)],
        ["ps --format '{{.Names}}'"],
    ),
    "start -ai": (
        ["create -it --name one -e PS1=>>> busybox sh"],
        "start -ai one",
        [(">>>", "exit 5\n")],
        ["inspect -f '{{.State.ExitCode}}' one"],
    ),
}
DELIBERATE: dict[str, str] = {}


class Screen:
    """A command in a terminal of 30 rows and 100 columns."""

    def __init__(self, run: Any, words: list[str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environment = os.environ | run.environment | {"TERM": "xterm"}

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*run.command, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.text = ""

    def expect(self, text: str, start: int) -> int:
        """Read until *text* stands at or after *start*; returns where it ends."""
        while text not in self.text[start:]:
            assert self._read(), f"waited for {text!r}, saw {self.text!r}"
        return self.text.index(text, start) + len(text)

    def _read(self) -> bool:
        if not select.select([self.master], [], [], 20 * PATIENCE)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last slave is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def end(self) -> int:
        while self._read():
            pass
        os.close(self.master)
        deadline = time.monotonic() + 20 * PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        return self.process.returncode


def _screen(text: str) -> str:
    """What a person reads: no cursor queries, no prompts."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|>>>", "", text)
    return re.sub(r"(docker|minidock): |\r|\(core dumped\)", "", text)


def _play(engine: str, run: Any, dialogue: Dialogue, words: Any) -> list[Any]:
    before, command, turns, after = dialogue
    for line in before:
        run(*words(engine, line), check=True)
    screen, position = Screen(run, words(engine, command)), 0
    for wanted, keys in turns:
        position = screen.expect(wanted, position)
        os.write(screen.master, keys.encode())
    told = [screen.end(), _screen(screen.text).splitlines()]
    for line in after:
        done = run(*words(engine, line))
        told.append((line, done.returncode, _screen(done.stdout)))
    return told


@pytest.mark.parametrize("title", DIALOGUES)
def test_screens_show_the_same(title: str, twins: Any) -> None:
    from test_behaviour import _clean, _same, _words

    try:
        theirs, ours = (
            _play(engine, run, DIALOGUES[title], _words)
            for engine, run in zip(("docker", "minidock"), twins, strict=True)
        )
    finally:
        for run in twins:
            _clean(run)
    same = _same(repr(theirs)) == _same(repr(ours))
    if title in DELIBERATE:
        assert not same, f"no difference any more: take {title!r} out of DELIBERATE"
    else:
        assert same, f"\ndocker:   {theirs}\nminidock: {ours}"
