"""Which files COPY and ADD take: names, wildcards, URLs, and the texts of heredocs.

Source: Dockerfile reference, "COPY", "ADD"; Go's filepath.Match.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from minidock.build.context import Context
from minidock.build.ignore import Patterns
from minidock.build.instructions import Copy
from minidock.build.view import Found, View, shown_name
from minidock.errors import InvalidInput

_URL = re.compile(r"https?://", re.IGNORECASE)
_GIT = re.compile(r"git@|git://|ssh://|https?://[^?#]*\.git(#.*)?$")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to copy. *name* is what it is called in a destination directory.

    *found* is the file or directory; for a heredoc None, and *text* its content. With ``--parents``,
    *inside* is where below the destination it goes, and *parents* are the directories made for that, each
    with the one that it is made after. *fetched* is the URL that it came from. A URL may have no *name*.
    """

    name: str
    found: Found | None = None
    text: bytes = b""
    inside: str = ""
    parents: tuple[tuple[str, Found], ...] = ()
    fetched: str = ""


def gather(instruction: Copy, source: View | Context) -> list[Source]:
    """Everything that the instruction's sources name, in order.

    Raises InvalidInput, with Docker's words, for what is missing, ignored or outside.
    """
    gathered = []
    for pattern in instruction.sources:
        if instruction.unpack and (_URL.match(pattern) or _GIT.match(pattern)):
            gathered.append(_fetched(pattern, source, instruction.checksum))
        elif _URL.match(pattern):
            raise InvalidInput("COPY failed: source can't be a URL for COPY", hint="ADD fetches URLs.")
        else:
            gathered += _matching(instruction, pattern, source)
    if instruction.checksum and not all(each.fetched for each in gathered):
        raise InvalidInput("checksum can't be specified for non-HTTP(S) sources")
    for heredoc in instruction.heredocs:
        text = heredoc.text.encode(errors="surrogateescape")
        gathered.append(Source(posixpath.basename(heredoc.name), text=text))
    if not gathered:
        raise InvalidInput(f"{_verb(instruction)} failed: no source files were specified")
    return gathered


def _fetched(url: str, source: View | Context, checksum: str) -> Source:
    from minidock.build import fetch  # costs 30 ms that most builds need not pay

    if _GIT.match(url):
        raise InvalidInput(f"ADD {url}: minidock fetches no git repositories", hint="RUN git clone does.")
    if isinstance(source, View):
        raise InvalidInput(f"ADD {url}: a URL has no place in another image")
    file = fetch.download(url, source.scratch, checksum)
    return Source(fetch.name_of(url), View([file.parent]).find(file.name), fetched=url)


def _matching(instruction: Copy, pattern: str, source: View | Context) -> Iterator[Source]:
    path = posixpath.normpath(pattern.lstrip("/"))
    if path == ".." or path.startswith("../"):
        raise InvalidInput(
            f"{_verb(instruction)} failed: forbidden path outside the build context: {path} ()"
        )
    for name in _expanded(path, source) if _WILDCARD.search(path) else [path]:
        found = source.find(name)
        if found is None:
            raise _missing(instruction, name)
        if instruction.parents:
            inside, parents = _parents(name, _kept_from(pattern), source, found)
            yield Source(posixpath.basename(name), found, inside=inside, parents=parents)
        else:
            yield Source(posixpath.basename(name), found)


def _missing(instruction: Copy, name: str) -> InvalidInput:
    where = "" if instruction.from_stage else "file not found in build context or excluded by .dockerignore: "
    return InvalidInput(f"{_verb(instruction)} failed: {where}stat {shown_name(name)}: file does not exist")


def _expanded(pattern: str, source: View | Context) -> list[str]:
    """The names that match *pattern*: from the root down, one directory level for each part of it.

    Links are followed before the first wildcard. Those that it finds are not: they may lead in circles.
    """
    names = [""]
    wild = False
    for part in pattern.split("/"):
        if wild:
            names = [
                name for name in names if (found := source.find(name, follow=False)) and not found.is_link
            ]
        if not _WILDCARD.search(part):
            ways = (posixpath.join(above, part) for above in names)
            names = [way for way in ways if source.find(way, follow=False)]
            continue
        wild = True
        # Only here, not in .dockerignore, "!" is a letter like any other.
        matches = Patterns(["\\" + part if part.startswith("!") else part]).matches
        names = [
            posixpath.join(above, name) for above in names for name in source.names(above) if matches(name)
        ]
    return names


def _kept_from(pattern: str) -> int:
    """How many directories --parents leaves out: those before ``/./``."""
    before, pivot, _ = pattern.partition("/./")
    left_out = posixpath.normpath(before.lstrip("/") or ".")
    return len(left_out.split("/")) if pivot and left_out != "." else 0


def _parents(
    name: str, kept_from: int, source: View | Context, found: Found
) -> tuple[str, tuple[tuple[str, Found], ...]]:
    """The directories of *name* without the first *kept_from*: as one path, and each with its original."""
    parts = name.split("/")
    last = len(parts) if found.is_directory else len(parts) - 1
    parents = []
    for count in range(kept_from + 1, last + 1):
        original = source.find("/".join(parts[:count]))
        if original is not None:
            parents.append(("/".join(parts[kept_from:count]), original))
    return "/".join(parts[kept_from:last]), tuple(parents)


def into_directory(destination: str) -> bool:
    """Whether a destination is meant as a directory, whatever is there: it ends in ``/``, or is ``.``"""
    return destination.endswith(("/", "/.")) or destination in (".", "")


def _verb(instruction: Copy) -> str:
    return instruction.node.keyword.upper()
