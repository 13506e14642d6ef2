"""For tests of compose: a directory with a compose file, and the command that runs in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli

Compose = Callable[..., Any]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(text, "compose.yaml")``: a file in the project's directory, indentation taken off."""

    def to(text: str, name: str = "compose.yaml") -> Path:
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return to


@pytest.fixture
def compose(minidock: Cli, tmp_path: Path) -> Iterator[Compose]:
    """Run ``minidock compose`` in the project's directory, as a person there would."""
    directory = tmp_path / "shop"
    directory.mkdir(exist_ok=True)

    def run(*words: str, **more: Any) -> Any:
        return minidock("compose", *words, cwd=directory, **more)

    yield run
    if (directory / "compose.yaml").exists():
        minidock("compose", "-p", "shop", "kill", cwd=directory, check=False)
