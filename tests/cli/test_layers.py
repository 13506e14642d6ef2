"""A student's file in place of a module of the library: it runs, and the record names it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[Any]]
pytestmark = pytest.mark.usefixtures("busybox")

PIVOT = '''
from minidock.kernel import syscalls
from minidock.kernel.syscalls import MNT_DETACH, MS_BIND, MS_REC

def pivot_into(new_root):
    """Mine."""
    syscalls.mount(new_root, new_root, flags=MS_BIND | MS_REC)
    syscalls.chdir(new_root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", MNT_DETACH)
    syscalls.chdir("/")
'''


@pytest.fixture
def mydock(tmp_path: Path) -> Path:
    directory = tmp_path / "mydock"
    directory.mkdir()
    (directory / "rootfs.py").write_text(PIVOT)
    return directory


@pytest.mark.parametrize("by_flag", [True, False])
def test_the_student_s_function_runs_and_is_named(minidock: Cli, mydock: Path, by_flag: bool) -> None:
    chosen = ["--layers", str(mydock)] if by_flag else []
    environment = {} if by_flag else {"MINIDOCK_LAYERS": str(mydock)}
    done = minidock(*chosen, "run", "--explain", "--name", "web", "busybox", "echo", "hi", env=environment)
    assert done.stdout == "hi\n"
    assert f"your own code: {mydock}/rootfs.py" in done.stderr
    # the choice is the container's: it holds at the next start, whatever the environment says then
    minidock("start", "-a", "web")
    assert minidock("explain", "--all", "web").stdout.count("your own code") == 2


def test_a_mistake_in_the_student_s_file_is_named_by_line(minidock: Cli, mydock: Path) -> None:
    (mydock / "rootfs.py").write_text("import os\n1 / 0\n")
    done = minidock("--layers", mydock, "run", "--rm", "busybox", "true", check=False)
    assert done.returncode == 125
    assert f"{mydock}/rootfs.py, line 2: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os\n\ndef lookup(:\n", "line 3: SyntaxError: invalid syntax\n"),
        ("def f():\npass\n", "line 2: IndentationError: expected an indented block after "),
        ("import os\nos.stat(\n", "line 2: SyntaxError: '(' was never closed\n"),
        ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError: "),
    ],
)
def test_the_line_is_the_student_s_own(minidock: Cli, mydock: Path, text: str, said: str) -> None:
    (mydock / "rootfs.py").write_text(text)
    done = minidock("--layers", mydock, "run", "--rm", "busybox", "true", check=False)
    assert done.stderr.startswith(f"minidock: layers: {mydock}/rootfs.py, {said}"), done.stderr


@pytest.mark.parametrize("error", ["NotImplementedError", "FileNotFoundError"])
def test_so_is_one_that_the_command_itself_runs_into(minidock: Cli, mydock: Path, error: str) -> None:
    (mydock / "overlay.py").write_text(f"def diff(upper, lower):\n    raise {error}('task 4')\n")
    minidock("create", "--name", "web", "busybox")
    done = minidock("--layers", mydock, "diff", "web", check=False)
    assert done.returncode == 1
    assert done.stderr == f"minidock: {mydock}/overlay.py, line 2: {error}: task 4\n"


def test_a_missing_directory_says_what_to_do(minidock: Cli, tmp_path: Path) -> None:
    done = minidock("--layers", tmp_path / "no", "run", "--rm", "busybox", "true", check=False)
    assert "no such directory" in done.stderr
    assert "minidock lab start" in done.stderr
