"""Many at once on the same names, tags and images: one wins, the others are told, nothing is mixed up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
import torture
from torture import STORM, Storm, times
from worlds import PATIENCE, REPOSITORY, cli_command, wait_for

MANY = 20


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(busybox, minidock, daemon_json, tmp_path, figures) -> Iterator[Storm]:
    storm = Storm(busybox, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    storm.acknowledge("busybox")
    yield storm
    storm.tell(figures)


def at_once(storm: Storm, *commands: Sequence[str]) -> list[tuple[int, str, str]]:
    """Run real commands all at the same time: exit code, output, complaints of each."""
    processes = [
        subprocess.Popen(
            [*cli_command(), "--root", str(storm.root), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | storm.environment,
        )
        for command in commands
    ]
    storm.counts[f"commands in races of up to {MANY}"] += len(processes)
    told = [process.communicate(timeout=240 * PATIENCE) for process in processes]
    for _, err in told:
        assert len(err.splitlines()) <= 2 and "bug" not in err, err
    return [(process.returncode, *each) for process, each in zip(processes, told, strict=True)]


def test_one_name_for_many_containers(storm):
    for _ in range(times(1, 10)):
        done = at_once(storm, *[["create", "--name", "web", "busybox", "sleep", "1000"]] * MANY)
        assert sorted(code for code, _, _ in done) == [0] + [1] * (MANY - 1)
        assert all("already in use" in err for code, _, err in done if code)
        assert len(storm.identifiers()) == 1

        done = at_once(storm, *[["start", "web"]] * MANY)
        assert [code for code, _, _ in done] == [0] * MANY  # it runs, as all of them wished
        assert len(storm.processes()[storm.identifiers()[0]]) == 1
        storm.check("starting it many times")

        done = at_once(storm, *[["rm", "-f", "web"]] * MANY)
        assert all(code == 0 or "No such container" in err for code, _, err in done), done
        assert 0 in [code for code, _, _ in done]
        storm.check("removing it many times")
        assert storm.identifiers() == []

        done = at_once(storm, *[["run", "--rm", "--name", "web", "busybox", "echo", "hi"]] * MANY)
        assert all((code, out) == (0, "hi\n") or "already in use" in err for code, out, err in done), done
        storm.check("run --rm many times")
        assert os.listdir(storm.root / "names") == []
    storm.calm_down()


def test_one_tag_for_many_images(storm):
    storm.cli("tag", "busybox", "here:0")
    for _ in range(times(1, 10)):
        done = at_once(
            storm,
            *[["tag", "busybox", f"mine:{number}"] for number in range(MANY // 2)],
            *[["tag", "busybox", "here:1"], ["rmi", "here:1"]] * (MANY // 4),
        )
        assert all(code == 0 or "No such image" in err for code, _, err in done), done
        storm.check("tagging and untagging")
        tags = storm.cli("images", "--format", "{{.Tag}}", "mine").stdout.split()
        assert sorted(tags) == sorted(str(number) for number in range(MANY // 2))
        storm.cli("rmi", *[f"mine:{number}" for number in range(MANY // 2)])
    storm.calm_down()


def test_one_image_pulled_by_many_while_others_prune(storm, writable_registry, tmp_path):
    storm.cli("load", "-q", "-i", torture.archive(tmp_path / "storm.tar.gz", STORM, storm.chance))
    storm.cli("push", "-q", STORM)
    for _ in range(times(1, 10)):
        storm.cli("rmi", STORM)
        pulls = [["pull", "-q", STORM]] * (times(6, MANY))
        prunes = [["image", "prune", "-f"], ["system", "prune", "-f"]] * times(2, 5)
        done = at_once(storm, *(pair for both in zip(pulls, prunes * 9, strict=False) for pair in both))
        assert all(code == 0 for code, _, _ in done), done
        storm.acknowledge(STORM)
        storm.check("pulling and pruning")
        assert not list((storm.root / "tmp").iterdir())
    storm.calm_down()


def test_the_first_images_of_a_root(storm, tmp_path):
    """Many find no index yet: nobody's empty one may replace another's first image."""
    archives = [
        torture.archive(tmp_path / f"{number}.tar.gz", f"first:{number}", storm.chance, layers=1, size=4000)
        for number in range(8)
    ]
    for _ in range(times(1, 15)):
        storm.cli("reset", "--yes")
        done = at_once(storm, *[["load", "-q", "-i", str(file)] for file in archives], *[["images"]] * 8)
        assert all(code == 0 for code, _, _ in done), done
        tags = storm.cli("images", "--format", "{{.Tag}}", "first").stdout.split()
        assert sorted(tags) == sorted(map(str, range(8)))
    storm.acknowledged.clear()
    storm.check_images("the first images")


def test_many_containers_at_once(storm):
    many = times(30, 200)
    for begin in range(0, many, MANY):
        names = [f"n{number}" for number in range(begin, min(begin + MANY, many))]
        done = at_once(storm, *[["run", "-d", "--name", name, "busybox", "sleep", "1000"] for name in names])
        assert all(code == 0 for code, _, _ in done), done
    storm.check("many starts")
    assert len(storm.cli("ps", "-q").stdout.split()) == many
    storm.cli("kill", *[f"n{number}" for number in range(0, many, 2)])
    storm.check("half of them killed")
    assert len(storm.cli("ps", "-q").stdout.split()) == many // 2
    storm.cli("rm", "-f", *[f"n{number}" for number in range(many)], timeout=300)
    storm.check("the end of many")
    storm.counts["containers at once"] = many
    storm.calm_down()


WORKER = """
import itertools, sys
from minidock.engine import Engine

engine, name = Engine(sys.argv[1]), sys.argv[2]
script = "trap 'exit 5' TERM; echo up; while :; do sleep 1000 & wait; done"
engine.create("busybox", ["sh", "-c", script], name=name)
for cycle in range(int(sys.argv[3])):
    engine.start(name)
    lines = itertools.islice(engine.logs(name, follow=True), cycle, None)
    assert next(lines)[1] == b"up\\n"  # now the trap is set
    engine.stop(name, timeout=60)
    assert engine.inspect(name)["State"]["ExitCode"] == 5, engine.inspect(name)
"""


def test_start_and_stop_again_and_again(storm):
    workers, cycles = 4, times(25, 250)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, storm.root, f"w{number}", str(cycles)],
            cwd=REPOSITORY,
            env=os.environ | storm.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(workers)
    ]
    for process in processes:
        _, err = process.communicate(timeout=600 * PATIENCE)
        assert process.returncode == 0, err
    storm.check("many starts and stops")
    storm.counts["start and stop, cycles"] = workers * cycles
    storm.calm_down()


def test_many_look_at_a_container_whose_shim_was_killed(storm):
    for _ in range(times(3, 30)):
        storm.cli("run", "-d", "--name", "gone", "busybox", "sleep", "1000")
        shim = storm.shim(storm.identifiers()[0])
        assert shim is not None
        os.kill(shim, 9)
        wait_for(lambda: storm.shim(storm.identifiers()[0]) is None, what="the end of the shim")
        done = at_once(storm, *[["ps", "-a", "--format", "{{.Names}} {{.State}}"]] * (MANY // 2))
        assert {out for _, out, _ in done} == {"gone exited\n"}
        storm.cli("rm", "gone")
    storm.calm_down()
