"""From the text of a Dockerfile to its instructions, not yet understood.

The format is older than it looks: it grew line by line, and so it is read line by line.

1. Comments at the very top may be directives: ``# escape=``` changes the character that the rest uses.
2. Lines that begin with ``#`` are comments, empty lines do not count, not even in mid-instruction.
3. A line that ends in the escape character goes on in the next one; the two are joined without a space.
4. The first word is the keyword, in any case; then come flags (``--from=…``); then arguments, which each
   keyword reads in its own way (arguments.py).
5. RUN, COPY and ADD may be followed by heredocs (heredocs.py).

Nothing is looked up and no variable is replaced here: instructions.py says what a node means, words.py
what its words are.

Source: Dockerfile reference, "Format", "Parser directives", "Here-documents".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from minidock.build import arguments, dockerfile, heredocs
from minidock.build.heredocs import Heredoc
from minidock.build.problems import SyntaxProblem
from minidock.errors import InvalidInput

__all__ = ["Dockerfile", "Heredoc", "Node", "SyntaxProblem", "parse", "parse_line"]

DIRECTIVES = ("syntax", "escape", "check")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_NOT_TEXT = re.compile("[\0\udc80-\udcff]")


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
    heredocs: tuple[Heredoc, ...] = ()
    trigger: Node | None = None  # ONBUILD's instruction
    file: str = ""

    def problem(self, reason: str, *, hint: str | None = None) -> SyntaxProblem:
        """An error that says where this instruction stands."""
        return SyntaxProblem(reason, hint=hint).at(self.file, self.first_line, self.original)

    def placed(self, error: InvalidInput) -> SyntaxProblem:
        """*error*, which this instruction gave rise to, with the same."""
        if isinstance(error, SyntaxProblem):
            return error.at(self.file, self.first_line, self.original)
        return self.problem(error.message, hint=error.hint)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file: its instructions, the escape character, and the directives at its top."""

    nodes: tuple[Node, ...]
    escape: str
    directives: dict[str, str]
    name: str


def parse(text: str | bytes, name: str = "Dockerfile") -> Dockerfile:
    """The instructions of a Dockerfile. *name* is what error messages call it.

    Raises SyntaxProblem: no instructions at all, a heredoc without end, bytes that are no text, …
    """
    lines = _lines(text)
    directives = _directives(lines, name)
    escape = directives.get("escape", "\\")
    nodes = tuple(_Parser(lines, escape, name).nodes())
    if not nodes:
        raise SyntaxProblem(
            f"{name}: file with no instructions" if name else "file with no instructions",
            hint="A Dockerfile begins with FROM and the name of an image, or FROM scratch.",
        )
    return Dockerfile(nodes, escape, directives, name)


def parse_line(text: str) -> Node:
    """The one instruction of an ONBUILD trigger or of ``--change``."""
    first, *more = parse(text, name="").nodes
    if more:
        raise SyntaxProblem(f"one instruction is expected, and this is more: {more[0].original}")
    return first


def _lines(text: str | bytes) -> list[str]:
    """The lines, each with its line break: in a heredoc that counts.

    Bytes that are not UTF-8 become lone surrogates: harmless in a comment, refused elsewhere.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    lines = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


def _directives(lines: list[str], name: str) -> dict[str, str]:
    """``# name=value`` at the very top; the first line that is anything else ends them."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line.lstrip())
        key = match[1].lower() if match else ""
        if not match or key not in DIRECTIVES:
            break
        if key in found:
            raise SyntaxProblem(f"only one {key} parser directive can be used").at(name, number, line)
        if key == "escape" and match[2] not in ("\\", "`"):
            reason = f"invalid ESCAPE '{match[2]}' does not match ` or \\"
            raise SyntaxProblem(reason).at(name, number, line)
        found[key] = match[2]
    return found


class _Parser:
    """One pass over the lines; *number* is the line last read, counted from 1."""

    def __init__(self, lines: list[str], escape: str, name: str) -> None:
        self.lines, self.escape, self.name = lines, escape, name
        self.number = 0

    def nodes(self) -> Iterator[Node]:
        while found := dockerfile.next_instruction(self.lines, self.number, self.escape):
            text, index, self.number = found
            first = index + 1
            try:
                yield self.node(text, first)
            except SyntaxProblem as problem:
                raise problem.at(self.name, first, text) from None

    def take(self) -> str:
        self.number += 1
        return self.lines[self.number - 1]

    def node(self, text: str, first: int) -> Node:
        """The instruction in the joined line *text*, with the heredocs that stand below it."""
        node = self.without_heredocs(text, first)
        inner = node.trigger or node
        if inner.keyword in ("run", "copy", "add") and not inner.exec_form and "<<" in text:
            found = tuple(self.heredoc(each) for each in heredocs.announced(text))
            trigger = node.trigger and replace(node.trigger, heredocs=found, last_line=self.number)
            node = replace(node, heredocs=found, last_line=self.number, trigger=trigger)
        for piece in (text, *(each.content for each in node.heredocs)):
            if _NOT_TEXT.search(piece):
                raise SyntaxProblem("this is not text", hint="A Dockerfile is UTF-8 without NUL bytes.")
        return node

    def without_heredocs(self, text: str, first: int) -> Node:
        keyword, flags, rest = dockerfile.take_apart(text, self.escape)
        words, exec_form = arguments.read(keyword, rest, self.escape)
        trigger = self.without_heredocs(rest, first) if keyword == "onbuild" and rest else None
        return Node(keyword, flags, words, exec_form, text, first, self.number, (), trigger, self.name)

    def heredoc(self, announced: Heredoc) -> Heredoc:
        """The lines up to the one that holds the name of the heredoc, and nothing else."""
        content: list[str] = []
        while self.number < len(self.lines):
            line = self.take()
            end = line.rstrip("\r\n")
            if (end.lstrip("\t") if announced.chomp else end) == announced.name:
                return replace(announced, content="".join(content))
            content.append(line)
        raise SyntaxProblem(
            f"unterminated heredoc: {announced.name}",
            hint=f"A line must hold {announced.name} and nothing else, not even spaces.",
        )
