""".dockerignore: which files of the context the build does not see.

One pattern a line. ``*`` and ``?`` match within one name, ``**`` any number of directories, ``[a-z]`` one
letter of a class. The **last** pattern that matches decides; ``!`` in front brings files back. A pattern
that matches a directory matches everything below it, so ``docs`` followed by ``!docs/README.md`` leaves
one file. Unlike in .gitignore, ``*.log`` means the top directory alone; ``**/*.log`` means everywhere.

Source: Dockerfile reference, ".dockerignore file"; Go's filepath.Match.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from minidock.build.problems import SyntaxProblem


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One line of the file. (Without a docstring, `dataclass` would import half of Python to write one.)"""

    text: str
    brings_back: bool
    whole: re.Pattern[str]

    def matches(self, path: str) -> bool:
        return self.whole.fullmatch(path) is not None


class Patterns:
    """The patterns of one file, asked about paths relative to the context (``src/main.c``)."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.patterns = [_compiled(text) for line in lines if (text := line.strip())]

    def matches(self, path: str) -> bool:
        """Whether *path* is left out of the context, which itself (``.``) never is."""
        if path == ".":
            return False
        path = _clean(path)
        parents = _parents(path)
        ignored = False
        for pattern in self.patterns:
            if pattern.brings_back != ignored:  # it would change nothing
                continue
            if pattern.matches(path) or any(pattern.matches(parent) for parent in parents):
                ignored = not pattern.brings_back
        return ignored

    def may_match_below(self, directory: str) -> bool:
        """Whether a ``!`` pattern may bring back something below *directory*.

        If not, an ignored directory need not be opened at all, be it ever so large. The answer may
        be True for nothing, never False for something.
        """
        directory = _clean(directory)
        return any(each.brings_back and _reaches(each.text, directory) for each in self.patterns)


def read(text: str) -> Patterns:
    """The patterns of a .dockerignore file. Lines that begin with ``#`` are comments.

    Raises SyntaxProblem for a malformed pattern, with its line.
    """
    lines = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").split("\n")
    patterns = Patterns(())
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        try:
            patterns.patterns += Patterns([line]).patterns
        except SyntaxProblem as problem:
            raise problem.at(".dockerignore", number, line) from None
    return patterns


def _clean(path: str) -> str:
    """``/a//b/../c/`` → ``a/c``; everything is relative to the context."""
    return posixpath.normpath(path).lstrip("/") or "."


def _parents(path: str) -> list[str]:
    """``a/b/c`` → ``a``, ``a/b``."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def _compiled(line: str) -> _Pattern:
    brings_back = line.startswith("!")
    text = line[1:].strip() if brings_back else line
    if not text:
        raise SyntaxProblem(f'illegal exclusion pattern: "{line}"')
    text = _clean(text)
    try:
        return _Pattern(text, brings_back, re.compile(_expression(text), re.DOTALL))
    except (re.error, ValueError):
        raise SyntaxProblem("syntax error in pattern", hint=f"The pattern is {text}") from None


_ENDS = ("*", "**", "**/", "/")  # what ends the letters behind a star
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[\^?(?:\\.|[^\]\\])*\]|\\.|[^\[\\]", re.DOTALL)


def _expression(pattern: str) -> str:
    """The regular expression of a pattern. Raises ValueError for what filepath.Match refuses.

    Between two stars the first place that fits is as good as any later one, so the search never comes
    back to it: ``*a*a*a*b`` would else try a name in more ways than anybody waits for.
    """
    pieces = _pieces(pattern)
    result = []
    at = 0
    while at < len(pieces):
        end = next((n for n in range(at + 1, len(pieces)) if pieces[n] in _ENDS), len(pieces))
        if pieces[at] == "*" and pieces[end : end + 1] in (["*"], ["**"]):
            between = "".join(map(_translated, pieces[at + 1 : end]))
            result.append(f"(?>[^/]*?{between})")
            at = end
        else:
            result.append(_translated(pieces[at]))
            at += 1
    return "".join(result)


def _pieces(pattern: str) -> list[str]:
    pieces = []
    at = 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if not piece:
            raise ValueError(pattern)
        at = piece.end()
        pieces.append(piece[0])
    return pieces


def _translated(piece: str) -> str:
    if piece == "**/":
        return "(?:.*/)?"
    if piece == "**":
        return ".*"
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("["):
        return _letters(piece)
    return re.escape(piece[-1])


def _letters(piece: str) -> str:
    """``[^a-c\\-]`` in Go's notation → the same in Python's. ``-`` and ``]`` must be escaped there."""
    negated = piece.startswith("[^")
    inside = piece[2:-1] if negated else piece[1:-1]
    ranges = re.findall(r"(\\.|[^-\\])(?:-(\\.|[^-\\]))?", inside, re.DOTALL)
    if not ranges or "".join(low + ("-" + high if high else "") for low, high in ranges) != inside:
        raise ValueError(piece)
    shown = (re.escape(low[-1]) + ("-" + re.escape(high[-1]) if high else "") for low, high in ranges)
    return f"(?:(?!/)[{'^' if negated else ''}{''.join(shown)}])"


def _reaches(pattern: str, directory: str) -> bool:
    """Whether *pattern* can match *directory* or something below it, by its beginning without wildcards."""
    fixed = re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]
    if len(fixed) == len(pattern):
        return f"{pattern}/".startswith(f"{directory}/") or directory == "."
    return directory == "." or f"{directory}/".startswith(fixed) or fixed.startswith(f"{directory}/")
