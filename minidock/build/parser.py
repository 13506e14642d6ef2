"""From the text of a Dockerfile to its instructions, not yet understood.

Published early for those who need the types; parse() follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from minidock.errors import InvalidInput


class SyntaxProblem(InvalidInput):
    """A Dockerfile that cannot be understood. The message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Lines that stand below an instruction and belong to it: ``RUN <<EOF`` … ``EOF``.

    *expand*: variables in it count (the name was not quoted). *chomp*: leading tabs do not (``<<-``).
    """

    name: str
    content: str
    expand: bool
    chomp: bool
    descriptor: int


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction as it is written: keyword, flags and arguments, its meaning not yet known."""

    keyword: str  # lower case: "run"
    flags: tuple[str, ...]  # as written: "--from=build"
    arguments: tuple[str, ...]  # words, or one rest of the line; for ENV and LABEL triples: name, value, "="
    exec_form: bool  # the arguments came from a JSON list
    original: str  # the instruction in one line
    first_line: int
    last_line: int
    heredocs: tuple[Heredoc, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file: its instructions, the escape character, and the directives at its top."""

    nodes: tuple[Node, ...]
    escape: str
    directives: dict[str, str]
    name: str
