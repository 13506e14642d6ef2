"""The patterns of .dockerignore, beside BuildKit's recorded answers (test_parser_cases.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from minidock.build import ignore
from minidock.build.problems import SyntaxProblem

PIECES = ["a", "b", "*", "**", "**/", "/", "?", "[ab]", "[^a]", "\\*"]
lines = some.builds(
    lambda back, first, rest: back + "".join([first, *rest]),
    some.sampled_from(["", "!"]),
    some.sampled_from(["a", "b", "*", "**/", "?"]),
    some.lists(some.sampled_from(PIECES), max_size=5),
)
paths = some.lists(some.sampled_from(["a", "b", "ab", "*"]), min_size=2, max_size=5)


def test_the_last_line_that_matches_decides() -> None:
    text = "\ufeff# a comment\n\n docs \n!docs/README.md\r\n**/*.log\n!keep.log\n#not/this\n"
    patterns = ignore.read(text)
    answers = {
        path: patterns.matches(path)
        for path in ("docs", "docs/a", "docs/README.md", "a.log", "x/y/a.log", "keep.log", "x/keep.log", ".")
    }
    assert [path for path, ignored in answers.items() if ignored] == [
        "docs",
        "docs/a",
        "a.log",
        "x/y/a.log",
        "x/keep.log",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("!", 'illegal exclusion pattern: "!"'),
        ("[", "syntax error in pattern"),
        ("a[]", "syntax error in pattern"),
        ("[b-a]", "syntax error in pattern"),
        ("a\\", "syntax error in pattern"),
    ],
)
def test_malformed_patterns_are_shown_with_their_line(line: str, reason: str) -> None:
    with pytest.raises(SyntaxProblem) as raised:
        ignore.read(f"# c\nfine\n{line}\n")
    assert raised.value.message == f".dockerignore:3: {reason}"
    assert raised.value.hint and f"The line reads: {line}" in raised.value.hint


@given(some.lists(lines, max_size=4), paths)
def test_a_directory_that_is_passed_over_holds_nothing_that_comes_back(
    texts: list[str], names: list[str]
) -> None:
    try:
        patterns = ignore.Patterns(texts)
    except SyntaxProblem:
        return
    if not patterns.matches("/".join(names)):
        for count in range(1, len(names)):
            directory = "/".join(names[:count])
            assert not patterns.matches(directory) or patterns.may_match_below(directory)


def test_many_stars_do_not_take_for_ever() -> None:
    patterns = ignore.Patterns(["*a" * 20 + "b", "**" + "*a" * 20 + "/b"])
    assert not patterns.matches("a" * 255)
    assert patterns.matches("a" * 255 + "b")
