"""How Docker writes things down: ``64m``, ``1m30s``, ``nofile=1024:2048`` (mounts: mount_notation.py).

Pure functions from text to plain values, shared by the command line, notebooks, compose files and the
Engine API. All raise InvalidInput, in Docker's words where people know them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from minidock.errors import InvalidInput

# Patterns are compiled where they are first used (`re` keeps them): most commands use none of them.
_SIZE = r"(\d+(?:\.\d+)?) ?([kmgtp])?(?:i?b)?"
_DURATION = r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)"
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_ULIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"


def parsed(value: Any, parse: Callable[[str], Any]) -> Any:
    """What *parse* makes of *value*; one that is no text means itself (``memory=67108864``)."""
    return parse(value) if isinstance(value, str) else value


def size(text: str) -> int:
    """``"64m"`` → 67108864 bytes: binary units, as ``--memory`` reads them."""
    found = re.fullmatch(_SIZE, text, re.IGNORECASE)
    if not found:
        raise InvalidInput(f"invalid size: '{text}'", hint="Write bytes, or a number with k, m or g: 64m.")
    power = "kmgtp".index(found[2].lower()) + 1 if found[2] else 0
    return int(float(found[1]) * 1024**power)


def swap_size(text: str) -> int:
    """As :func:`size`; ``-1`` means unlimited."""
    return -1 if text == "-1" else size(text)


def processors(text: str) -> float:
    """``"1.5"`` → 1.5 processors' worth of time. Docker's limit of nine digits is kept."""
    from fractions import Fraction

    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InvalidInput(f"failed to parse {text} as a rational number") from None
    if (value * 10**9).denominator != 1:
        raise InvalidInput("value is too precise")
    return float(value)


def number_list(text: str) -> set[int]:
    """``0-2,5`` as the kernel lists processors: {0, 1, 2, 5}. Source: cpuset(7), list format."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip(), re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise InvalidInput(f"invalid format: {text}", hint="For example 0-2,5.")
        numbers.update(range(first, last + 1))
    return numbers


def duration(text: str) -> float:
    """``"1m30s"`` → 90.0 seconds; the notation of Go."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if rest == "0":
        return 0.0
    parts = re.findall(_DURATION, rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise InvalidInput(f'invalid duration "{text}"', hint="Write 300ms, 90s, 1m30s or 2h.")
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in parts)


def assignment(text: str) -> tuple[str, str]:
    """``"a=b"`` → ``("a", "b")``; ``"a"`` → ``("a", "")``. The form of labels and sysctls."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidInput(f"invalid label '{text}': empty name")
    return key, value


def variable(text: str, inherited: dict[str, str] | None = None) -> str | None:
    """One ``-e``: ``"A=b"`` as it is, ``"A"`` with its value in *inherited* (ours), None when it has none."""
    name, equals, _ = text.partition("=")
    if not name:
        raise InvalidInput(f"invalid environment variable: {text}")
    if equals:
        return text
    values = os.environ if inherited is None else inherited
    return f"{name}={values[name]}" if name in values else None


def variables_file(path: str) -> list[str]:
    """The lines of an ``--env-file``: ``NAME=value``, or ``NAME`` to pass ours on; ``#`` starts a comment.

    Nothing is unquoted, as in Docker: ``A="b"`` has the quotes in its value.
    """
    entries = []
    for number, line in _lines(path):
        name, equals, _ = line.partition("=")
        if not name.strip():
            raise InvalidInput(f"{path}: line {number}: no variable name on line '{line}'")
        if any(character.isspace() for character in name):
            raise InvalidInput(f"{path}: line {number}: variable '{name}' contains whitespaces")
        entry = line if equals else variable(name)
        if entry is not None:
            entries.append(entry)
    return entries


def labels_file(path: str) -> list[str]:
    """The lines of a ``--label-file``: ``key=value`` or ``key``."""
    return [line for _, line in _lines(path)]


def _lines(path: str) -> list[tuple[int, str]]:
    try:
        with open(path, "rb") as file:
            text = file.read().removeprefix(b"\xef\xbb\xbf").decode()
    except OSError as error:
        raise InvalidInput(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not UTF-8 text") from None
    lines = ((number, line.lstrip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def ulimit(text: str) -> tuple[str, tuple[int, int]]:
    """``"nofile=1024:2048"`` → ``("nofile", (1024, 2048))``: soft and hard; -1 is unlimited."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"invalid ulimit argument: {text}", hint="Write nofile=1024 or nofile=1024:2048.")
    if name not in _ULIMITS.split():
        raise InvalidInput(f"invalid ulimit type: {name}", hint=f"Known: {_ULIMITS}.")
    soft_text, colon, hard_text = value.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        raise InvalidInput(f"invalid ulimit value: {value}") from None
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidInput(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return name, (soft, hard)


def device(text: str) -> str:
    """``"/dev/fuse"`` → ``"/dev/fuse:/dev/fuse:rwm"``: host path, path inside, permissions."""
    parts = text.split(":")
    if len(parts) == 1:
        parts = [text, text, "rwm"]
    elif len(parts) == 2:
        only_mode = re.fullmatch("[rwm]+", parts[1])
        parts = [parts[0], parts[0], parts[1]] if only_mode else [*parts, "rwm"]
    if len(parts) != 3 or not parts[0] or not parts[1].startswith("/"):
        raise InvalidInput(f"invalid device specification: {text}", hint="Write /dev/fuse:/dev/fuse:rwm.")
    source, target, mode = parts
    if not re.fullmatch(r"(?!.*(.).*\1)[rwm]+", mode):
        raise InvalidInput(f"invalid device mode: {mode}", hint="Permissions are r, w and m (mknod).")
    return f"{source}:{target}:{mode}"


def exposed_ports(text: str) -> list[str]:
    """``"80"`` → ``["80/tcp"]``; ``"8000-8002/udp"`` → three. The form of EXPOSE and ``--expose``."""
    span, _, protocol = text.partition("/")
    first, dash, last = span.partition("-")
    if not all(re.fullmatch("[0-9]{1,5}", end) and int(end) < 65536 for end in (first, last or first)):
        raise InvalidInput(f"invalid port: '{text}'", hint="For example 80, 53/udp or 8000-8010.")
    if (dash and not last) or int(last or first) < int(first):
        raise InvalidInput(f"invalid port range: '{text}'", hint="For example 8000-8010.")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidInput(f"invalid port: '{text}': invalid proto: {protocol}", hint="tcp, udp or sctp.")
    return [f"{port}/{protocol}" for port in range(int(first), int(last or first) + 1)]


def signal_name(text: str) -> str:
    """``"9"``, ``"kill"``, ``"SIGKILL"`` → ``"SIGKILL"``; real-time signals stay numbers (``"35"``)."""
    import signal

    name = text.upper()
    if name.isdigit():
        number = int(name)
        if number in {member.value for member in signal.Signals}:
            return signal.Signals(number).name
        if 0 < number <= signal.SIGRTMAX:
            return name
    else:
        name = name if name.startswith("SIG") else f"SIG{name}"
        if name in signal.Signals.__members__:
            return name
    raise InvalidInput(f"invalid signal: {text}", hint="Give a number or a name: 9, KILL, SIGTERM.")
