"""A full disk: every command says so in a line, nothing is half made, and with room again all is well."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torture
from torture import STORM, Storm, times
from worlds import libc, must, wait_for

SIZE = 32 << 20  # bytes of the disk


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(root, minidock, daemon_json, tmp_path, registry, writable_registry, figures) -> Iterator[Storm]:
    """A root on a small disk of its own, once `on_small_disk` has mounted it; STORM is in the registry."""
    storm = Storm(root, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    file = torture.archive(tmp_path / "storm.tar.gz", STORM, storm.chance)
    storm.cli("load", "-q", "-i", file)
    storm.cli("push", "-q", STORM)
    storm.cli("reset", "--yes")
    root.mkdir(exist_ok=True)
    yield storm
    storm.tell(figures)


@pytest.fixture
def on_small_disk(storm, in_child) -> Callable[[Callable[[], None]], None]:
    """Run a function where the root is a small tmpfs; nobody else sees that mount, and it ends with it."""

    def run(function: Callable[[], None]) -> None:
        def inside() -> Counter[str]:
            must(
                libc.mount(b"tmpfs", bytes(storm.root), b"tmpfs", 0, f"size={SIZE}".encode()), "mount(tmpfs)"
            )
            storm.cli("pull", "-q", "busybox")
            storm.acknowledge("busybox")
            function()
            storm.calm_down()
            return storm.counts

        storm.counts = in_child(inside, seconds=times(240, 1200))

    return run


@contextmanager
def full(storm: Storm, free: int = 0) -> Iterator[None]:
    """No more than *free* bytes are left on the disk while the block runs."""
    filler = storm.root / "filler"
    with open(filler, "wb", buffering=0) as file:
        step = 1 << 20
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), step)
                file.seek(step, os.SEEK_CUR)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                step //= 2
        os.ftruncate(file.fileno(), file.tell() - free)
    storm.counts["full disks"] += 1
    try:
        yield
    finally:
        filler.unlink()


def refused(storm: Storm, *words: str | Path, code: int = 1) -> None:
    """The command fails, and says why in one line (a second may say what to do)."""
    done = storm.cli(*words, check=False)
    assert done.returncode == code, (words, done)
    progress = ("Step ", " ---> ", "The image before this step")  # a build tells how far it came
    told = [line for line in done.stderr.splitlines() if not line.startswith(progress)]
    first, *rest = told or [""]
    assert "no space left" in first.lower(), done.stderr
    assert len(rest) <= 1, done.stderr
    assert "Error:" not in done.stderr and "Errno" not in done.stderr, done.stderr


def test_pull_and_load_on_a_full_disk(storm, on_small_disk, tmp_path):
    def act() -> None:
        for free in [0, 40_000, 3 << 20, *(storm.chance.randrange(3 << 20) for _ in range(times(1, 20)))]:
            with full(storm, free):
                refused(storm, "pull", "-q", STORM)
                storm.check("pull on a full disk")
                refused(storm, "load", "-q", "-i", tmp_path / "storm.tar.gz")
                storm.check("load on a full disk")
                assert "storm" not in storm.cli("images").stdout
        storm.cli("pull", "-q", STORM)
        storm.acknowledge(STORM)
        storm.check("pull when there was room again")
        assert not list((storm.root / "tmp").iterdir())
        with full(storm):  # to make room is what one wants to do then
            storm.acknowledged.pop(STORM)
            storm.cli("rmi", STORM)
            storm.check("rmi on a full disk")

    on_small_disk(act)


def test_containers_on_a_full_disk(storm, on_small_disk):
    def act() -> None:
        storm.cli("create", "--name", "made", "busybox", "true")
        with full(storm):
            refused(storm, "run", "busybox", "true", code=125)
            refused(storm, "run", "-d", "--rm", "busybox", "sleep", "1000", code=125)
            refused(storm, "start", "made")
            storm.check("run on a full disk")
            assert storm.cli("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout == "made created\n"
        assert storm.cli("start", "-a", "made").returncode == 0
        storm.cli("rm", "made")

    on_small_disk(act)


def test_builds_commits_and_volumes_on_a_full_disk(storm, on_small_disk, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "large").write_bytes(storm.chance.randbytes(3 << 20))
    (context / "Dockerfile").write_text("FROM busybox\nCOPY large /one\nRUN cat /one /one > /two\n")
    build = ("build", "-q", "-t", "built", context)

    def act() -> None:
        storm.cli("run", "--name", "box", "busybox", "sh", "-c", "head -c 2000000 /dev/urandom > /big")
        storm.cli("volume", "create", "precious")
        storm.cli("run", "--rm", "-v", "precious:/p", "busybox", "sh", "-c", "echo gold > /p/file")
        for free in [0, *(storm.chance.randrange(5 << 20) for _ in range(times(1, 20)))]:
            with full(storm, free):
                refused(storm, *build)
                storm.check("build on a full disk")
                assert "built" not in storm.cli("images").stdout
                storm.cli("builder", "prune", "-f")
        for free in [0, 1 << 20]:
            with full(storm, free):
                refused(storm, "commit", "box", "kept")
                storm.check("commit on a full disk")
                assert "kept" not in storm.cli("images").stdout
        with full(storm):
            refused(storm, "volume", "create", "late")
            code = storm.cli("run", "--rm", "-v", "filled:/bin", "busybox", "true", check=False).returncode
            assert code == 125
            storm.check("a volume on a full disk")
            assert storm.cli("volume", "ls", "-q").stdout == "precious\n"
        storm.cli(*build)
        storm.cli("commit", "box", "kept")
        done = storm.cli("run", "--rm", "-v", "precious:/p", "built", "sh", "-c", "cat /p/file; wc -c < /two")
        assert done.stdout == "gold\n6291456\n"
        storm.check("with room again")
        storm.cli("rm", "box")
        storm.cli("rmi", "built", "kept")
        storm.cli("builder", "prune", "-f")

    on_small_disk(act)


def test_a_container_that_fills_the_disk_with_its_log(storm, on_small_disk):
    def act() -> None:
        chatter = "trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo line $i; done"
        with full(storm, 400_000):
            storm.cli("run", "-d", "--name", "chatter", "busybox", "sh", "-c", chatter)
            identifier = storm.identifiers()[0]
            log = storm.root / "containers" / identifier / "log.json"
            wait_for(lambda: os.statvfs(storm.root).f_bavail * 4096 < 16_384, what="a full disk", seconds=30)
            assert storm.cli("exec", "chatter", "echo", "alive").stdout == "alive\n"
            storm.check("the log filled the disk")
            kept = [
                int(line.removeprefix("line ")) for line in storm.cli("logs", "chatter").stdout.splitlines()
            ]
            assert kept[:1000] == list(range(1, 1001))
            assert kept == sorted(kept)
        size = log.stat().st_size
        wait_for(lambda: log.stat().st_size > size + 10_000, what="the log to go on")
        with full(storm):
            storm.cli("stop", "chatter")
            shown = storm.cli(
                "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "chatter"
            ).stdout
            assert shown == "exited 7\n"
        logged = storm.cli("logs", "chatter")
        assert "minidock: the disk was full" in logged.stderr
        for line in log.read_bytes().splitlines():
            json.loads(line)
        with full(storm):
            storm.cli("rm", "chatter")
            storm.check("rm on a full disk")

    on_small_disk(act)
