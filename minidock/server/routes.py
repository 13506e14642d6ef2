"""Which function answers which path: ``("POST", "/containers/{id}/start", start)``.

``{name}`` fits one part of a path, ``{name...}`` several: images have slashes in their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from minidock.server.errors import BAD_REQUEST, Refused
from minidock.server.request import Request

NEWEST, OLDEST = (1, 44), (1, 24)
Endpoint = Callable[[Request], Any]
Route = tuple[str, str, Endpoint]
_VERSION = re.compile(r"/v(\d{1,4})\.(\d{1,4})(/.*)?")
_PART = re.compile(r"\{(\w+)(\.\.\.)?\}")


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """``/v1.41/info`` → ``(1, 41), "/info"``; without a version the newest. Raises Refused, as Docker."""
    found = _VERSION.fullmatch(path)
    if not found:
        return NEWEST, path
    version = (int(found[1]), int(found[2]))
    asked, known = f"{version[0]}.{version[1]}", "{}.{}"
    if version > NEWEST:
        newest = known.format(*NEWEST)
        raise Refused(
            BAD_REQUEST,
            f"client version {asked} is too new. Maximum supported API version is {newest}",
        )
    if version < OLDEST:
        oldest = known.format(*OLDEST)
        raise Refused(
            BAD_REQUEST,
            f"client version {asked} is too old. Minimum supported API version is {oldest}, "
            "please upgrade your client to a newer version",
        )
    return version, found[3] or "/"


class Table:
    """All routes. The first that fits counts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(method, _compiled(path), endpoint) for method, path, endpoint in routes]

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """The endpoint and what its names stand for. Raises Refused: 404, or 405 for another method."""
        others = False
        for wanted, pattern, endpoint in self._routes:
            found = pattern.fullmatch(path)
            if found and wanted == method:
                return endpoint, {name: unquote(value) for name, value in found.groupdict().items()}
            others = others or bool(found)
        if others:
            raise Refused(405, f"method {method} is not allowed here")
        raise Refused(404, "page not found")


def _compiled(path: str) -> re.Pattern[str]:
    pattern, end = "", 0
    for part in _PART.finditer(path):
        pattern += re.escape(path[end : part.start()]) + f"(?P<{part[1]}>{'.+' if part[2] else '[^/]+'})"
        end = part.end()
    return re.compile(pattern + re.escape(path[end:]))
