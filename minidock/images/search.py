"""Search: the Hub has a search service; a plain registry only has a catalogue, which is filtered here.

Searching is no part of the registry protocol: what Docker asks is the Hub's own, older interface.
Source: Docker Engine API, GET /images/search; distribution specification, "Listing Repositories".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from minidock import trace
from minidock.config import Config
from minidock.errors import InvalidInput, MinidockError
from minidock.images import credentials, distribution, mirrors, wire
from minidock.images.auth import Denied
from minidock.images.registry import Registry
from minidock.images.session import Endpoint, Session

HUB_SEARCH = "https://index.docker.io"
HUB_TIMEOUT = 4.0  # seconds to reach it
MOST = 100  # results; the Hub's own bound
_MAX_ANSWER = 8 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """One repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


@dataclass(slots=True)
class Results:
    """What was found. *note* says where, when it was not the Hub's own search."""

    results: list[Result] = field(default_factory=list)
    note: str = ""


def search(term: str, config: Config, *, limit: int = 25) -> Results:
    """Find repositories by a word: ``nginx`` (on the Hub), ``host:5000/web`` (on that registry).

    When the Hub cannot be reached, the mirrors' catalogues are searched, and the note says so.
    """
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"Limit {limit} is outside the range of [1, {MOST}]")
    domain, slash, rest = term.partition("/")
    is_host = slash and ("." in domain or ":" in domain or domain == "localhost")
    if is_host and domain not in (distribution.DEFAULT_DOMAIN, "index.docker.io"):
        endpoint = mirrors.origin(domain, config.insecure_registries)
        return _in_catalogue(endpoint, rest, limit, prefix=f"{domain}/")
    word = rest if is_host else term
    try:
        return Results(_on_hub(word, limit))
    except (wire.Unreachable, wire.Interrupted) as error:
        for mirror in mirrors.endpoints(distribution.DEFAULT_DOMAIN, config):
            if mirror.mirror:
                try:
                    found = _in_catalogue(mirror, word, limit)
                except MinidockError:
                    continue
                found.note = f"Docker Hub cannot be reached ({error}). {found.note}"
                return found
        raise


@trace.mechanism(lesson=6)
def _on_hub(word: str, limit: int) -> list[Result]:
    """Ask Docker Hub's search service: it knows descriptions and stars, a registry does not."""
    client = wire.Client(connect_timeout=HUB_TIMEOUT)
    url = f"{HUB_SEARCH}/v1/search?{urlencode({'q': word, 'n': limit})}"
    with wire.patiently(lambda: client.request("GET", url)) as response:
        if response.status != 200:
            raise MinidockError(f"{HUB_SEARCH}: search failed: status {response.status}")
        return _read(response.read(_MAX_ANSWER))[:limit]


def _in_catalogue(endpoint: Endpoint, word: str, limit: int, prefix: str = "") -> Results:
    """Go through a registry's list of repositories, and keep the names that hold *word*."""
    timeout = mirrors.MIRROR_TIMEOUT if endpoint.mirror else wire.CONNECT_TIMEOUT
    user = credentials.find(endpoint.host)
    registry = Registry(Session(endpoint, user, connect_timeout=timeout))
    found: list[Result] = []
    try:
        for name in registry.catalogue():
            shown = name.removeprefix(distribution.OFFICIAL) if endpoint.mirror else name
            if word.lower() in shown.lower():
                official = endpoint.mirror and name.startswith(distribution.OFFICIAL)
                found.append(Result(prefix + shown, official=official))
                if len(found) == limit:
                    break
    except Denied as error:
        raise Denied(f"{endpoint.host}: does not show its catalogue: {error}", hint=error.hint) from None
    return Results(found, f"{endpoint.host} has no search service: this is its catalogue, filtered by name.")


def _read(data: bytes) -> list[Result]:
    try:
        answer: Any = json.loads(data)
        return [
            Result(
                str(each["name"]),
                str(each.get("description") or ""),
                int(each.get("star_count") or 0),
                bool(each.get("is_official")),
            )
            for each in answer["results"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MinidockError(f"{HUB_SEARCH}: the answer is no search result") from None
