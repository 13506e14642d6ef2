"""The language of a Dockerfile: how its text becomes instructions, and its instructions words that run.

    text  ──▶  lines that belong together  ──▶  keyword, flags, rest  ──▶  words  ──▶  what runs

Five small rules, each a function; lab 07 has the student write them. parser.py goes through a file with
the first three, `variables` and `settings` use the others, and a container is made with the last.

Source: Dockerfile reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from minidock.build.problems import SyntaxProblem
from minidock.build.words import expand

__all__ = ["SPACES", "exec_form", "expand", "next_instruction", "program", "take_apart", "what_runs"]

SPACES = r"[\t\v\f\r ]+"
_NOT_STRINGS = "when using JSON array syntax, arrays must be comprised of strings only"


def next_instruction(lines: Sequence[str], start: int, escape: str = "\\") -> tuple[str, int, int] | None:
    """The first instruction at or after index *start*, in one line.

    Returns its text, the index of its first line, and the index where to go on; None when there is none.
    Lines that begin with ``#`` and empty ones do not count, not even in mid-instruction. A line that
    ends in *escape* goes on in the next; the two are joined without a space.
    """
    at = start
    while at < len(lines) and not _counts(lines[at]):
        at += 1
    if at == len(lines):
        return None
    first = at
    piece, goes_on = _continued(lines[at].strip("\r\n").lstrip(), escape)
    pieces = [piece]
    at += 1
    while goes_on and at < len(lines):
        if _counts(lines[at]):
            piece, goes_on = _continued(lines[at].rstrip("\r\n"), escape)
            pieces.append(piece)
        at += 1
    return "".join(pieces), first, at


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without the escape character at its end, and whether there was one.

    Two of them are an escaped escape character: the line ends here.
    """
    bare = line.rstrip(" \t")
    if bare.endswith(escape) and not bare.endswith(escape * 2):
        return bare[:-1], True
    return line, False


def take_apart(text: str, escape: str = "\\") -> tuple[str, tuple[str, ...], str]:
    """``COPY --from=build a b`` → ``"copy"``, ``("--from=build",)``, ``"a b"``. A bare ``--`` ends the flags.

    Quotes and the escape character work in flags as in a shell, and are gone afterwards.
    """
    keyword, *behind = re.split(SPACES, text.strip(), maxsplit=1)
    rest = behind[0] if behind else ""
    flags: list[str] = []
    at = 0
    while True:
        while rest[at : at + 1].isspace():
            at += 1
        if not rest.startswith("--", at):
            break
        flag, at = _flag(rest, at, escape)
        if flag == "--":
            break
        flags.append(flag)
    return keyword.lower(), tuple(flags), rest[at:].strip()


def _flag(text: str, at: int, escape: str) -> tuple[str, int]:
    """The flag that begins at *at*, and where it ends."""
    letters: list[str] = []
    quote = ""
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        elif not quote and letter.isspace():
            break
        elif letter == escape:
            letters.append(text[at : at + 1])
            at += 1
        else:
            letters.append(letter)
    return "".join(letters), at


def exec_form(text: str) -> list[str] | None:
    """``["a", "b"]`` → the list; None for what is no JSON list and therefore a shell's business.

    Raises SyntaxProblem for a list that holds anything but strings: that was surely not meant.
    """
    if not text.startswith("["):
        return None
    try:
        values: list[Any] = json.loads(text, parse_constant=_no_constant, parse_int=float)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise SyntaxProblem(_NOT_STRINGS, hint='Write each word in double quotes: ["sleep", "10"].')
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is Python's idea, not JSON")


def program(words: Sequence[str], exec_form: bool, shell: Sequence[str]) -> list[str]:
    """The words to execute for a RUN, CMD or ENTRYPOINT.

    In the exec form they are *words* as they stand; in the shell form *words* is one text, for *shell*.
    """
    return list(words) if exec_form else [*shell, *words]


def what_runs(
    entrypoint: Sequence[str],
    cmd: Sequence[str],
    arguments: Sequence[str],
    new_entrypoint: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """What a container executes, in two parts: the entrypoint, and what stands behind it.

    *entrypoint* and *cmd* are the image's, *arguments* the words after its name in `run`: they replace
    *cmd*. A *new_entrypoint* (`run --entrypoint`) drops *cmd*, too: that was meant for another program.
    """
    if new_entrypoint is not None:
        return list(new_entrypoint), list(arguments)
    return list(entrypoint), list(arguments or cmd)
