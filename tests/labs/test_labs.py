"""Every lab is proved both ways: what is wrong fails, what is right passes, each mistake by its own check."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import leaks
import pytest
from worlds import PATIENCE, Cli, cli_command, wait_for

from minidock import layers, sandbox
from minidock.engine import Engine
from minidock.errors import Conflict, InvalidInput, NotFound
from minidock.lab import judge, workshop
from minidock.lab.judge import Results
from minidock.lab.workshop import Lab, Workshop

LABS = workshop.labs()


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


MUTANTS = mutants()
NO_ANSWER = ("skeleton", "empty file", "re-export", "syntax error")


def source(lab: Lab, name: str) -> str:
    """The file that *name* stands for: the solution, no answer at all, or a mutant."""
    simple = {
        "empty file": "",
        "re-export": f"from {layers.SEAMS[lab.file]} import *\n",
        "syntax error": "def (\n",
    }
    if name in simple:
        return simple[name]
    if name in ("skeleton", "solution"):
        return (lab.directory / f"{name}.py").read_text()
    (mutant,) = [each for each in MUTANTS if (each.lab, each.name) == (lab, name)]
    return mutant.source()


@pytest.fixture
def verdict(request: pytest.FixtureRequest, busybox: Path, tmp_path: Path, patience: None) -> Results:
    """What the checks say of the file that this test names by ``lab`` and ``name``.

    All files of one lab that the chosen tests name are judged together, in one sandbox, when the first of
    these tests runs: one at a time they would take three times as long.
    """
    lab, name = (request.node.callspec.params[each] for each in ("lab", "name"))
    if lab.number not in _verdicts:
        tests = [each for each in request.session.items if "verdict" in getattr(each, "fixturenames", ())]
        asked = [each.callspec.params for each in tests]  # type: ignore[attr-defined]
        names = list(dict.fromkeys(each["name"] for each in asked if each["lab"] == lab))
        directories = [
            _write(tmp_path / str(number), lab, source(lab, each)) for number, each in enumerate(names)
        ]
        _verdicts[lab.number] = dict(zip(names, judge.judge(lab, directories, Engine(busybox)), strict=True))
    return _verdicts[lab.number][name]


_verdicts: dict[str, dict[str, Results]] = {}


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy."""
    monkeypatch.setenv("MINIDOCK_PATIENCE", str(max(6.0, PATIENCE)))


@pytest.fixture
def check(busybox: Path, tmp_path: Path, patience: None) -> Callable[[Lab, str], Results]:
    """Run a lab's checks on a source text, in a sandbox of its own."""

    def run(lab: Lab, source: str) -> Results:
        (results,) = judge.judge(lab, [_write(tmp_path / "mydock", lab, source)], Engine(busybox))
        return results

    return run


def _write(directory: Path, lab: Lab, text: str) -> Path:
    directory.mkdir()
    (directory / f"{lab.file}.py").write_text(text)
    return directory


def by_number(lab: Lab) -> str:
    return lab.number


def outcomes(results: Results, outcome: str) -> list[str]:
    return [result["name"] for result in results if result["outcome"] == outcome]


@pytest.mark.parametrize("name", ["solution"])
@pytest.mark.parametrize("lab", LABS, ids=by_number)
def test_the_solution_passes_every_check(lab: Lab, name: str, verdict: Results) -> None:
    assert {result["outcome"] for result in verdict} == {"passed"}, [
        result for result in verdict if result["outcome"] != "passed"
    ]
    assert {result["task"] for result in verdict} == {task.number for task in lab.tasks}


def test_a_lab_that_is_only_begun_does_not_fail_the_one_before(
    busybox: Path, tmp_path: Path, patience: None
) -> None:
    first, begun = LABS[0], LABS[2]
    workshop = _write(tmp_path / "mydock", first, (first.directory / "solution.py").read_text())
    (workshop / f"{begun.file}.py").write_text((begun.directory / "skeleton.py").read_text())
    (results,) = judge.judge(first, [workshop], Engine(busybox), task=first.tasks[-1].number)
    assert {result["outcome"] for result in results} == {"passed"}, results


@pytest.mark.parametrize("name", NO_ANSWER)
@pytest.mark.parametrize("lab", LABS, ids=by_number)
def test_what_is_no_answer_passes_no_check(lab: Lab, name: str, verdict: Results) -> None:
    assert verdict and outcomes(verdict, "passed") == []


@pytest.mark.parametrize(
    ("lab", "name", "caught_by"),
    [
        pytest.param(each.lab, each.name, each.caught_by, id=f"{each.lab.number}: {each.name}")
        for each in MUTANTS
    ],
)
def test_a_mistake_is_caught_by_its_own_check_and_by_no_other(
    lab: Lab, name: str, caught_by: str, verdict: Results
) -> None:
    assert outcomes(verdict, "failed") == [caught_by]
    (caught,) = [result for result in verdict if result["name"] == caught_by]
    assert all(caught[key] for key in ("call", "result", "expected", "next_step")), caught


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.lab.number}: {mutant.name}")
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
    assert sum(mutant.lab == lab for mutant in MUTANTS) >= 4
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
            "from minidock.kernel import syscalls\ndef isolate_mounts(propagation=None):\n"
            "    for place in '/proc', '/etc', '/usr': syscalls.mount('over', place, 'tmpfs')\n",
            "mountinfo",
        ),
        (
            "import shutil\ndef isolate_mounts(propagation=None):\n"
            "    for place in '/etc', '/run', '/tmp': shutil.rmtree(place, ignore_errors=True)\n",
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
        "mounts over /proc",
        "unlinks what it can",
        "endless and silent",
        "a hard exit",
    ],
)
def test_dangerous_code_hurts_nobody(
    source: str,
    said: str,
    check: Callable[[Lab, str], Results],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    if said == "still running":  # here patience only costs time
        monkeypatch.setenv("MINIDOCK_PATIENCE", str(PATIENCE))
    results = check(workshop.find("01"), source)
    first = results[0]
    assert first["outcome"] == "failed" and re.search(said, first["result"]), first
    assert len(results) == 17, "the checks after it still ran"
    waiting = next(result for result in results if result["name"] == "test_mounts_below_stay_inside_too")
    assert waiting["outcome"] == "blocked" and waiting["result"] == f"blocked by {first['name']}"
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.path.exists("/etc/passwd") and (tmp_path / "mydock").is_dir()


def test_the_student_s_code_cannot_write_to_the_machine(
    check: Callable[[Lab, str], Results], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    source = f"import os\ndef isolate_mounts(propagation=None):\n    os.unlink({str(precious)!r})\n"
    results = check(workshop.find("01"), source)
    assert precious.read_text() == "mine"
    assert "Read-only file system" in results[0]["result"]


@pytest.mark.parametrize("helper_too", [False, True], ids=["the command", "its helper, too"])
def test_a_killed_check_ends_and_what_it_leaves_is_found(
    minidock: Cli, busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper_too: bool
) -> None:
    endless = "def isolate_mounts(propagation=None):\n    while True: pass\n"
    layers_of_ann = _write(tmp_path / "mydock", LABS[0], endless)
    monkeypatch.setenv("MINIDOCK_LAYERS", str(layers_of_ann))
    command = [*cli_command(), "--root", str(busybox), "lab", "check", "01"]
    check = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def sandboxes() -> list[Path]:
        parents = [
            each for each in leaks.cgroup_directories() if each.name == leaks.cgroup_parent_of(busybox)
        ]
        return [each for parent in parents for each in parent.glob("lab-*")]

    def processes() -> list[str]:
        return [pid for each in sandboxes() for file in each.rglob("cgroup.procs") for pid in _pids(file)]

    wait_for(lambda: len(processes()) > 1, what="a check at work", seconds=60)
    helper = int(sandboxes()[0].name.removeprefix("lab-"))
    check.kill()
    check.wait()
    if helper_too:
        os.kill(helper, signal.SIGKILL)
    wait_for(lambda: not processes(), what="the end of the student's code", seconds=60)
    if not helper_too:  # it tidies up
        wait_for(lambda: not sandboxes(), what="the end of the sandbox", seconds=60)

    def left() -> str:
        return str(minidock("doctor", check=False).stdout.partition("Left behind")[2])

    wait_for(lambda: "check of a lab that was killed" in left(), what="doctor to take it for abandoned")
    assert ("cgroup without" in left()) == bool(sandboxes()), left()
    minidock("reset", "--yes")
    assert not sandboxes() and not list(busybox.glob("*"))


def test_who_is_just_being_born_goes_with_its_helper(tmp_path: Path) -> None:
    """The kernel tells nobody of a parent's end who had not yet asked for that."""
    job: dict[str, object] = {"root": str(tmp_path), "scratch": str(tmp_path), "environment": {}}
    job["arguments"] = ["/bin/sleep", "60"]
    helper = subprocess.Popen([sys.executable, "-IS", sandbox.__file__], stdin=subprocess.PIPE)
    assert helper.stdin is not None
    helper.stdin.write(json.dumps(job).encode())
    helper.stdin.close()
    listing = Path(f"/proc/{helper.pid}/task/{helper.pid}/children")
    children = wait_for(lambda: _pids(listing), what="the first process of the sandbox")
    helper.kill()
    helper.wait()
    wait_for(lambda: not Path(f"/proc/{children[0]}").exists(), what="its end")
    for directory in leaks.cgroup_directories():
        for group in directory.glob(f"lab-{helper.pid}"):
            group.rmdir()
            directory.rmdir()


def _pids(listing: Path) -> list[str]:
    try:
        return listing.read_text().split()
    except OSError:
        return []


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


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        ("lst", "'lab lst' is not a minidock command.", "Did you mean 'list'? See 'minidock lab --help'."),
        ("list x", "'minidock lab list' accepts no arguments", "Usage:  minidock lab list"),
        ("start", "'minidock lab start' requires 1 argument", "Usage:  minidock lab start LAB"),
        ("check 77", "no lab '77'", "There are: 01, 02, 03"),
        ("check 01", "rootfs.py: no such file", "Start with: minidock lab start 01"),
        ("check 01 x", "lab 01: no task x", "Its tasks are 1, 2, 3, 4, 5."),
        ("hint 01", "'minidock lab hint' requires 2 arguments", "minidock lab hint [OPTIONS] LAB TASK"),
        ("hint 01 9", "lab 01: no task 9", "Its tasks are 1, 2, 3, 4, 5."),
        ("hint 01 1 --strength 4", "hints have the strengths 1 to 3, not 4", ""),
        ("board", "'minidock lab board' requires at least 1 argument", "minidock lab board DIR [DIR...]"),
    ],
)
def test_a_typing_mistake_is_one_clear_line_and_what_to_do(
    minidock: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    said: str,
    hint: str,
) -> None:
    monkeypatch.setenv("MINIDOCK_LAYERS", str(tmp_path / "nowhere"))
    done = minidock("lab", *arguments.split(), check=False)
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == ""
    assert first.startswith("minidock: ") and said in first
    assert len(rest) == bool(hint) and hint in "".join(rest)


@pytest.mark.parametrize(
    "text", ["{bad", "[]", '{"01": 3}', '{"01": {"hints": 7}}', '{"01": {"checks": []}}']
)
def test_a_broken_progress_file_says_what_to_do(
    minidock: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MINIDOCK_LAYERS", str(tmp_path))
    (tmp_path / "progress.json").write_text(text)
    for arguments in ("list", "start 01", "hint 01 1"):
        done = minidock("lab", *arguments.split(), check=False)
        assert done.returncode == 1 and "Move it away" in done.stderr, (arguments, done.stderr)
        assert f"{tmp_path}/progress.json: not a progress file" in done.stderr
    assert (tmp_path / "progress.json").read_text() == text


def test_an_unknown_sudo_user_is_named(minidock: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIDOCK_LAYERS", raising=False)
    monkeypatch.setenv("SUDO_USER", "nobody-here")
    done = minidock("lab", "list", check=False)
    assert done.returncode == 1 and "SUDO_USER: no user 'nobody-here'" in done.stderr
