"""The connection to the registry is cut, the registry itself is killed: an image is whole, or not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torture
from proxy import Proxy
from torture import STORM, Storm, times
from worlds import PATIENCE, start_registry, stop_process


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(busybox, minidock, daemon_json, tmp_path, figures) -> Iterator[Storm]:
    storm = Storm(busybox, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    storm.acknowledge("busybox")
    yield storm
    storm.tell(figures)


class Registry:
    """A docker-registry on port 5001 that can be killed and started again on the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.data = directory, directory / "registry-data"
        self.data.mkdir()
        self.start()

    def start(self) -> None:
        self.process = start_registry(self.directory, self.data, read_only=False, port=5001)


@pytest.fixture
def server(storm, tmp_path) -> Iterator[Registry]:
    """The registry, with STORM in it; in the store, STORM is known as acknowledged."""
    server = Registry(tmp_path)
    storm.cli("load", "-q", "-i", torture.archive(tmp_path / "storm.tar.gz", STORM, storm.chance))
    storm.cli("push", "-q", STORM)
    storm.acknowledge(STORM)
    yield server
    stop_process(server.process)


def told_in_a_line(storm: Storm, code: int, words: tuple[str, ...]) -> None:
    """The command worked, or it failed with a line about the network and at most one of advice."""
    lines = storm.complained().splitlines()
    assert code in (0, 1) and len(lines) <= 2, (words, code, lines)
    assert (code == 0) or (lines and "bug" not in lines[0]), (words, lines)


def test_cut_connections(storm, server):
    """A pull goes on where it was cut, or fails; the next one has the image whole."""
    with Proxy("127.0.0.1:5001") as proxy:
        name = f"{proxy.host}/storm:latest"
        for number in range(times(2, 30)):
            once = bool(number % 2)
            proxy.fault(
                storm.chance.choice(["/blobs/", "/manifests/", "/"]),
                cut_after=storm.chance.choice([0, 1, storm.chance.randrange(1 << 20)]),
                times=1 if once else None,
            )
            process = storm.begin("pull", "-q", name)
            code = process.wait(60 * PATIENCE)
            told_in_a_line(storm, code, ("pull", name))
            storm.counts["cut connections"] += 1
            storm.counts["cut connections, then the command gave up"] += code != 0
            storm.check("a cut pull")
            proxy.faults.clear()
            storm.cli("pull", "-q", name)
            storm.acknowledge(name)
            assert storm.acknowledged[name] == storm.acknowledged[STORM]
            storm.check("the pull after it")
            storm.acknowledged.pop(name)
            if storm.chance.random() < 0.7:
                storm.cli("rmi", name, STORM)  # the next pull begins from nothing
                storm.cli("pull", "-q", STORM)
            else:
                storm.cli("rmi", name)
        storm.cli("image", "prune", "-f")
    storm.calm_down()


def test_a_registry_killed_at_work(storm, server):
    """Pull and push end with a line; with the registry back, both work and the image is the same."""
    identifier = storm.acknowledged[STORM]
    for words in (("pull", "-q", STORM), ("push", "-q", STORM)):
        for _ in range(times(1, 20)):
            if words[0] == "pull":
                storm.acknowledged.pop(STORM)
                storm.cli("rmi", STORM)
            else:
                stop_process(server.process)
                for each in (server.data / "docker/registry/v2/blobs").rglob("data"):
                    each.unlink()  # it has lost all: everything is pushed once more
                server.start()
            begin = time.monotonic()
            process = storm.begin(*words)
            time.sleep(storm.chance.uniform(0.05, storm.lasts.setdefault(words[0], 0.5)))  # the random moment
            storm.strike("the registry", server.process.pid)
            server.process.wait()
            code = process.wait(60 * PATIENCE)
            told_in_a_line(storm, code, words)
            if code == 0:
                storm.lasts[words[0]] = max(0.1, time.monotonic() - begin)
            server.start()
            storm.check(f"a {words[0]} whose registry was killed")
            storm.cli(*words)
            storm.acknowledge(STORM)
            assert storm.acknowledged[STORM] == identifier
    storm.cli("rmi", STORM)
    storm.acknowledged.pop(STORM)
    storm.cli("pull", "-q", STORM)  # what was pushed last is whole
    storm.acknowledge(STORM)
    assert storm.acknowledged[STORM] == identifier
    storm.calm_down()
