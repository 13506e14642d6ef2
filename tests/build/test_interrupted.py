"""Builds that are stopped, killed, in each other's way, or out of disk: nothing is half made."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from worlds import PATIENCE, cli_command, libc, must, wait_for

SLEEPS = "FROM busybox\nRUN echo 1 > /one\nRUN echo started; sleep 1000\n"


@pytest.fixture
def begin(project, busybox, daemon_json, tmp_path):
    """Start a build and wait until its second RUN is at work; returns the process."""
    started = []

    def start(dockerfile: str = SLEEPS, *flags: str) -> subprocess.Popen[bytes]:
        project.write("Dockerfile", dockerfile)
        command = [
            *cli_command(),
            "--root",
            str(busybox),
            "build",
            "-t",
            "app",
            *flags,
            str(project.directory),
        ]
        environment = os.environ | {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        started.append(process)
        assert process.stdout
        said = b""
        while not said.endswith(b"\nstarted\n"):
            piece = os.read(process.stdout.fileno(), 4096)
            assert piece, said
            said += piece
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def running(root: Path) -> list[str]:
    """The containers that are there, whether or not anyone looks after them."""
    with suppress(FileNotFoundError):
        return [name for name in os.listdir(root / "containers") if not name.startswith(".")]
    return []


def nothing_left(root: Path) -> bool:
    return not running(root) and not list((root / "tmp").iterdir())


@pytest.mark.parametrize("stages", [1, 2])
def test_ctrl_c(project, busybox, minidock, begin, stages):
    """In one stage the main thread waits for the container, in several it waits for threads."""
    dockerfile = SLEEPS
    if stages == 2:
        dockerfile = SLEEPS.replace("FROM busybox", "FROM busybox AS a") + (
            "FROM busybox AS b\nRUN sleep 1000\nFROM busybox\nCOPY --from=a /one /\nCOPY --from=b /bin /\n"
        )
    process = begin(dockerfile)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30 * PATIENCE)[0].decode()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "minidock: the build was stopped; what was finished is in the cache"
    assert "Traceback" not in said
    assert nothing_left(busybox)
    assert minidock("images", "-q", "app").stdout == ""
    assert "Using cache" in project.build("FROM busybox\nRUN echo 1 > /one\n").stdout


def test_killed_in_mid_build(project, busybox, minidock, begin):
    process = begin()
    (container,) = running(busybox)
    process.kill()
    process.wait()
    wait_for(lambda: not running(busybox), what="the container to go with its builder")
    assert minidock("ps", "-aq").stdout == ""
    assert "killed" in minidock("doctor", check=False).stdout  # the directory of the transaction
    project.build("FROM busybox\nRUN echo 2 > /two\n")
    assert nothing_left(busybox)
    assert container not in str(minidock("doctor", check=False).stdout)


def test_builder_and_shim_killed(project, busybox, minidock, begin):
    """Nobody is left who could clean up: the next command does."""
    process = begin()
    (container,) = running(busybox)
    shim = _holder(busybox / "containers" / container / "shim.lock")
    os.kill(shim, signal.SIGKILL)
    process.kill()
    process.wait()
    assert minidock("ps", "-aq").stdout == ""
    project.build("FROM busybox\nRUN echo 2 > /two\n")
    assert nothing_left(busybox)


def _holder(lock: Path) -> int:
    """The pid that holds a flock(2): /proc/locks names inodes."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[5].endswith(f":{inode}"):
            return int(fields[4])
    raise AssertionError("nobody holds it")


def test_several_builds_at_once(project, busybox, minidock, tmp_path):
    """The same and other ones, on one root: each gets its image, and the layers that they share."""
    done: dict[int, subprocess.CompletedProcess[str]] = {}

    def build(number: int) -> None:
        text = f"FROM busybox\nRUN echo same > /same\nRUN echo {number % 3} > /own\nCMD cat /same /own\n"
        done[number] = minidock(
            "build", "-q", "-t", f"app:{number}", "-", input=text, check=False, timeout=120
        )

    threads = [threading.Thread(target=build, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in done.values()] == [0] * 6, done
    for number in done:
        assert minidock("run", "--rm", f"app:{number}").stdout == f"same\n{number % 3}\n"
    assert nothing_left(busybox)


def test_pruned_while_it_builds(project, busybox, minidock, begin):
    """What a build counts on stays, whatever is pruned at the same time."""
    dockerfile = (
        "FROM busybox\nRUN echo 1 > /one\nRUN echo started; cat < /dev/null; sleep 4\nRUN cat /one > /two\n"
    )
    process = begin(dockerfile)
    minidock("builder", "prune", "-f")
    minidock("system", "prune", "-f")
    minidock("rmi", "-f", "busybox")
    process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 0
    assert project.run("cat", "/two") == "1\n"


def test_a_full_disk(project, busybox, minidock, in_child, session_base):
    """One line, the disk's fault named; and afterwards, with room, all is well."""
    project.write("large", os.urandom(6 << 20))

    def inside() -> None:
        small = busybox / "small"
        small.mkdir()
        must(libc.mount(b"tmpfs", bytes(small), b"tmpfs", 0, b"size=12m"), "mount(tmpfs)")
        for name in ("images", "layers"):
            subprocess.run(["cp", "-a", busybox / name, small / name], check=True)
        command = [*cli_command(), "--root", str(small)]
        for dockerfile in (
            "FROM busybox\nCOPY large /large\n",
            "FROM busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=6 2> /dev/null\n",
            "FROM busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=16\n",
        ):
            project.write("Dockerfile", dockerfile)
            build = [*command, "build", "-t", "app", project.directory]
            done = subprocess.run(build, capture_output=True, text=True)
            assert done.returncode == 1, done
            assert "no space left" in done.stdout.lower() + done.stderr.lower(), done
            assert "Traceback" not in done.stderr
            assert len(done.stderr.splitlines()) <= 3, done
            assert nothing_left(small)
            assert subprocess.run([*command, "images", "-q", "app"], capture_output=True).stdout == b""
            listed = subprocess.run([*command, "run", "--rm", "busybox", "echo", "well"], capture_output=True)
            assert listed.stdout == b"well\n", listed

    in_child(inside, seconds=120)
