"""Variables and quotes in a Dockerfile: ``$HOME``, ``${VERSION:-1.0}``, ``"two words"``, ``\\$5``.

No shell runs here. Before an instruction such as ENV, COPY or WORKDIR is carried out, the builder
reads its words as a shell would, with the variables of ENV and ARG. It knows less than a shell does:

    $name  ${name}       the value, or nothing when unset
    ${name-word}         word when name is unset          ${name:-word}   … or empty
    ${name+word}         word when name is set            ${name:+word}   … and not empty
    ${name?word}         an error when name is unset      ${name:?word}   … or empty
    ${name#pattern}      without the shortest beginning that matches; ## the longest
    ${name%pattern}      without the shortest ending that matches; %% the longest
    ${name/pattern/word} the first match replaced; // every match

``*`` and ``?`` are the wildcards of a pattern. What comes out of a variable is never read again for
further variables. RUN, CMD and ENTRYPOINT are left alone: their text is for a real shell, or for none.

Source: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from minidock.build.problems import SyntaxProblem

_SPECIAL = "@*#?-$!0"  # the parameters that a shell sets itself: here they are names without a value
_DEEPEST = 100  # ${a:-${b:-${c}}}: more levels than anybody needs, fewer than Python's stack has


def expand(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """*text* with its variables replaced and its quotes removed, as one word whatever it holds.

    *env* is asked for each variable that matters, so a mapping that records the questions knows what
    the text depends on. Raises SyntaxProblem: quotes or braces left open, unknown modifiers, ``:?``.
    """
    return _Reader(text, env, escape).whole()[0]


def split(text: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As :func:`expand`, cut at spaces that are neither quoted nor escaped; values are cut too."""
    return _Reader(text, env, escape).whole()[1].finished()


def expand_text(text: str, env: Mapping[str, str]) -> str:
    """The lines of a heredoc: variables and ``\\`` as in :func:`expand`, while quotes are plain text."""
    return _Reader(text, env, "\\", quotes=False).whole()[0]


class _Words:
    """Words in the making. Letters join the last one; a bare space ends it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.letters: list[str] = []

    def add_whole(self, text: str) -> None:
        self.letters.append(text)

    def add_cut(self, text: str) -> None:
        for letter in text:
            if letter.isspace():
                self.end_word()
            else:
                self.letters.append(letter)

    def end_word(self) -> None:
        if word := "".join(self.letters):
            self.words.append(word)
        self.letters = []

    def finished(self) -> list[str]:
        self.end_word()
        return self.words


class _Reader:
    """One pass over a text, left to right; *at* is the next letter."""

    def __init__(self, text: str, env: Mapping[str, str], escape: str, *, quotes: bool = True) -> None:
        self.text, self.env, self.escape, self.quotes = text, env, escape, quotes
        self.at = 0
        self.depth = 0

    def whole(self) -> tuple[str, _Words]:
        """The text to its end, as one word and as several."""
        try:
            return self.until(None)
        except SyntaxProblem as problem:
            quoted = json.dumps(self.text, ensure_ascii=False)
            problem.message = problem.reason = f"failed to process {quoted}: {problem.reason}"
            raise

    def peek(self) -> str:
        """The next letter; empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        letter = self.peek()
        self.at += 1
        return letter

    def until(self, stop: str | None, *, keep_escapes: bool = False) -> tuple[str, _Words]:
        """Everything up to *stop*, which is taken too; None reads to the end of the text.

        *keep_escapes*: a pattern wants to see ``\\*`` as it is written.
        """
        result: list[str] = []
        words = _Words()
        while letter := self.peek():
            if letter == stop:
                self.at += 1
                return "".join(result), words
            if letter == "$":
                piece = self.variable()
                words.add_cut(piece)
            elif self.quotes and letter in "'\"":
                piece = self.single_quoted() if letter == "'" else self.double_quoted()
                words.add_whole(piece)
            elif letter == self.escape:
                piece = self.escaped(keep_escapes)
                words.add_whole(piece)
            else:
                piece = self.take()
                words.add_cut(piece)
            result.append(piece)
        if stop is not None:
            where = " in ${}" if stop == "/" else ""
            raise SyntaxProblem(f"syntax error: missing '{stop}'{where}")
        return "".join(result), words

    def escaped(self, keep: bool) -> str:
        """``\\x`` is x, whatever x is; at the end of the text the escape character means nothing."""
        escape, letter = self.take(), self.take()
        return escape + letter if keep else letter

    def single_quoted(self) -> str:
        """``'…'``: every letter as it is, to the next single quote."""
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise _open_quote("single")
        inside = self.text[self.at + 1 : end]
        self.at = end + 1
        return inside

    def double_quoted(self) -> str:
        """``"…"``: variables count, spaces do not; only ``"``, ``$`` and the escape itself are escaped."""
        self.at += 1
        result: list[str] = []
        while letter := self.peek():
            if letter == '"':
                self.at += 1
                return "".join(result)
            if letter == "$":
                result.append(self.variable())
                continue
            self.at += 1
            if letter == self.escape:
                if not self.peek():
                    break
                if self.peek() in ('"', "$", self.escape):
                    letter = self.take()
            result.append(letter)
        raise _open_quote("double")

    def variable(self) -> str:
        """``$name`` or ``${…}``; a dollar that no name follows is a dollar."""
        self.at += 1
        if self.peek() == "{":
            self.at += 1
            return self.braces()
        name = self.name()
        return self.env.get(name, "") if name else "$"

    def name(self) -> str:
        """Letters, digits and ``_``. One that begins with a digit has digits only: ``$1x`` is $1, x."""
        start, text = self.at, self.text
        if self.peek().isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif self.peek() and self.peek() in _SPECIAL:
            self.at += 1
        else:
            while (letter := self.peek()) and (letter.isalpha() or letter.isdecimal() or letter == "_"):
                self.at += 1
        return text[start : self.at]

    def braces(self) -> str:
        """What stands behind ``${``, to the closing brace."""
        if not self.peek():
            raise SyntaxProblem("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise SyntaxProblem("syntax error: bad substitution")
        name = self.name()
        modifier = self.take()
        if modifier == "}":
            return self.env.get(name, "")
        if modifier == ":":
            modifier += self.take()
        if modifier not in ("-", "+", "?", ":-", ":+", ":?", "#", "%", "/"):
            # BuildKit shows the end of the text as the sign for "no such letter".
            complete = modifier if self.at <= len(self.text) else modifier + "\N{REPLACEMENT CHARACTER}"
            raise SyntaxProblem(f"unsupported modifier ({complete}) in substitution")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise SyntaxProblem(f"${{…}} is nested more than {_DEEPEST} levels deep")
        value = self.modified(name, modifier)
        self.depth -= 1
        return value

    def modified(self, name: str, modifier: str) -> str:
        if modifier == "/":
            return self.replaced(name)
        word, _ = self.until("}", keep_escapes=modifier in "#%")
        value = self.env.get(name)
        if modifier in "#%":
            return trimmed(value or "", modifier, word)
        missing = value is None or (modifier[0] == ":" and not value)
        if modifier[-1] == "+":
            return "" if missing else word
        if not missing:
            return value or ""
        if modifier[-1] == "?":
            state = "unset" if value is None else "empty"
            raise SyntaxProblem(f"{name}: {word or f'is not allowed to be {state}'}")
        return word

    def replaced(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.at += 1
        pattern, _ = self.until("/", keep_escapes=True)
        word, _ = self.until("}", keep_escapes=True)
        return replace(self.env.get(name, ""), pattern, word, every=every)


def _open_quote(kind: str) -> SyntaxProblem:
    return SyntaxProblem(f"unexpected end of statement while looking for matching {kind}-quote")


# --- patterns: * is any text, ? any letter, \x the letter x ----------------------------------------


def trimmed(value: str, end: str, pattern: str) -> str:
    """``${value#pattern}`` and its three relatives. *end* is ``#`` or ``%``; doubled it begins *pattern*."""
    longest = pattern.startswith(end)
    parts = _pattern(pattern[1:] if longest else pattern)
    # An ending is a beginning of the text read backwards.
    lengths = _matches(parts, value) if end == "#" else _matches(parts[::-1], value[::-1])
    if not lengths:
        return value
    length = max(lengths) if longest else min(lengths)
    return value[length:] if end == "#" else value[: len(value) - length]


def replace(value: str, pattern: str, word: str, *, every: bool) -> str:
    """The first match of *pattern*, or *every* one, replaced by *word*; of several the longest."""
    parts = _pattern(pattern)
    result: list[str] = []
    at = 0
    while at <= len(value):
        lengths = _matches(parts, value[at:])
        if lengths:
            result.append(word)
            at += max(lengths)
            if not every:
                break
        if not lengths or max(lengths) == 0:  # nothing matched here: on to the next letter
            result.append(value[at : at + 1])
            at += 1
    return "".join(result) + value[at:]


def _pattern(text: str) -> list[tuple[str, bool]]:
    """``a*\\*`` → ``[("a", False), ("*", True), ("*", False)]``: letters, and whether each is a wildcard."""
    parts: list[tuple[str, bool]] = []
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            parts.append((next(letters, "\\"), False))
        else:
            parts.append((letter, letter in "*?"))
    return parts


def _matches(parts: list[tuple[str, bool]], text: str) -> set[int]:
    """Every length n for which the pattern matches the first n letters of *text*.

    All ways to match are followed at once, one part of the pattern after the other, so that no
    pattern takes longer than its length times the text's: a backtracking search can take for ever.
    """
    reached = {0}
    for letter, wildcard in parts:
        if not reached:
            break
        if wildcard and letter == "*":
            reached = set(range(min(reached), len(text) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(text) and (wildcard or text[n] == letter)}
    return reached
