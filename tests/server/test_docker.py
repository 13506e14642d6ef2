"""The real docker command drives the daemon."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, Cli

pytestmark = pytest.mark.peer
TICK = "while :; do echo tick; sleep 1; done"


def test_version_and_info(docker: Any) -> None:
    found = json.loads(docker("version", "--format", "json").stdout)
    assert found["Server"]["ApiVersion"] == "1.44"
    assert docker("info", "--format", "{{.Driver}} {{.OSType}}").stdout == "overlay2 linux\n"


@pytest.mark.parametrize("more", [[], ["--rm"]])
def test_run_has_its_streams_and_exit_code(docker: Any, more: list[str]) -> None:
    done = docker("run", *more, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    left = docker("ps", "-aq").stdout.split()
    assert len(left) == (0 if more else 1)


def test_nothing_of_the_first_words_is_lost(docker: Any) -> None:
    """Attached before the start: also what is written at once, and by a program that ends at once."""
    for number in range(10):
        assert docker("run", "--rm", "busybox", "echo", str(number)).stdout == f"{number}\n"


def test_input_ends_and_the_program_hears_it(docker: Any) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    assert docker("run", "-i", "--rm", "busybox", "cat", input=text).stdout == text
    assert docker("run", "-i", "--rm", "busybox", "wc", "-l", input="a\nb\n").stdout.strip() == "2"


@pytest.mark.parametrize(
    ("command", "code"), [(["nosuch"], 127), (["/etc"], 126), (["sh", "-c", "exit 42"], 42)]
)
def test_exit_codes_of_run(docker: Any, command: list[str], code: int) -> None:
    done = docker("run", "--rm", "busybox", *command, check=False)
    assert done.returncode == code
    assert "level=error" not in done.stderr  # one failure is told once
    assert docker("ps", "-aq").stdout == ""


def test_a_terminal(docker: Any, daemon: Any) -> None:
    """run -it: what is typed is echoed, the size arrives, exit ends it."""
    docker("version")
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    subprocess.run(["stty", "-F", os.ttyname(slave), "rows", "33", "cols", "99"], check=True)
    command = ["docker", "run", "-it", "--rm", "busybox", "sh"]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"DOCKER_HOST": daemon.host},
        start_new_session=True,
    )
    os.close(slave)
    _until(master, b"# ")
    os.write(master, b"stty size; echo $((6*7))\n")
    shown = _until(master, b"42\r\n")
    assert b"33 99" in shown
    os.write(master, b"exit 5\n")
    assert process.wait(20 * PATIENCE) == 5
    os.close(master)


def _until(descriptor: int, wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown:
        ready, _, _ = select.select([descriptor], [], [], 20 * PATIENCE)
        assert ready, f"waited in vain for {wanted!r}, saw {shown!r}"
        shown += os.read(descriptor, 4096)
    return shown


def test_a_life(docker: Any) -> None:
    docker("run", "-d", "--name", "web", "busybox", "sh", "-c", TICK)
    assert docker("ps", "--format", "{{.Names}} {{.State}}").stdout == "web running\n"
    docker("pause", "web")
    assert docker("inspect", "-f", "{{.State.Status}}", "web").stdout == "paused\n"
    docker("unpause", "web")
    docker("restart", "-t", "0", "web")
    docker("update", "--memory", "64m", "web")
    assert docker("inspect", "-f", "{{.HostConfig.Memory}}", "web").stdout == "67108864\n"
    docker("rename", "web", "shop")
    assert "sh" in docker("top", "shop").stdout
    assert "shop" in docker("stats", "--no-stream").stdout
    assert docker("rm", "shop", check=False).returncode == 1
    docker("stop", "-t", "0", "shop")
    assert docker("wait", "shop").stdout == "137\n"
    docker("start", "shop")
    docker("kill", "shop")
    docker("rm", "shop")
    assert "No such container" in docker("inspect", "--type", "container", "shop", check=False).stderr


def test_logs(docker: Any) -> None:
    docker("run", "--name", "web", "busybox", "sh", "-c", "echo 1; echo 2 >&2; echo 3")
    done = docker("logs", "web")
    assert (done.stdout, done.stderr) == ("1\n3\n", "2\n")
    last = docker("logs", "--tail", "1", "web")  # two pipes: either line may have been read last
    assert last.stdout + last.stderr in ("3\n", "2\n")
    assert "T" in docker("logs", "-t", "web").stdout.split()[0]
    assert docker("logs", "--since", "2099-01-01", "web").stdout == ""
    assert docker("logs", "-f", "web").stdout == "1\n3\n"


def test_logs_follow_until_the_end(docker: Any) -> None:
    docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert docker("logs", "-f", "web").stdout == "1\n2\n3\n"


def test_exec(docker: Any) -> None:
    docker("run", "-d", "--name", "web", "busybox", "sh", "-c", TICK)
    done = docker("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert docker("exec", "-i", "web", "cat", input="typed").stdout == "typed"
    assert docker(
        "exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b", "web", "sh", "-c", "id -un; pwd; echo $A"
    )
    missing = docker("exec", "web", "nosuch", check=False)
    assert missing.returncode == 127
    assert "executable file not found" in missing.stdout + missing.stderr
    docker("exec", "-d", "web", "touch", "/made")
    assert docker("diff", "web").stdout.strip() == "A /made"


def test_images(docker: Any, tmp_path: Path) -> None:
    assert docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "busybox:latest\n"
    docker("tag", "busybox", "mine:1")
    archive = tmp_path / "mine.tar"
    docker("save", "-o", str(archive), "mine:1")
    docker("rmi", "mine:1")
    assert docker("load", "-i", str(archive)).stdout == "Loaded image: mine:1\n"
    assert docker("history", "-q", "--no-trunc", "mine:1").stdout.startswith("sha256:")
    missing = docker("run", "--pull", "never", "nosuch", check=False)
    assert missing.returncode == 125
    assert "No such image" in missing.stderr


def test_pull_and_push(docker: Any, registry: str, writable_registry: str) -> None:
    assert "hello-world:latest" in docker("pull", "hello-world").stdout
    assert docker("run", "--rm", "hello-world").stdout
    docker("tag", "busybox", f"{writable_registry}/team/box:1")
    assert "digest: sha256:" in docker("push", f"{writable_registry}/team/box:1").stdout
    assert "busybox" in docker("search", f"{registry}/busybox").stdout
    assert "busybox" not in docker("search", "--filter", "stars=1", f"{registry}/busybox").stdout
    wrong = docker("search", "--filter", "stars=x", f"{registry}/busybox", check=False)
    assert (wrong.returncode, "invalid filter 'stars=x'" in wrong.stderr) == (1, True)
    nothing = docker("pull", f"{writable_registry}/no/such", check=False)
    assert nothing.returncode == 1


def test_build_commit_and_import(docker: Any, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(
        "FROM busybox\nCOPY word /word\nRUN cp /word /again\nCMD cat /again\n"
    )
    (tmp_path / "context/word").write_text("built\n")
    shown = docker("build", "--network", "none", "-t", "made", str(tmp_path / "context")).stdout
    assert "Step 2/4 : COPY word /word" in shown
    assert "Successfully tagged made:latest" in shown
    assert docker("run", "--name", "one", "made").stdout == "built\n"
    docker("commit", "-m", "why", "-c", "CMD echo changed", "one", "changed:1")
    assert docker("run", "--rm", "changed:1").stdout == "changed\n"
    archive = tmp_path / "one.tar"
    docker("export", "-o", str(archive), "one")
    assert "again" in tarfile.open(archive).getnames()
    docker("import", str(archive), "flat:1")
    assert docker("run", "--rm", "flat:1", "cat", "/word").stdout == "built\n"
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nRUN exit 4\n")
    broken = docker("build", "--network", "none", str(tmp_path / "context"), check=False)
    assert broken.returncode == 4
    assert "exit 4" in broken.stderr


def test_cp(docker: Any, tmp_path: Path) -> None:
    docker("create", "--name", "box", "busybox", "true")
    (tmp_path / "file").write_text("content")
    docker("cp", str(tmp_path / "file"), "box:/etc/file")
    docker("cp", "box:/etc", str(tmp_path / "back"))
    assert (tmp_path / "back/file").read_text() == "content"
    assert docker("cp", "box:/nosuch", str(tmp_path), check=False).returncode == 1


def test_volumes(docker: Any) -> None:
    docker("volume", "create", "--label", "a=b", "data")
    docker("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file")
    assert docker("run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/file").stdout == "kept\n"
    assert docker("volume", "ls", "-q", "--filter", "label=a=b").stdout == "data\n"
    docker("volume", "rm", "data")
    assert docker("volume", "ls", "-q").stdout == ""
    assert "Local Volumes" in docker("system", "df").stdout


def test_networks(docker: Any) -> None:
    docker("network", "create", "--subnet", "172.30.9.0/24", "inner")
    docker(
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "inner",
        "--network-alias",
        "www",
        "busybox",
        "sh",
        "-c",
        TICK,
    )
    assert docker("run", "--rm", "--network", "inner", "busybox", "nslookup", "www").returncode == 0
    docker("network", "disconnect", "inner", "server")
    docker("network", "connect", "--ip", "172.30.9.77", "inner", "server")
    form = "{{.NetworkSettings.Networks.inner.IPAddress}}"
    assert docker("inspect", "-f", form, "server").stdout == "172.30.9.77\n"
    docker("rm", "-f", "server")
    docker("network", "rm", "inner")
    assert "inner" not in docker("network", "ls").stdout


def test_published_ports(docker: Any) -> None:
    docker(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1:8088:80",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "80",
        "-h",
        "/etc",
    )
    assert docker("port", "web").stdout == "80/tcp -> 127.0.0.1:8088\n"
    assert "127.0.0.1:8088->80/tcp" in docker("ps").stdout


def test_events(docker: Any) -> None:
    docker("run", "--rm", "--name", "seen", "busybox", "true")
    until = str(int(time.time()) + 1)  # the command sends whole seconds
    shown = docker("events", "--since", "1m", "--until", until, "--filter", "type=container").stdout
    actions = [line.split()[2] for line in shown.splitlines()]
    assert actions == ["create", "start", "attach", "die", "destroy"]


def test_prune(docker: Any) -> None:
    docker("create", "--name", "old", "busybox", "true")
    shown = docker("system", "prune", "-f").stdout
    assert "Deleted Containers" in shown
    assert docker("ps", "-aq").stdout == ""


def test_the_daemon_is_killed_and_nothing_is_lost(docker: Any, daemon: Any, minidock: Cli) -> None:
    docker("run", "-d", "--name", "web", "busybox", "sh", "-c", TICK)
    daemon.end(signal.SIGKILL)
    assert minidock("ps", "-q").stdout
    daemon.start()
    assert docker("ps", "--format", "{{.Names}}").stdout == "web\n"
    assert docker("exec", "web", "echo", "still").stdout == "still\n"
    minidock("stop", "-t", "0", "web")
    assert docker("inspect", "-f", "{{.State.Running}}", "web").stdout == "false\n"


def test_the_command_starts_what_docker_waits_for(docker: Any, daemon: Any, minidock: Cli) -> None:
    """Attached by the daemon, started by the command: whoever comes first has the shim spawned."""
    docker("create", "--name", "box", "busybox", "sh", "-c", "echo word; exit 6")
    with daemon.connect() as waiting:
        waiting.sendall(b"POST /containers/box/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
        minidock("start", "box")
        assert b'"StatusCode": 6' in waiting.recv(4096)
