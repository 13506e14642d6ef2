"""The command line's grammar, as Docker's users know it.

``-it`` joins short flags, ``-eNAME=1``, ``--name x`` and ``--name=x`` give values, ``--rm=false`` switches a
boolean off, ``--`` ends the flags. After the image of ``run`` (and the container of ``exec``) every word
belongs to the container's command. argparse can do neither the booleans nor the joined values of
Docker, and its import alone costs a tenth of what starting a whole container may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.cli.context import Context

Values = dict[str, Any]
Action = Callable[["Context", Values, list[str]], int]


class UsageError(MinidockError):
    """The command was typed wrongly."""

    exit_code = 125


class WrongCount(UsageError):
    """Too few or too many arguments: 1 in every command, as Docker answers."""

    exit_code = 1


class Flag:
    """One flag. *kind* is the word that help shows; *convert* makes the value (ValueError: why it cannot).

    A plain class: `run` has a hundred of them, and a NamedTuple costs half a millisecond to define.
    """

    __slots__ = ("convert", "default", "help", "kind", "name", "repeats", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        kind: str = "string",  # "bool" takes no value
        help: str = "",
        default: Any = None,
        convert: Callable[[str], Any] | None = None,
        repeats: bool = False,
    ) -> None:
        self.name, self.short, self.kind, self.help = name, short, kind, help
        self.default, self.convert, self.repeats = default, convert, repeats

    @property
    def shown(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One verb: how it is typed and the function behind it.

    *least* and *most* count its arguments; without *interspersed* the first argument ends the flags;
    *failure* is the exit code of an error that brings none.
    """

    __slots__ = ("action", "failure", "flags", "interspersed", "least", "most", "summary", "usage")

    def __init__(
        self,
        usage: str,  # "rm [OPTIONS] CONTAINER [CONTAINER...]"
        summary: str,
        action: Action,
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        failure: int = 1,
    ) -> None:
        self.usage, self.summary, self.action, self.flags = usage, summary, action, flags
        self.least, self.most, self.interspersed, self.failure = least, most, interspersed, failure


def boolean(name: str, short: str = "", help: str = "", default: bool = False) -> Flag:
    return Flag(name, short, "bool", help, default)


def repeated(
    name: str,
    short: str = "",
    help: str = "",
    kind: str = "list",
    convert: Callable[[str], Any] | None = None,
) -> Flag:
    return Flag(name, short, kind, help, None, convert, True)


def criterion(text: str) -> str:
    """What ``--filter`` takes. Raises ValueError in the words of Docker."""
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


def integer(text: str) -> int:
    """A whole number. Raises ValueError in the words of Docker."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax") from None


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(
    words: Sequence[str], flags: Sequence[Flag], *, interspersed: bool = True
) -> tuple[Values, list[str]]:
    """Split *words* into ``({"name": value}, arguments)``.

    Every flag has an entry: its default, or ``[]`` when it may be repeated. Raises UsageError.
    """
    long = {flag.name: flag for flag in flags}
    short = {flag.short: flag for flag in flags if flag.short}
    values: Values = {flag.name: [] if flag.repeats else flag.default for flag in flags}
    values["help"] = False
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.extend(rest)
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name == "help":
                values["help"] = True
                continue
            flag = long.get(name)
            if flag is None:
                raise UsageError(f"unknown flag: --{name}", hint=_nearest(name, long))
            if not equals and flag.kind != "bool":
                value = _next(rest, f"--{name}")
            _store(values, flag, value if equals or flag.kind != "bool" else "true")
        elif word.startswith("-") and word != "-":
            _cluster(word, short, values, rest)
        else:
            arguments.append(word)
            if not interspersed:
                arguments.extend(rest)
    return values, arguments


def _cluster(word: str, short: dict[str, Flag], values: Values, rest: Any) -> None:
    """Read ``-it``, ``-eA=1`` or ``-n 5``."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = short.get(letter)
        if flag is None:
            if letter == "h":
                values["help"] = True
                return
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            _store(values, flag, letters[1:])
            return
        if flag.kind == "bool":
            _store(values, flag, "true")
            continue
        _store(values, flag, letters or _next(rest, f"'{letter}' in {word}"))
        return


def _next(rest: Any, shown: str) -> str:
    for word in rest:
        return str(word)
    raise UsageError(f"flag needs an argument: {shown}")


_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def _store(values: Values, flag: Flag, text: str) -> None:
    value: Any = text
    try:
        if flag.kind == "bool":
            if text not in _TRUE + _FALSE:
                raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")
            value = text in _TRUE
        elif flag.convert is not None:
            value = flag.convert(text)
    except (ValueError, MinidockError) as error:
        raise UsageError(f'invalid argument {quote(text)} for "{flag.shown}" flag: {error}') from None
    if flag.repeats:
        values[flag.name].append(value)
    else:
        values[flag.name] = value


def _nearest(name: str, known: Any) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"Did you mean --{close[0]}?" if close else None


def check_count(command: Command, arguments: Sequence[str]) -> None:
    """Raise WrongCount unless *arguments* are as many as *command* wants."""
    verb = f"minidock {verb_of(command)}"
    least, most = command.least, command.most
    if least <= len(arguments) and (most is None or len(arguments) <= most):
        return
    if most == 0:
        wants = "accepts no arguments"
    else:
        number = least if len(arguments) < least else most
        bound = "" if least == most else "at least " if len(arguments) < least else "at most "
        wants = f"requires {bound}{number} argument{'' if number == 1 else 's'}"
    raise WrongCount(f"'{verb}' {wants}", hint=f"Usage:  minidock {command.usage}")


def verb_of(command: Command) -> str:
    """``"image ls [OPTIONS]"`` → ``"image ls"``: the words before the first placeholder."""
    words = []
    for word in command.usage.split():
        if not word.islower():
            break
        words.append(word)
    return " ".join(words)


def help_text(command: Command, width: int = 80) -> str:
    """The page of ``minidock VERB --help``, laid out as Docker's."""
    text = f"Usage:  minidock {command.usage}\n\n{command.summary}\n"
    flags = sorted(command.flags, key=lambda flag: flag.name)
    if not flags:
        return text
    lefts = []
    for flag in flags:
        names = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        lefts.append(names if flag.kind == "bool" else f"{names} {flag.kind}")
    column = max(map(len, lefts)) + 3
    text += "\nOptions:\n"
    for flag, left in zip(flags, lefts, strict=True):
        lines = _wrap(flag.help + _default(flag), max(width - column, 24))
        text += left.ljust(column) + lines[0] + "\n"
        text += "".join(" " * column + line + "\n" for line in lines[1:])
    return text


def _default(flag: Flag) -> str:
    if flag.default in (None, False, "", 0):
        return ""
    shown = (
        "true"
        if flag.default is True
        else quote(flag.default)
        if isinstance(flag.default, str)
        else flag.default
    )
    return f" (default {shown})"


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]
