"""Every lab is proved both ways: what is wrong fails, what is right passes, each mistake by its own check."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from worlds import PATIENCE

from minidock import layers
from minidock.engine import Engine
from minidock.errors import Conflict, InvalidInput, NotFound
from minidock.lab import commands, workshop
from minidock.lab.workshop import Lab, Workshop

LABS = workshop.labs()
Results = list[dict[str, Any]]


@dataclass(frozen=True)
class Mutant:
    """The solution with one mistake in it, and the check that must find it."""

    lab: Lab
    name: str
    caught_by: str
    changes: tuple[tuple[str, str], ...]

    def source(self) -> str:
        text = (self.lab.directory / "solution.py").read_text()
        for find, replace in self.changes:
            assert text.count(find) == 1, (
                f"{self.name}: {find!r} stands {text.count(find)} times in the solution"
            )
            text = text.replace(find, replace)
        return text


def mutants() -> list[Mutant]:
    found = []
    for lab in LABS:
        for each in tomllib.loads((lab.directory / "mutants.toml").read_text())["mutant"]:
            pairs = [each, *([each["also"]] if "also" in each else [])]
            changes = tuple((pair["find"], pair["replace"]) for pair in pairs)
            found.append(Mutant(lab, each["name"], each["caught_by"], changes))
    return found


@pytest.fixture
def check(busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab, str], Results]:
    """Run a lab's checks on a source text, as `minidock lab check` does, on a machine that may be busy."""
    monkeypatch.setenv("MINIDOCK_PATIENCE", str(max(6.0, PATIENCE)))

    def run(lab: Lab, source: str) -> Results:
        directory = tmp_path / "mydock"
        directory.mkdir()
        (directory / f"{lab.file}.py").write_text(source)
        return commands.run_checks(lab, directory, Engine(busybox))

    return run


def by_number(lab: Lab) -> str:
    return lab.number


def outcomes(results: Results, outcome: str) -> list[str]:
    return [result["name"] for result in results if result["outcome"] == outcome]


@pytest.mark.parametrize("lab", LABS, ids=by_number)
def test_the_solution_passes_every_check(lab: Lab, check: Callable[[Lab, str], Results]) -> None:
    results = check(lab, (lab.directory / "solution.py").read_text())
    assert {result["outcome"] for result in results} == {"passed"}, [
        r for r in results if r["outcome"] != "passed"
    ]
    assert {result["task"] for result in results} == {task.number for task in lab.tasks}


@pytest.mark.parametrize("lab", LABS, ids=by_number)
@pytest.mark.parametrize("kind", ["skeleton", "empty file", "re-export", "syntax error"])
def test_what_is_no_answer_passes_no_check(lab: Lab, kind: str, check: Callable[[Lab, str], Results]) -> None:
    source = {
        "skeleton": (lab.directory / "skeleton.py").read_text(),
        "empty file": "",
        "re-export": f"from {layers.SEAMS[lab.file]} import *\n",
        "syntax error": "def (\n",
    }[kind]
    assert outcomes(check(lab, source), "passed") == []


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: f"{mutant.lab.number}: {mutant.name}")
def test_a_mistake_is_caught_by_its_own_check_and_by_no_other(
    mutant: Mutant, check: Callable[[Lab, str], Results]
) -> None:
    results = check(mutant.lab, mutant.source())
    assert outcomes(results, "failed") == [mutant.caught_by]
    (caught,) = [result for result in results if result["name"] == mutant.caught_by]
    assert all(caught[key] for key in ("call", "result", "expected", "next_step")), caught


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: f"{mutant.lab.number}: {mutant.name}")
def test_a_mistake_is_small(mutant: Mutant) -> None:
    solution = (mutant.lab.directory / "solution.py").read_text().splitlines()
    changed = [
        line
        for line in difflib.unified_diff(solution, mutant.source().splitlines(), lineterm="", n=0)
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert 1 <= len(changed) <= 5, changed


@pytest.mark.parametrize("lab", LABS, ids=by_number)
def test_there_are_enough_mistakes_hints_and_points(lab: Lab) -> None:
    assert sum(mutant.lab == lab for mutant in mutants()) >= 4
    assert all(len(task.hints) == 3 for task in lab.tasks)
    assert lab.points == 100
    assert 3 <= len(lab.tasks) <= 6
    assert 45 <= sum(task.minutes for task in lab.tasks) <= 90


@pytest.mark.parametrize("lab", LABS, ids=by_number)
def test_the_skeleton_has_the_engine_s_signatures(lab: Lab) -> None:
    library = importlib.import_module(layers.SEAMS[lab.file])
    for file in ("skeleton.py", "solution.py"):
        module = _load(lab.directory / file)
        for task in lab.tasks:
            for name in task.functions:
                assert _shape(getattr(module, name)) == _shape(getattr(library, name)), f"{file}: {name}"


def _shape(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    return [(each.name, each.kind) for each in inspect.signature(function).parameters.values()]


def _load(file: Path) -> ModuleType:
    module = ModuleType(file.stem)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    return module


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def isolate_mounts(propagation=None):\n    while True: pass\n", "still running"),
        ("import sys\ndef isolate_mounts(propagation=None):\n    sys.exit(3)\n", r"sys.exit\(\)"),
        (
            "import os\ndef isolate_mounts(propagation=None):\n    os.kill(-1, 9)\n",
            "No such process",
        ),
        (
            "import os\ndef isolate_mounts(propagation=None):\n    while True: os.fork()\n",
            "Errno 11|still running",
        ),
        ("def isolate_mounts(propagation=None):\n    return 1 / 0\n", "rootfs.py, line 2"),
        (
            "def isolate_mounts(propagation=None):\n    x = []\n    while True: x.append(b'x' * (1 << 25))\n",
            "more memory than a check may",
        ),
        (
            "import os\ndef isolate_mounts(propagation=None):\n"
            "    with open(os.environ['TMPDIR'] + '/big', 'wb') as file:\n"
            "        while True: file.write(bytes(1 << 22))\n",
            "No space left",
        ),
        (
            "from minidock.kernel import syscalls\ndef isolate_mounts(propagation=None):\n"
            "    syscalls.umount('/proc', syscalls.MNT_DETACH)\n",
            "shows up outside",
        ),
        (
            "import os\ndef isolate_mounts(propagation=None):\n"
            "    os.closerange(3, 999)\n"
            "    while True: pass\n",
            "still running",
        ),
        ("import os\ndef isolate_mounts(propagation=None):\n    os._exit(3)\n", "exit code 3"),
    ],
    ids=[
        "endless loop",
        "sys.exit",
        "kill -1",
        "fork bomb",
        "an error names its line",
        "memory hog",
        "full disk",
        "/proc unmounted",
        "endless and silent",
        "a hard exit",
    ],
)
def test_dangerous_code_hurts_nobody(
    source: str, said: str, check: Callable[[Lab, str], Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    if said == "still running":  # here patience only costs time
        monkeypatch.setenv("MINIDOCK_PATIENCE", str(PATIENCE))
    results = check(workshop.find("01"), source)
    first = results[0]
    assert first["outcome"] == "failed" and re.search(said, first["result"]), first
    assert len(results) == 17, "the checks after it still ran"
    waiting = next(result for result in results if result["name"] == "test_mounts_below_stay_inside_too")
    assert waiting["outcome"] == "blocked" and waiting["result"] == f"blocked by {first['name']}"


def test_the_student_s_code_cannot_write_to_the_machine(
    check: Callable[[Lab, str], Results], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    source = f"import os\ndef isolate_mounts(propagation=None):\n    os.unlink({str(precious)!r})\n"
    results = check(workshop.find("01"), source)
    assert precious.read_text() == "mine"
    assert "Read-only file system" in results[0]["result"]


# --- the workshop --------------------------------------------------------------------------------


def test_start_gives_a_skeleton_and_never_overwrites_work(tmp_path: Path) -> None:
    lab, shop = LABS[0], Workshop.open(tmp_path / "mydock")
    target = shop.start(lab)
    assert target.read_text() == (lab.directory / "skeleton.py").read_text()
    target.write_text("my work")
    with pytest.raises(Conflict):
        shop.start(lab)
    assert target.read_text() == "my work"
    kept = shop.reset(lab)
    assert kept and kept.read_text() == "my work"
    assert target.read_text() == (lab.directory / "skeleton.py").read_text()


def test_hints_grow_stronger_and_are_remembered(tmp_path: Path) -> None:
    lab = LABS[0]
    heard = [Workshop.open(tmp_path).hint(lab, 1, None) for _ in range(4)]
    assert [strength for strength, _ in heard] == [1, 2, 3, 3]
    with pytest.raises(NotFound):
        Workshop.open(tmp_path).hint(lab, 9, None)
    with pytest.raises(InvalidInput):
        Workshop.open(tmp_path).hint(lab, 1, 4)


def test_under_sudo_the_files_belong_to_the_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "1235")
    target = Workshop.open(tmp_path / "mydock").start(LABS[0])
    for path in (target, target.parent, target.parent / "progress.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235), path


def test_the_command_shows_checks_and_keeps_the_progress(
    minidock: Callable[..., Any], busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = tmp_path / "ada" / "mydock"
    monkeypatch.setenv("MINIDOCK_LAYERS", str(workplace))
    assert "not started" in minidock("lab", "list").stdout
    assert str(workplace) in minidock("lab", "start", "01").stdout
    failed = minidock("lab", "check", "01", check=False)
    assert failed.returncode == 1 and "not written yet" in failed.stdout and "0 of 17" in failed.stdout
    solution = (LABS[0].directory / "solution.py").read_text()
    (workplace / "rootfs.py").write_text(solution)
    assert "17 of 17 checks pass" in minidock("lab", "check", "01").stdout
    assert "100/100" in minidock("lab", "list").stdout
    board = minidock("lab", "board", str(workplace)).stdout
    assert "ada" in board and "100/100" in board and "done" in board
    assert not os.path.exists(workplace / "report")


def test_an_unknown_lab_or_a_missing_file_is_one_clear_line(
    minidock: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIDOCK_LAYERS", str(tmp_path / "nowhere"))
    for arguments, words in ((("check", "77"), "no lab"), (("check", "01"), "minidock lab start 01")):
        done = minidock("lab", *arguments, check=False)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
