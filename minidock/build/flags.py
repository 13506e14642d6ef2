"""The flags of an instruction: ``--chown=1:1``, ``--link``, ``--exclude=*.md --exclude=*.txt``.

Source: Dockerfile reference, the flags of each instruction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minidock.build.parser import Node
from minidock.build.problems import SyntaxProblem, meant


@dataclass(frozen=True, slots=True)
class Flags:
    """The values that were given, by the names of their flags, without the ``--``."""

    values: dict[str, list[str]]

    def text(self, name: str) -> str:
        """The value of ``--name=value``; empty when it was not given."""
        return self.values.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """All the values of a flag that may come more than once."""
        return tuple(self.values.get(name, ()))

    def is_on(self, name: str) -> bool:
        """Whether the switch ``--name`` was given, and not as ``--name=false``."""
        return self.text(name) == "true"


def read(
    node: Node, *, texts: Iterable[str] = (), switches: Iterable[str] = (), lists: Iterable[str] = ()
) -> Flags:
    """The flags of *node*, which may have these *texts* and *switches* once each, and *lists* at will.

    Raises SyntaxProblem: an unknown flag, one given twice, a value that is missing or not wanted.
    """
    known = [*texts, *switches, *lists]
    values: dict[str, list[str]] = {}
    for written in node.flags:
        flag, equals, value = written.partition("=")
        name = flag.removeprefix("--")
        if name not in known:
            raise SyntaxProblem(f"unknown flag: {flag}{meant(name, known)}", hint=_possible(node, known))
        if name in values and name not in lists:
            raise SyntaxProblem(f"duplicate flag specified: {flag}")
        if name in switches:
            value = _switch(flag, equals, value)
        elif not equals:
            raise SyntaxProblem(f"missing a value on flag: {flag}", hint=f"Write {flag}=value.")
        values.setdefault(name, []).append(value)
    return Flags(values)


def _switch(flag: str, equals: str, value: str) -> str:
    if equals and not value:
        raise SyntaxProblem(f"missing a value on flag: {flag}", hint=f"Write {flag} or {flag}=false.")
    if value.lower() not in ("", "true", "false"):
        raise SyntaxProblem(f"expecting boolean value for flag {flag}, not: {value}")
    return value.lower() or "true"


def _possible(node: Node, known: list[str]) -> str:
    keyword = node.keyword.upper()
    if not known:
        return f"{keyword} has no flags. A word that begins with -- needs -- before it: {keyword} -- --word"
    return f"{keyword} has {', '.join(f'--{name}' for name in known)}."
