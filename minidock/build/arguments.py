"""What stands behind the keyword of an instruction: flags, then words, pairs, JSON, or one text.

Each instruction has its own way, and this is the table of them:

    RUN CMD ENTRYPOINT SHELL             a JSON list (the exec form), else one text (the shell form)
    ADD COPY VOLUME                      a JSON list, else words
    FROM EXPOSE                          words
    ENV LABEL                            name=value pairs, or the old form: a name, then one text
    ARG                                  name or name=value
    USER WORKDIR STOPSIGNAL MAINTAINER   one text
    HEALTHCHECK                          NONE, or CMD and then as the instruction CMD
    ONBUILD                              another instruction

Words keep their quotes here; words.py takes them off when variables are put in.

Source: Dockerfile reference, "Format".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from minidock.build import dockerfile
from minidock.build.dockerfile import SPACES
from minidock.build.problems import SyntaxProblem

# The arguments, and whether they came from a JSON list.
Arguments = tuple[tuple[str, ...], bool]


def read(keyword: str, rest: str, escape: str) -> Arguments:
    """The arguments of *keyword*, which is in lower case. One that does not exist has none."""
    how = _WAYS.get(keyword)
    return how(rest, keyword, escape) if how and rest else ((), False)


def words(text: str, escape: str) -> list[str]:
    """*text* cut at the spaces that are neither quoted nor escaped; quotes and escapes stay."""
    found: list[str] = []
    word: list[str] = []
    quote = ""
    letters = iter(text)
    for letter in letters:
        if not quote and letter.isspace():
            if word:
                found.append("".join(word))
            word = []
            continue
        if letter == escape and quote != "'":
            following = next(letters, "")
            # An escape character at the very end stands for nothing.
            word.append(letter + following if following else "")
            continue
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        word.append(letter)
    if last := "".join(word):
        found.append(last)
    return found


# --- the ways -------------------------------------------------------------------------------------


def _text(rest: str, keyword: str, escape: str) -> Arguments:
    return (rest,), False


def _plain_words(rest: str, keyword: str, escape: str) -> Arguments:
    return tuple(re.split(SPACES, rest)), False


def _list_or_text(rest: str, keyword: str, escape: str) -> Arguments:
    listed = dockerfile.exec_form(rest)
    return (tuple(listed), True) if listed is not None else ((rest,), False)


def _list_or_words(rest: str, keyword: str, escape: str) -> Arguments:
    listed = dockerfile.exec_form(rest)
    return (tuple(listed), True) if listed is not None else _plain_words(rest, keyword, escape)


def _names(rest: str, keyword: str, escape: str) -> Arguments:
    return tuple(words(rest, escape)), False


def _pairs(rest: str, keyword: str, escape: str) -> Arguments:
    """Three arguments a pair: name, value, and ``=``, which is empty in the old form."""
    pairs = words(rest, escape)
    if not pairs:
        return (), False
    if "=" not in pairs[0]:
        name, *value = re.split(SPACES, rest, maxsplit=1)
        if not value:
            raise SyntaxProblem(
                f"{keyword.upper()} must have two arguments", hint=f"Write {keyword.upper()} {name}=value."
            )
        return (name, value[0], ""), False
    triples: list[str] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise SyntaxProblem(
                f'Syntax error - can\'t find = in "{pair}". Must be of the form: name=value',
                hint="A value that holds spaces needs quotes.",
            )
        triples += [name, text, equals]
    return tuple(triples), False


def _health(rest: str, keyword: str, escape: str) -> Arguments:
    kind, *command = rest.split(None, 1)
    arguments, exec_form = _list_or_text(command[0], keyword, escape) if command else ((), False)
    return (kind, *arguments), exec_form


_WAYS: dict[str, Callable[[str, str, str], Arguments]] = {
    **dict.fromkeys(("run", "cmd", "entrypoint", "shell"), _list_or_text),
    **dict.fromkeys(("add", "copy", "volume"), _list_or_words),
    **dict.fromkeys(("from", "expose"), _plain_words),
    **dict.fromkeys(("env", "label"), _pairs),
    **dict.fromkeys(("user", "workdir", "stopsignal", "maintainer", "onbuild"), _text),
    "arg": _names,
    "healthcheck": _health,
}
KEYWORDS = tuple(_WAYS)
