"""Heredocs: lines below an instruction that belong to it.

    RUN <<EOF python3            COPY <<one <<"two" /dst/         RUN 3<<-EOF cat /dev/fd/3
    print("hello")               the content of /dst/one          	leading tabs do not count
    EOF                          one                              	EOF
                                 the content of /dst/two
                                 two

Quotes around the name, or around a part of it, mean: no variables in here.

Source: Dockerfile reference, "Here-documents".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Words between spaces. Quotes and escapes hide spaces, and ends of quotes.
_WORD = re.compile(r"""(?:\\.?|'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"\\])+""", re.DOTALL)
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]+)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.?)""", re.DOTALL)
_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A heredoc of one instruction. *descriptor* is the number before ``<<``, 0 when there is none.

    *expand*: variables in it count (the name was not quoted). *chomp*: leading tabs do not (``<<-``);
    *content* still has them.
    """

    name: str
    content: str
    expand: bool
    chomp: bool
    descriptor: int = 0

    @property
    def text(self) -> str:
        """The content as the reader shall see it: without the leading tabs, where ``<<-`` says so."""
        return _TABS.sub("", self.content) if self.chomp else self.content


def announced(line: str) -> list[Heredoc]:
    """The heredocs that a line announces, still without content.

    A line with a quote left open announces none: only the shell can tell what it means.
    """
    words = _WORD.findall(line)
    if _WORD.sub("", line).strip():
        return []
    found = []
    arrow = ""
    for word in words:
        if re.fullmatch(r"\d*<<-?", word):  # the name stands after a space
            arrow = word
            continue
        if heredoc := from_word(arrow + word):
            found.append(heredoc)
        arrow = ""
    return found


def from_word(word: str) -> Heredoc | None:
    """``3<<-"EOF"`` → its name, number and signs; None for a word that is no heredoc."""
    match = _HEREDOC.fullmatch(word)
    if not match:
        return None
    number, dash, written = match.groups()
    name = _QUOTED.sub(lambda part: part[1] or part[2] or part[3] or "", written)
    quoted = any(part[3] is None for part in _QUOTED.finditer(written))
    if not name:
        return None
    return Heredoc(name, "", expand=not quoted, chomp=bool(dash), descriptor=int(number or 0))
