"""The picture of a build: what it says of each instruction is what the builder did."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidock.engine import Engine
from minidock.errors import MinidockError
from minidock.lab.building import BuildPicture

DOCKERFILE = "FROM busybox\nENV A=1\nCOPY file /\nRUN cat /file > /copy\nCMD cat /copy\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "file").write_text("one")
    return tmp_path


def test_each_step_says_what_the_cache_knew_and_what_it_made(busybox: Path, project: Path) -> None:
    engine = Engine(busybox)
    first = BuildPicture(engine, project, network="none")
    assert [row.outcome for row in first.rows] == ["from", "config", "made", "made", "config"]
    assert [row.layer is not None for row in first.rows] == [False, False, True, True, False]
    assert first.rows[3].changes == ("A /copy",)
    assert BuildPicture(engine, project, network="none").hits == 4
    (project / "file").write_text("two")
    third = BuildPicture(engine, project, network="none")
    assert [row.outcome for row in third.rows] == ["from", "hit", "made", "made", "config"]
    assert "file changed" in third.rows[2].explain()
    assert "file changed" in third.draw() and "file changed" not in third.draw(2)


def test_a_build_that_fails_is_a_picture_too(busybox: Path, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM busybox\nRUN exit 3\nRUN true\n")
    failed = BuildPicture(Engine(busybox), project, network="none")
    assert failed.error is not None and failed.error.exit_code == 3
    assert [row.outcome for row in failed.rows] == ["from", "failed"]
    assert "exit code 3" in failed.draw() and "non-zero code: 3" in failed.draw()


def test_a_mistake_in_the_dockerfile_is_an_error(busybox: Path, project: Path) -> None:
    (project / "Dockerfile").write_text("FORM busybox\n")
    with pytest.raises(MinidockError, match="did you mean FROM"):
        BuildPicture(Engine(busybox), project)
