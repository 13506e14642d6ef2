"""A container's life as people type it: kept parameters, many orphans, logs to the last line, tidying up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, Cli, cli_command


@pytest.fixture(autouse=True)
def cleared(busybox: Path, minidock: Cli) -> Iterator[None]:
    yield
    minidock("reset", "--yes")


def test_what_ps_lists_rm_takes(minidock: Cli, root: Path, daemon_json: Path) -> None:
    minidock("run", "-d", "--name", "stays", "-v", "/kept", "busybox", "sleep", "1000")
    for name in ("one", "two"):
        minidock("run", "--name", name, "-v", "/data", "busybox", "true")
    minidock("create", "--name", "made", "-v", "/made", "busybox", "true")
    program = " ".join([*cli_command(), "--root", str(root)])
    subprocess.run(
        ["sh", "-c", f"{program} rm -v $({program} ps -aq -f status=exited)"],
        env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
        check=True,
        timeout=60 * PATIENCE,
    )
    assert minidock("ps", "-a", "--format", "{{.Names}}").stdout.split() == ["made", "stays"]
    assert len(minidock("volume", "ls", "-q").stdout.split()) == 2


def test_start_keeps_the_first_parameters(minidock: Cli, root: Path) -> None:
    shared = root / "shared"  # not below tmp_path: others than root may walk there
    shared.mkdir()
    (shared / "file").write_text("bound")
    script = (
        "echo $A $(pwd) $(id -u):$(id -g) $(hostname) $(cat /in/file) $(ulimit -n)"
        " $(cat /proc/sys/kernel/shmmni) $0 $1; grep -E '^(CapBnd|Seccomp):' /proc/self/status;"
        " cat /proc/self/oom_score_adj; df -k /t | tail -n 1"
    )
    options = "-e A=b -w /tmp -u 7:8 --hostname h --ulimit nofile=77 --sysctl kernel.shmmni=4000"
    options += f" --cap-drop CHOWN --oom-score-adj 300 --tmpfs /t:size=1m -v {shared}:/in:ro --memory 64m"
    options += " --entrypoint sh"
    first = minidock("run", "--name", "web", *options.split(), "busybox", "-c", script, "x", "y").stdout
    assert first.startswith("b /tmp 7:8 h bound 77 4000 x y\n")
    shown = json.loads(minidock("inspect", "web").stdout)[0]
    for verb in (("start", "-a", "web"), ("start", "-ai", "web")):
        assert minidock(*verb).stdout == first
    again = json.loads(minidock("inspect", "web").stdout)[0]
    for part in ("Config", "HostConfig", "Mounts", "Path", "Args", "Image", "Created"):
        assert again[part] == shown[part], part


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["plain", "init"])
def test_a_thousand_orphans(minidock: Cli, wait_for: Callable[..., Any], init: list[str]) -> None:
    """They are the first process's to reap. Who does not reap keeps them until it ends, and no longer."""
    mark = f"1000.{os.getpid()}"
    script = f"for i in $(seq 1000); do (sleep {mark} &); done; echo up; exec sleep 2000"
    minidock("run", "-d", "--name", "many", *init, "busybox", "sh", "-c", script)
    wait_for(lambda: "up" in minidock("logs", "many").stdout, what="a thousand orphans", seconds=60)
    assert len(_with_argument(mark)) == 1000
    minidock("exec", "many", "killall", "sleep", check=False)
    if init:  # tini has lost its child: it ends, after it has reaped all
        assert minidock("wait", "many").stdout == "143\n"
    else:  # sleep reaps nobody, and as the first process it is deaf to TERM
        assert minidock("exec", "many", "sh", "-c", "ps | grep -c '\\[sleep\\]'").stdout == "1000\n"
        minidock("rm", "-f", "many")
    assert _with_argument(mark) == []


def _with_argument(mark: str) -> list[str]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (directory / "cmdline").read_bytes().split(b"\0"):
                found.append(directory.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("death", ["kill", "stop", "shim"])
def test_logs_follow_to_the_last_line(
    minidock: Cli, root: Path, daemon_json: Path, tmp_path: Path, wait_for: Callable[..., Any], death: str
) -> None:
    """Who follows sees each line once, in order, and in the end what the log has; then it ends by itself."""
    script = "trap 'echo last; exit' TERM; i=0; while :; do i=$((i+1)); echo line $i; done"
    minidock("run", "-d", "--name", "talk", "busybox", "sh", "-c", script)
    with open(tmp_path / "followed", "wb") as out:
        reader = subprocess.Popen(
            [*cli_command(), "--root", str(root), "logs", "-f", "talk"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
        )
    wait_for(lambda: (tmp_path / "followed").stat().st_size > 20_000, what="output")
    if death == "shim":
        pid = int(minidock("inspect", "--format", "{{.State.Pid}}", "talk").stdout)
        shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert Path(f"/proc/{shim}/comm").read_text() == "minidock-shim\n"
        os.kill(shim, signal.SIGKILL)
    else:
        minidock(death, "talk")
    assert reader.wait(60 * PATIENCE) == 0
    followed = (tmp_path / "followed").read_text()
    assert followed == minidock("logs", "talk").stdout
    lines = followed.splitlines()
    assert (lines.pop() == "last") if death == "stop" else True
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
