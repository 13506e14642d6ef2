"""Damaged files: one clear line names the file and says what to do, and everything else goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torture
from torture import STORM, Storm, times


@pytest.fixture(scope="module")
def figures(request) -> Iterator[dict[str, str]]:
    yield from torture.tell_figures(request)


@pytest.fixture
def storm(busybox, minidock, daemon_json, tmp_path, figures) -> Iterator[Storm]:
    storm = Storm(busybox, minidock, {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)}, tmp_path)
    storm.acknowledge("busybox")
    yield storm
    storm.tell(figures)


def damages(storm: Storm, path: Path) -> Iterator[str]:
    """Damage *path* in one way after the other; mended again at the end."""
    whole = path.read_bytes()
    cut = storm.chance.randrange(1, len(whole) - 2)
    ways = {
        "empty": b"",
        f"cut at {cut}": whole[:cut],
        "noise": storm.chance.randbytes(len(whole)),
        "zeros": bytes(len(whole)),
        "another value": b"[1, 2]",
        "another shape": b'{"status": 5, "name": {}, "layers": 7, "manifests": {}, "created": null}',
    }
    for way in storm.chance.sample(sorted(ways), times(2, len(ways))):
        path.write_bytes(ways[way])
        storm.counts["damaged files"] += 1
        yield way
    path.write_bytes(whole)


def complaint(storm: Storm, about: Path, *words: str | Path) -> None:
    """The command fails with a line that names the file, and at most one that says what to do."""
    done = storm.cli(*words, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode not in (0, 141), (words, done)
    assert str(about) in lines[0] and 1 <= len(lines) <= 2, done.stderr
    assert "bug" not in done.stderr, done.stderr


def test_the_files_of_a_container(storm):
    storm.cli("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    storm.cli("run", "-d", "--name", "alive", "busybox", "sleep", "1000")
    storm.cli("run", "--name", "hurt", "busybox", "sh", "-c", "exit 3", check=False)
    directories = {each: storm.root / "containers" / identifier_of(storm, each) for each in ("alive", "hurt")}

    for _ in damages(storm, directories["hurt"] / "config.json"):
        complaint(storm, directories["hurt"] / "config.json", "start", "hurt")
        complaint(storm, directories["hurt"] / "config.json", "inspect", "hurt")
        shown = storm.cli("ps", "-a", "--format", "{{.Names}}")
        assert set(shown.stdout.split()) == {"other", "alive"}
        assert str(directories["hurt"] / "config.json") in shown.stderr
        assert any("config.json" in line for line in storm.left())
    for _ in damages(storm, directories["hurt"] / "state.json"):
        assert "hurt exited" in states(storm)
    for _ in damages(storm, directories["alive"] / "state.json"):
        assert "alive running" in states(storm)
        assert storm.cli("exec", "alive", "echo", "hi").stdout == "hi\n"
    assert storm.cli("start", "-a", "hurt", check=False).returncode == 3

    for name in directories:
        (directories[name] / "config.json").write_bytes(b"{")
        storm.cli("rm", "-f", name)
        assert name not in os.listdir(storm.root / "names")
    storm.cli("run", "--name", "hurt", "busybox", "true")  # its name is free
    storm.check("damaged containers")
    assert storm.cli("exec", "other", "echo", "hi").stdout == "hi\n"
    storm.calm_down()


def identifier_of(storm: Storm, name: str) -> str:
    return str(storm.cli("inspect", "--format", "{{.Id}}", name).stdout.strip())


def states(storm: Storm) -> list[str]:
    return list(storm.cli("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.splitlines())


def test_reset_amid_damage(storm):
    storm.cli("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    storm.cli("run", "-d", "--name", "two", "busybox", "sleep", "1000")
    for name, file in (("one", "config.json"), ("two", "state.json")):
        (storm.root / "containers" / identifier_of(storm, name) / file).write_bytes(b"\0")
    (storm.root / "images/index.json").write_bytes(b"{")
    assert storm.left()
    storm.cli("reset", "--yes")
    storm.check_gone()


def test_the_list_of_images(storm):
    storm.cli("run", "-d", "--name", "alive", "busybox", "sleep", "1000")
    index = storm.root / "images/index.json"
    for _ in damages(storm, index):
        complaint(storm, index, "images")
        complaint(storm, index, "run", "busybox", "true")
        assert states(storm) == ["alive running"]
        assert storm.cli("exec", "alive", "echo", "hi").stdout == "hi\n"
        storm.cli("restart", "-t", "0", "alive")
    storm.check("a damaged index")
    storm.calm_down()


def test_damaged_blobs_and_lost_layers(storm, writable_registry, tmp_path):
    storm.cli("load", "-q", "-i", torture.archive(tmp_path / "storm.tar.gz", STORM, storm.chance))
    storm.cli("push", "-q", STORM)
    storm.acknowledge(STORM)
    blobs = storm.root / "images/blobs/sha256"
    entries = json.loads((storm.root / "images/index.json").read_text())["manifests"]
    digest = next(each["digest"] for each in entries if STORM in each["annotations"].values())
    manifest = json.loads((blobs / digest[7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    layer, diff_id = manifest["layers"][1]["digest"][7:], config["rootfs"]["diff_ids"][1][7:]
    for _ in range(times(1, 10)):
        for victim in (digest[7:], manifest["config"]["digest"][7:], layer):
            file = blobs / victim
            data = bytearray(file.read_bytes())
            data[storm.chance.randrange(len(data))] ^= 1 << storm.chance.randrange(8)
            file.write_bytes(data)
            storm.counts["damaged files"] += 1
            if victim == layer:
                shutil.rmtree(storm.root / "layers" / diff_id)
                complaint(storm, file, "run", STORM)
            else:
                complaint(storm, file, "image", "inspect", STORM)
                shown = storm.cli("images", "--format", "{{.Repository}}")
                assert shown.stdout == "busybox\n" and str(file) in shown.stderr
            assert storm.cli("run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
            file.unlink()  # as the hint says
            storm.cli("pull", "-q", STORM)
            storm.check("a pull over a damaged blob")
        shutil.rmtree(storm.root / "layers" / diff_id)  # with its blob there, it is unpacked again
        assert storm.cli("run", STORM, check=False).returncode == 127
        assert (storm.root / "layers" / diff_id).is_dir()
    storm.calm_down()


def test_a_container_whose_layer_is_lost(storm):
    storm.cli("create", "--name", "made", "busybox", "echo", "hi")
    layer = next(each for each in (storm.root / "layers").iterdir() if each.is_dir())
    shutil.rmtree(layer)
    done = storm.cli("start", "-a", "made", check=False)
    if done.returncode:  # it need not mend itself, but it must say how
        assert layer.name[:12] in done.stderr and "minidock pull busybox" in done.stderr
        assert len(done.stderr.splitlines()) == 2
    assert storm.cli("run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
    assert storm.cli("start", "-a", "made").stdout == "hi\n"
    storm.calm_down()
