"""SECURITY.md names a test for each of its lines, and those tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from worlds import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| property", "| escape"))
]
NAMED = set(re.findall(r"`(tests/[\w/.]+\.py::\w+)`", PAGE))


def named_in(file: Path) -> set[str]:
    name = file.relative_to(REPOSITORY)
    tree = ast.parse(file.read_text())
    return {
        f"{name}::{each.name}"
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }


def test_each_named_test_exists() -> None:
    there = {
        test for file in {name.partition("::")[0] for name in NAMED} for test in named_in(REPOSITORY / file)
    }
    assert not NAMED - there


def test_each_line_has_a_test_or_says_that_it_has_none() -> None:
    assert len(ROWS) > 40
    for cells in ROWS:
        assert len(cells) in (3, 4), cells
        assert "`tests/" in cells[-1] or cells[-1].startswith("none: a gap"), cells


def test_each_escape_that_is_tried_is_on_the_page() -> None:
    tried = {test for file in (REPOSITORY / "tests/security").glob("test_*.py") for test in named_in(file)}
    assert tried and not tried - NAMED
