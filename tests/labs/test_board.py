"""The instructor's board: who is where, and no student's file can spoil it for the class."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock.lab import board, workshop

LABS = workshop.labs()
LAB = LABS[0]


def check(task: int, outcome: str, attempts: int = 1, passed_at: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"task": task, "outcome": outcome, "attempts": attempts}
    return entry | ({"passed_at": passed_at} if passed_at else {})


@pytest.fixture
def student(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a student's progress (a value, or raw bytes); returns the workshop."""

    def write(name: str, progress: Any) -> Path:
        directory = tmp_path / name / "mydock"
        directory.mkdir(parents=True)
        data = progress if isinstance(progress, bytes) else json.dumps(progress).encode()
        (directory / "progress.json").write_bytes(data)
        return directory

    return write


def test_who_is_where_with_minutes_and_the_failing_check(student: Callable[[str, Any], Path]) -> None:
    record = {
        "started": "2026-03-02T09:00:00Z",
        "last_check": "2026-03-02T09:50:00Z",
        "checks": {
            "test_a": check(1, "passed", 2, "2026-03-02T09:12:00Z"),
            "test_b": check(2, "failed", 1),
            "test_no_way_out": check(2, "failed", 7),
            "test_later": check(3, "blocked", 0),
        },
    }
    (row,) = board.read([student("ada", {LAB.number: record})], LABS).rows
    assert (row.student, row.lab, row.points, row.at) == ("ada", LAB.number, LAB.task(1).points, "task 2")
    assert row.minutes == {1: 12, 2: 38}
    assert (row.failing, row.attempts) == ("test_no_way_out", 7)


def test_the_commonest_failing_check_of_the_class(student: Callable[[str, Any], Path]) -> None:
    places = [
        student(name, {LAB.number: {"checks": {each: check(1, "failed") for each in failing}}})
        for name, failing in (("ada", ["test_x"]), ("bob", ["test_x", "test_y"]), ("eve", ["test_z"]))
    ]
    assert board.read(places, LABS).commonest == {LAB.number: ("test_x", 2)}


def test_a_student_who_has_all_is_done(student: Callable[[str, Any], Path]) -> None:
    checks = {
        f"test_{task.number}": check(task.number, "passed", 1, "2026-03-02T09:10:00Z") for task in LAB.tasks
    }
    (row,) = board.read([student("ada", {LAB.number: {"checks": checks}})], LABS).rows
    assert (row.at, row.points, row.failing) == ("done", 100, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 10_000, "not JSON"),
        (b"[1, 2]", "not a progress file"),
        (b" " * (board.MAX_FILE + 1), "too large"),
    ],
    ids=["empty", "no text", "nested", "a long number", "a list", "huge"],
)
def test_a_broken_file_is_named_and_the_others_are_shown(
    content: bytes, said: str, student: Callable[[str, Any], Path]
) -> None:
    places = [student("ada", content), student("bob", {LAB.number: {"started": "2026-03-02T09:00:00Z"}})]
    rows = {row.student: row for row in board.read(places, LABS).rows}
    assert rows["ada"].trouble == said
    assert rows["bob"].at == "started"


@pytest.mark.parametrize(
    "record",
    [
        {"checks": []},
        {
            "checks": {
                "test_a": None,
                "test_b": {"task": "one"},
                "test_c": {"task": 10**9, "outcome": "passed"},
            }
        },
        {
            "checks": {
                "test_a": {"task": True, "outcome": "passed"},
                "test_b": {"task": 1, "outcome": ["passed"]},
            }
        },
        {"checks": {"test_a": {"task": 1, "outcome": "passed", "attempts": "many"}}},
        {"started": {"a": 1}, "last_check": "99999-01-01T00:00:00Z", "checks": {}},
    ],
)
def test_fields_of_a_wrong_kind_earn_nothing(record: Any, student: Callable[[str, Any], Path]) -> None:
    (row,) = board.read([student("ada", {LAB.number: record})], LABS).rows
    assert row.points == 0 and row.at == "started" and not row.trouble
    board.cells(row)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    os.mkfifo(tmp_path / "ada" / "progress.json")
    (tmp_path / "bob").mkdir()
    places = [tmp_path / "ada" / "progress.json", tmp_path / "bob", tmp_path / "nobody"]
    troubles = sorted(row.trouble for row in board.read(places, LABS).rows)
    assert troubles == ["no ordinary file", "no progress file", "no such directory"]


def test_two_students_of_the_same_name_can_be_told_apart(tmp_path: Path) -> None:
    places = [tmp_path / group / "ada" / "mydock" for group in ("monday", "tuesday")]
    for place in places:
        place.mkdir(parents=True)
        (place / "progress.json").write_text("{}")
    names = [row.student for row in board.read(places, LABS).rows]
    assert len(set(names)) == 2


def test_the_command_is_plain_in_a_pipe_and_coloured_in_a_terminal(
    minidock: Callable[..., Any], student: Callable[[str, Any], Path]
) -> None:
    evil = {LAB.number: {"checks": {"test_\x1b[2J\x1b[31mred [bold]": check(1, "failed", 3)}}}
    places = [str(student("ada", evil)), str(student("bob\x1b[2J", b"{"))]
    plain = minidock("lab", "board", *places).stdout
    assert "\x1b" not in plain and "ada" in plain and "[bold]" in plain and "not JSON" in plain
    assert "most often fails" in plain
    rich = minidock("lab", "board", *places, env={"FORCE_COLOR": "1", "COLUMNS": "140"}).stdout
    assert "\x1b[" in rich and "\x1b[2J" not in rich


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir()
    places = [tmp_path / "ada", tmp_path / "bob", tmp_path / "eve" / "progress.json"]
    rows = [(row.student, row.trouble) for row in board.read(places, LABS).rows]
    assert rows == [("ada", "no such directory"), ("bob", "no progress file"), ("eve", "no such directory")]
