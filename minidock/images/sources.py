"""Who has the image: the mirrors are asked first, then the registry itself.

The answer is a manifest for the right platform, and the list of those who can serve its layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minidock.config import Config
from minidock.errors import MinidockError, NotFound
from minidock.images import auth, credentials, manifest, mirrors, wire
from minidock.images.image import parse_document
from minidock.images.layout import DOCUMENT_LIMIT
from minidock.images.manifest import Index, Platform
from minidock.images.reference import Reference
from minidock.images.registry import Registry
from minidock.images.session import Endpoint, Session

Warn = Callable[[str], None]
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Source:
    """One registry to fetch from, with everything a fresh process needs to speak to it."""

    endpoint: Endpoint
    credentials: auth.Credentials | None = None
    tokens: dict[str, auth.Token] = field(default_factory=dict)
    connect_timeout: float = wire.CONNECT_TIMEOUT

    def open(self) -> Registry:
        """Start the conversation."""
        talk = Session(self.endpoint, self.credentials, connect_timeout=self.connect_timeout)
        talk.tokens.update(self.tokens)
        return Registry(talk)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Source:
        credentials = value["credentials"]
        return cls(
            Endpoint(**value["endpoint"]),
            auth.Credentials(**credentials) if credentials else None,
            {scope: auth.Token(**token) for scope, token in value["tokens"].items()},
            value["connect_timeout"],
        )


@dataclass(slots=True)
class Found:
    """An image's manifest, as one registry gave it. *digest* is what its name points to: perhaps an index."""

    registry: Registry
    sources: list[Source]
    digest: str
    data: bytes
    media_type: str
    manifest: manifest.Manifest


def find(
    name: Reference,
    wanted: Platform,
    config: Config,
    dead: mirrors.Dead,
    warn: Warn,
    login: auth.Credentials | None = None,
) -> Found:
    """Ask the mirrors, then the registry itself. The first that has the image for this platform serves it.

    *warn* hears of each mirror that is passed over, and why. *login* is for the registry itself.
    """
    asked = sources_of(name, config, dead, warn, login)
    found, position = _first(asked, name, dead, warn, lambda source: ask(source, name, wanted))
    found.sources = asked[position:]
    found.sources[0].tokens = found.registry.session.tokens
    return found


def _first(
    asked: list[Source], name: Reference, dead: mirrors.Dead, warn: Warn, ask: Callable[[Source], Answer]
) -> tuple[Answer, int]:
    """The first answer that is none of the refusals, and whose it is, by its position."""
    refusals: list[tuple[Endpoint, MinidockError]] = []
    for position, source in enumerate(asked):
        try:
            found = ask(source)
        except MinidockError as error:
            refusals.append((source.endpoint, error))
            if source.endpoint.mirror:
                if isinstance(error, (wire.Unreachable, wire.Interrupted)):
                    dead.add(source.endpoint)
                warn(f"mirror {source.endpoint.url} is skipped: {error}")
            continue
        dead.discard(source.endpoint)
        return found, position
    raise _nowhere(name, refusals)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a registry has under a name: an image, or an index of several, one for each of *platforms*."""

    descriptor: manifest.Descriptor
    platforms: list[Platform]


def look(name: Reference, config: Config, dead: mirrors.Dead, login: auth.Credentials | None = None) -> Offer:
    """Ask what a pull would find, without fetching it. The same are asked in the same order."""

    def ask(source: Source) -> Offer:
        registry = source.open()
        data, media_type, digest = registry.manifest(name.path, name.digest or name.tag)
        found = manifest.parse(data, media_type)
        if isinstance(found, Index):
            platforms = [each.platform for each in found.manifests if each.platform]
        else:
            size = min(found.config.size, DOCUMENT_LIMIT)
            document = parse_document(registry.blob(name.path, found.config.digest, size), name.familiar)
            platforms = [manifest.platform_of(document)]
        return Offer(manifest.Descriptor(found.media_type, digest, len(data)), platforms)

    def nobody_hears(_: str) -> None:
        pass

    asked = sources_of(name, config, dead, nobody_hears, login)
    return _first(asked, name, dead, nobody_hears, ask)[0]


def sources_of(
    name: Reference,
    config: Config,
    dead: mirrors.Dead,
    warn: Warn,
    login: auth.Credentials | None = None,
) -> list[Source]:
    """Whom to ask, in order. Mirrors that were dead a moment ago come last: perhaps nobody else answers."""
    living, late = [], []
    for endpoint in mirrors.endpoints(name.domain, config):
        # Passwords for the Hub are the Hub's: a mirror gets those saved under its own name.
        user = credentials.find(endpoint.host) if endpoint.mirror else login or credentials.find(name.domain)
        timeout = mirrors.MIRROR_TIMEOUT if endpoint.mirror else wire.CONNECT_TIMEOUT
        source = Source(endpoint, user, connect_timeout=timeout)
        if endpoint in dead:
            warn(f"mirror {endpoint.url} is skipped: it did not answer a moment ago")
            late.append(source)
        else:
            living.append(source)
    return living + late


def ask(source: Source, name: Reference, wanted: Platform) -> Found:
    """Ask one registry for the manifest; an index leads to the one for this platform."""
    registry = source.open()
    data, media_type, digest = registry.manifest(name.path, name.digest or name.tag)
    found = manifest.parse(data, media_type)
    if isinstance(found, Index):
        chosen = manifest.choose_platform(found, wanted)
        data, media_type, _ = registry.manifest(name.path, chosen.digest)
        found = manifest.parse(data, media_type or chosen.media_type)
        if isinstance(found, Index):
            raise MinidockError(f"{name.familiar}: an index inside an index is not supported")
    return Found(registry, [], digest, data, found.media_type, found)


def _nowhere(name: Reference, refusals: list[tuple[Endpoint, MinidockError]]) -> MinidockError:
    """The error when nobody had it: the registry's own word counts; the mirrors' answers explain it."""
    endpoint, last = next((each for each in refusals if not each[0].mirror), refusals[-1])
    if len(refusals) == 1 or not isinstance(last, (wire.Unreachable, wire.Interrupted)):
        return last
    lacking = [mirror.url for mirror, error in refusals if isinstance(error, (NotFound, auth.Denied))]
    if not lacking:
        return last
    return NotFound(
        f"{name.familiar}: not found on the mirror {lacking[0]}, and {last}",
        hint=f"Check the name, or this machine's connection to {endpoint.host}.",
    )
