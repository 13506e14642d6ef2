"""The leak check itself: what a careless test leaves is found, named, and cleared away."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import leaks
import pytest


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = leaks.make_base()
    yield made
    leaks.sweep(made)


@pytest.fixture(autouse=True)
def others_may_work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look at the whole machine while the other workers' tests run."""
    monkeypatch.delenv("MINIDOCK_LEAKS", raising=False)


def kinds(found: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in found}


def test_a_clean_run_is_clean(base: Path) -> None:
    before = leaks.snapshot()
    leaks.tear_down(leaks.new_root(base))
    assert leaks.compare(before, base) == []


def test_a_root_that_stays_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)
    before = leaks.snapshot()
    root = leaks.new_root(base)
    test = "tests/test_leaks.py::test_a_root_that_stays_is_named"
    assert leaks.compare(before, base) == [f"state root: {root} (of {test})"]


def test_mounts_cgroups_and_processes_are_found_and_swept(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)
    before = leaks.snapshot()
    root = leaks.new_root(base)
    (root / "merged").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "merged"], check=True)
    # A process that holds a file of the root open, and sits in a cgroup of the root.
    held = subprocess.Popen(["sleep", "1000"], stdout=(root / "log").open("w"))
    cgroup = _make_cgroup(leaks.cgroup_parent_of(root))
    (cgroup / "cgroup.procs").write_text(str(held.pid))
    found = leaks.compare(before, base)
    assert kinds(found) == {"mount", "cgroup", "process", "state root"}
    leaks.sweep(base)
    held.wait(10)
    assert not Path(f"/proc/{held.pid}").exists()
    assert not cgroup.exists()
    assert not base.exists()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_what_only_looks_like_ours_counts_when_nobody_else_works_here(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)
    before = leaks.snapshot()
    before["network interface"].append("lo")
    after = {kind: [*things] for kind, things in before.items()}
    after["network interface"].append("minidock0")
    monkeypatch.setattr(leaks, "snapshot", lambda: after)
    monkeypatch.delenv("MINIDOCK_LEAKS", raising=False)
    assert leaks.compare(before, base) == []
    monkeypatch.setenv("MINIDOCK_LEAKS", "strict")
    assert leaks.compare(before, base) == ["network interface: minidock0"]


def _make_cgroup(name: str) -> Path:
    hierarchies = [
        Path(line.split()[1])
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[2] == "cgroup2"
        or (line.split()[2] == "cgroup" and "pids" in line.split()[3].split(","))
    ]
    made = sorted(hierarchies, key=lambda top: "unified" in top.name)[0] / name
    made.mkdir()
    return made


def test_this_process_is_no_leak() -> None:
    assert not [line for line in leaks.snapshot()["process"] if line.startswith(f"{os.getpid()} ")]
