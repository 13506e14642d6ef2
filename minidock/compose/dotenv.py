"""``.env`` and the files of ``env_file``: ``NAME=value`` lines as the dotenv format has them.

Quotes go, ``'…'`` keeps everything as it is, ``"…"`` knows ``\\n`` and variables and may span lines,
``#`` after a blank starts a comment. (`run --env-file` is simpler: it takes each line as it is.)

Source: Compose specification, 05-services.md, "Env_file format".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from minidock.compose import interpolation
from minidock.compose.interpolation import Variables
from minidock.compose.reading import ComposeError, Place

_START = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.\-\[\]]*)[ \t]*(=|:|$|\n)[ \t]*", re.ASCII)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


def read(path: str | Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables of a file. Those that it mentions come from *inherited* first, then from the file.

    A name alone takes its value from *inherited*, if it is there. Raises ComposeError.
    """
    try:
        content = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    except OSError as error:
        raise ComposeError(f"env file {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ComposeError(f"env file {path}: not UTF-8 text") from None
    return parse(content, str(path), inherited)


def parse(content: str, file: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """As :func:`read`, of a text."""
    found: dict[str, str] = {}
    lines = content.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        line, place = lines[at], Place(file, at + 1)
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = _START.match(line)
        if not start:
            raise ComposeError(f"not NAME=value: {line.strip()!r}", place)
        name, rest = start[1], line[start.end() :]
        if start[2] not in ("=", ":"):
            if name in inherited:
                found[name] = inherited[name]
            continue
        if rest[:1] in ("'", '"'):
            while _closing(rest) < 0:
                if at == len(lines):
                    raise ComposeError(f"the quote of {name} is never closed", place)
                rest += "\n" + lines[at]
                at += 1
            found[name] = _quoted(rest, place, {**found, **inherited})
        else:
            value = re.split(r"(?:^|\s)#", rest, maxsplit=1)[0].strip()
            found[name] = _filled(value, place, {**found, **inherited})
    return found


def _closing(text: str) -> int:
    """Where the quote that *text* begins with ends, -1 when it goes on in the next line."""
    at = 1
    while at < len(text):
        if text[at] == "\\" and text[0] == '"':
            at += 1
        elif text[at] == text[0]:
            return at
        at += 1
    return -1


def _quoted(text: str, place: Place, known: Mapping[str, str]) -> str:
    end = _closing(text)
    inside, rest = text[1:end], text[end + 1 :].strip()
    if rest and not rest.startswith("#"):
        raise ComposeError(f"{rest!r} after the closing quote", place)
    if text[0] == "'":
        return inside
    inside = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), inside, flags=re.DOTALL)
    return _filled(inside, place, known)


def _filled(value: str, place: Place, known: Mapping[str, str]) -> str:
    try:
        return interpolation.text(value, Variables(known))
    except ComposeError as error:
        raise ComposeError(error.message, place) from None
