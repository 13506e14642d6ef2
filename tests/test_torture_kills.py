"""SIGKILL at random moments, of everything: what was promised stays, and nothing stays that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torture
from torture import STORM, Storm, children, times
from worlds import PATIENCE, REPOSITORY, wait_for


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(busybox, minidock, daemon_json, tmp_path, figures) -> Iterator[Storm]:
    storm = Storm(busybox, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    storm.acknowledge("busybox")
    yield storm
    storm.tell(figures)


# ── images ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def image(storm, writable_registry, tmp_path) -> Path:
    """An archive of the image STORM, which is also in the registry; not in the store."""
    file = torture.archive(tmp_path / "storm.tar.gz", STORM, storm.chance)
    storm.cli("load", "-i", file)
    storm.cli("push", "-q", STORM)
    storm.acknowledge(STORM)
    return file


def forget(storm: Storm) -> None:
    storm.acknowledged.pop(STORM, None)
    storm.cli("rmi", "-f", STORM, check=False)


def bring(storm: Storm, *words: str | Path) -> None:
    """The command that was killed now works, and its image is the same as ever."""
    storm.cli(*words)
    storm.acknowledge(STORM)
    storm.check_images(f"{words} after a kill")


def test_killed_at_work_on_images(storm, image, tmp_path):
    identifier = storm.acknowledged[STORM]
    saved = tmp_path / "saved.tar"
    for _ in range(times(3, 40)):
        forget(storm)
        storm.kill_command("pull", "-q", STORM)
        storm.check("pull")
        bring(storm, "pull", "-q", STORM)

        storm.kill_command("push", "-q", STORM)
        storm.check("push")
        storm.cli("push", "-q", STORM)

        storm.kill_command("save", "-o", saved, STORM)
        storm.check("save")
        assert not saved.exists() or saved.stat().st_size > 4 << 20, "half an archive under its final name"
        saved.unlink(missing_ok=True)

        storm.acknowledged.pop(STORM)
        storm.kill_command("rmi", STORM)
        storm.check("rmi")
        forget(storm)

        storm.kill_command("load", "-q", "-i", image)
        storm.check("load")
        bring(storm, "load", "-i", image)
        assert storm.acknowledged[STORM] == identifier
    storm.calm_down()


def test_killed_workers_of_a_pull(storm, image):
    for _ in range(times(4, 30)):
        forget(storm)
        process = storm.begin("pull", "-q", STORM)
        workers = wait_for(lambda: children(process.pid) or process.poll() is not None, what="a worker")  # noqa: B023
        if workers is not True:
            storm.strike("a pull's worker", storm.chance.choice(workers))
        if process.wait(60 * PATIENCE) != 0:
            assert "was killed by SIGKILL" in storm.complained()
            assert len(storm.complained().splitlines()) <= 2
        storm.check("the worker's end")
        bring(storm, "pull", "-q", STORM)
    storm.calm_down()


# ── builds ───────────────────────────────────────────────────────────────────────────────────────────

BUILD = """\
FROM busybox AS one
RUN head -c 2000000 /dev/urandom > /one
FROM busybox AS two
COPY . /two/
RUN rm /two/Dockerfile; mkdir /two/more
FROM busybox
COPY --from=one /one /
COPY --from=two /two /two
RUN cat /one /two/large > /three
"""


def test_killed_builds(storm, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(BUILD)
    (context / "large").write_bytes(os.urandom(3 << 20))
    build = ("build", "-q", "-t", "built", context)
    for _ in range(times(4, 40)):
        storm.kill_command(*build)
        storm.check("build")
        if storm.chance.random() < 0.5:
            storm.cli(*build)  # with whatever the killed one left in the cache
            script = "wc -c < /three; ls /two"
            assert storm.cli("run", "--rm", "built", "sh", "-c", script).stdout == "5145728\nlarge\nmore\n"
        storm.cli("builder", "prune", "-f")
    storm.cli("rmi", "-f", "built", check=False)
    storm.calm_down()


def test_killed_commits(storm):
    """Each name is there with the whole layer, or not at all; the container can be committed again."""
    script = "head -c 3000000 /dev/urandom > /big; rm -r /tmp; mkdir /made; sha256sum < /big"
    storm.cli("run", "--name", "box", "busybox", "sh", "-c", script)
    digest = storm.cli("logs", "box").stdout
    for number in range(times(3, 40)):
        name = f"kept:{number}"
        code = storm.kill_command("commit", "box", name)
        storm.check("commit")
        there = storm.cli("image", "inspect", name, check=False).returncode == 0
        assert there or code != 0, "commit said that it was done"
        if there or storm.chance.random() < 0.5:
            storm.cli("commit", "box", name)
            done = storm.cli(
                "run", "--rm", name, "sh", "-c", "sha256sum < /big; ls -d /made; ls /tmp", check=False
            )
            assert done.stdout == f"{digest}/made\n", done
        storm.cli("rmi", "-f", name, check=False)
    storm.calm_down()


# ── containers ───────────────────────────────────────────────────────────────────────────────────────


def test_killed_commands_around_containers(storm):
    storm.cli("run", "-d", "--name", "service", "busybox", "sleep", "1000")
    for number in range(times(3, 25)):
        name = f"c{number}"
        storm.kill_command("run", "--name", name, "busybox", "sh", "-c", "echo one; echo two")
        storm.check("run")
        if storm.cli("inspect", name, check=False).returncode == 0:
            wait_for(lambda: storm.cli("wait", name, check=False), what="its end")  # noqa: B023
            storm.kill_command("rm", name)
            storm.check("rm")
        storm.cli("rm", "-f", name, check=False)

        code = storm.kill_command("run", "-d", "--name", f"d{number}", "busybox", "sleep", "1000")
        storm.check("run -d")
        if code == 0:
            assert storm.cli("inspect", "--format", "{{.State.Status}}", f"d{number}").stdout == "running\n"
        storm.kill_command("rm", "-f", f"d{number}")
        storm.check("rm -f")
        storm.cli("rm", "-f", f"d{number}", check=False)

        storm.kill_command("run", "--rm", "busybox", "true")
        storm.check("run --rm")

        storm.kill_command("exec", "service", "true")
        storm.check("exec")
        assert storm.cli("exec", "service", "echo", "still here").stdout == "still here\n"
    storm.calm_down()


def test_killed_shims_while_they_give_birth(storm):
    for number in range(times(6, 50)):
        rest = ["--rm"] if number % 3 == 2 else []
        process = storm.begin("run", "-d", *rest, "--name", f"s{number}", "busybox", "sleep", "1000")
        known = set(storm.identifiers())

        def newborn(known: set[str] = known) -> int | None:
            return next((pid for each in storm.identifiers() if (pid := storm.shim(each))), None)

        shim = wait_for(lambda: newborn() or process.poll() is not None, what="a shim")  # noqa: B023
        if shim is not True:
            wait_a_little = storm.chance.uniform(0, 0.06)
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run(["sleep", "1000"], timeout=wait_a_little)
            storm.strike("a shim, at its container's birth", shim)
        process.wait(60 * PATIENCE)
        assert len(storm.complained().splitlines()) <= 2, storm.complained()
        storm.check("the shim's end")
        if not rest:
            storm.cli("start", f"s{number}")
            storm.check("start after the shim's end")
        storm.cli("rm", "-f", f"s{number}", check=False)
    storm.calm_down()


def test_killed_shims_and_inits_at_work(storm):
    counting = "i=0; while :; do i=$((i+1)); echo line $i; done"
    for number in range(times(4, 40)):
        name, victim = f"w{number}", ("shim", "init")[number % 2]
        process = storm.begin("run", "--name", name, "busybox", "sh", "-c", counting)
        enough = storm.chance.randrange(1, 200_000)
        wait_for(lambda: len(storm.said()) > enough or process.poll() is not None, what="output")  # noqa: B023
        identifier = storm.cli("inspect", "--format", "{{.Id}}", name).stdout.strip()
        pid = storm.shim(identifier) if victim == "shim" else storm.init(identifier)
        assert storm.strike(f"a container's {victim}, at work", pid)
        assert process.wait(60 * PATIENCE) == 137
        storm.check(f"the {victim}'s end")
        assert (
            storm.cli("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name).stdout
            == "exited 137\n"
        )
        shown = storm.said().rpartition("\n")[0].splitlines()
        logged = storm.cli("logs", name).stdout.splitlines()
        assert logged[: len(shown)] == shown, f"{len(shown)} lines were shown, {len(logged)} are logged"
        storm.cli("rm", name)
    storm.calm_down()


# ── a Python program with threads, and its spawner ───────────────────────────────────────────────────

CALLER = """
import sys, threading
from minidock.engine import Engine
from minidock.errors import MinidockError

def serve(engine, count):
    for _ in range(count):
        try:
            result = engine.run("busybox", ["echo", "hi"], rm=True)
            tell("ran" if (result.output, result.exit_code) == ("hi\\n", 0) else result)
        except MinidockError as error:
            tell("error", error)

def tell(*words):  # print would write the end of the line apart, and another thread's words before it
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

engine = Engine(sys.argv[1])
threads = [threading.Thread(target=serve, args=(engine, int(sys.argv[2]))) for _ in range(3)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_killed_spawners(storm):
    count = times(6, 60)
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, storm.root, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | storm.environment,
        start_new_session=True,
    )
    assert caller.stdout is not None
    answers = []
    for line in caller.stdout:
        answers.append(line.strip())
        if len(answers) % 4 == 2:  # in the middle of the others' starts
            spawner = children(caller.pid)[:1]
            storm.strike("the spawner", *spawner or (None,))
    assert caller.wait(60 * PATIENCE) == 0
    assert answers == ["ran"] * (3 * count)
    storm.check("the spawner's end")
    assert storm.cli("ps", "-aq").stdout == ""
    storm.calm_down()


MORTAL = """
import os, sys
from minidock.containers import spawner, waiting
from minidock.engine import Engine

spawner._PROGRAM = spawner._PROGRAM.replace("spawner.serve", sys.argv[2] + "spawner.serve")
waiting._may_fork = lambda: False
engine = Engine(sys.argv[1])
engine.start(engine.create("busybox", ["echo", "once"], name="single").id)
"""
# What the spawner is, or what waits at its door, when it is killed: put into the spawner's program.
DEATHS = {
    "the spawner of a shim that has begun": """
def deserted(door, asked=[]):
    asked.append(door)
    return spawner.os._exit(9) if len(asked) == 2 else False
spawner._deserted = deserted
""",
    "a shim that has heard of its container and not begun": """
waiting = spawner.waiting


def receive(door, receive=waiting._receive):
    request = receive(door)
    with waiting.os.fdopen(waiting.os.open(request[0].root / "died", 0o102)) as mark:
        return request if mark.read() else waiting.os._exit(9 * waiting.os.write(mark.fileno(), b"!"))
waiting._receive = receive
""",
}


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_one_start_whoever_is_killed_in_between(storm, death):
    command = [sys.executable, "-c", MORTAL, storm.root, death]
    subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | storm.environment, check=True, timeout=60 * PATIENCE
    )
    storm.cli("wait", "single")
    wait_for(lambda: storm.shim(storm.identifiers()[0]) is None, what="the end of every shim")
    assert storm.cli("logs", "single").stdout == "once\n"
    (Path(storm.root) / "died").unlink(missing_ok=True)
    storm.calm_down()
