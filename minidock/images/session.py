"""One conversation with a registry, as one user: where to ask, who asks, and what a refusal means.

The protocol itself is in registry.py; this is what each of its requests needs. The first 401 is
answered with a token or a password (auth.py), 5xx and broken connections are asked again a little
later (wire.py), and any other refusal becomes one line in the words that people know from Docker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from minidock.errors import MinidockError, NotFound
from minidock.images import auth, wire
from minidock.images.auth import Credentials, Denied
from minidock.images.distribution import DEFAULT_DOMAIN, OFFICIAL

MAX_ERROR = 1 << 16  # bytes of an error answer that are read


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask. *domain* is the registry's name in references, *url* the base URL behind it.

    *trusted*: loopback or listed in insecure-registries, so plain HTTP and any certificate will do.
    *mirror*: a stand-in that is asked first.
    """

    domain: str
    url: str
    trusted: bool = False
    mirror: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What ``RateLimit-*`` headers say: *remaining* of *limit* pulls in *window* seconds (None: unsaid)."""

    limit: int | None
    remaining: int | None
    window: int | None

    def __str__(self) -> str:
        hours = f" in {self.window / 3600:g} h" if self.window else ""
        return f"{self.remaining} of {self.limit if self.limit is not None else '?'} pulls left{hours}"


class TooManyRequests(MinidockError):
    """The registry's rate limit is used up."""

    status = 429


class NoAccess(Denied):
    """A repository that does not exist, or not for us: who may not read it learns no more than that."""

    status = 404


class Session:
    """Sends requests to one registry. Keeps a connection and the tokens; not for two threads at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None = None,
        *,
        connect_timeout: float = wire.CONNECT_TIMEOUT,
    ) -> None:
        if endpoint.url.startswith("http:") and not endpoint.trusted:
            raise MinidockError(
                f"{endpoint.host}: plain HTTP is spoken only with loopback and insecure-registries",
                hint=f'Add "{endpoint.host}" to "insecure-registries" in /etc/minidock/daemon.json.',
            )
        self.endpoint = endpoint
        self.url = endpoint.url.rstrip("/")
        self.credentials = credentials
        self.rate_limit: RateLimit | None = None
        self.tokens: dict[str, auth.Token] = {}  # by scope
        self._client = wire.Client(connect_timeout=connect_timeout, verify=not endpoint.trusted)
        self._basic = False
        self._heard = False

    def name(self, repository: str) -> str:
        """*repository* as people write it: ``busybox``, ``host:5000/app``."""
        if self.endpoint.domain == DEFAULT_DOMAIN:
            return repository.removeprefix(OFFICIAL)
        return f"{self.endpoint.domain}/{repository}"

    def send(
        self,
        method: str,
        path: str,
        scope: str,
        headers: dict[str, str] | None = None,
        body: wire.Body = b"",
        attempts: int = 4,
    ) -> wire.Response:
        """One request with the right Authorization: a 401 is answered once, then it is final."""
        response = self._ask(method, path, scope, headers or {}, body, attempts)
        if response.status == 401 and self._authorise(response, scope):
            response.close()
            response = self._ask(method, path, scope, headers or {}, body, attempts)
        self._heard = True
        self._note_limits(response)
        return response

    def _ask(
        self, method: str, path: str, scope: str, headers: dict[str, str], body: wire.Body, attempts: int
    ) -> wire.Response:
        def once() -> wire.Response:
            url = path if "://" in path else self.url + path
            sent = dict(headers)
            # An upload's place may be on another host: our token is not for that one.
            if wire.same_origin(url, self.url) and (secret := self._secret(scope)):
                sent["Authorization"] = secret
            return self._client.request(method, url, headers=sent, body=body)

        if self._heard or not self.endpoint.trusted or not self.url.startswith("http:"):
            return wire.patiently(once, attempts)
        return self._first_contact(once, attempts)

    def _first_contact(self, once: Callable[[], wire.Response], attempts: int) -> wire.Response:
        """A trusted registry may speak HTTP or HTTPS: the first answer tells."""
        try:
            response = once()
            if response.status != 400 or b"HTTPS" not in response.read(MAX_ERROR):
                return response if response.status < 500 else wire.patiently(once, max(1, attempts - 1))
        except (wire.Interrupted, wire.NotHttp):
            pass  # what a TLS server makes of plain HTTP, or a registry that is just starting
        plain, self.url = self.url, "https" + self.url.removeprefix("http")
        try:
            return once()
        except wire.Unreachable:
            self.url = plain
            return wire.patiently(once, attempts)

    def _secret(self, scope: str) -> str:
        token = self.tokens.get(scope)
        if token is not None and token.is_fresh():
            return f"Bearer {token.value}"
        if self._basic and self.credentials:
            return self.credentials.basic()
        return ""

    def _authorise(self, response: wire.Response, scope: str) -> bool:
        """Answer a 401; False when there is nothing (more) that we could say."""
        for challenge in auth.parse_challenges(response.headers.get_all("WWW-Authenticate") or []):
            if challenge.scheme == "bearer" and challenge.realm:
                auth.check_realm(challenge, self.url, trusted=self.endpoint.trusted)
                wanted = sorted({*scope.split(), *challenge.scope.split()})
                self.tokens[scope] = auth.fetch_token(self._client, challenge, wanted, self.credentials)
                return True
            if challenge.scheme == "basic" and self.credentials and not self._basic:
                self._basic = True
                return True
        return False

    def _note_limits(self, response: wire.Response) -> None:
        remaining = _limit(response.headers.get("RateLimit-Remaining", ""))
        limit = _limit(response.headers.get("RateLimit-Limit", ""))
        if remaining or limit:
            number, window = limit or remaining or (0, None)
            self.rate_limit = RateLimit(
                number if limit else None,
                remaining[0] if remaining else None,
                window or (remaining or (0, None))[1],
            )

    def refuse(
        self, response: wire.Response, repository: str, reference: str, verb: str = "pull"
    ) -> NoReturn:
        """Raise the error that says what the registry's refusal means."""
        name, host, status = self.name(repository), self.endpoint.host, response.status
        told = _told(response)
        if status == 429:
            raise _rate_limited(response, host, self.rate_limit)
        if status in (401, 403):
            if not repository:
                raise Denied(f"{host}: access denied{told and ': ' + told}")
            if verb == "push":
                raise Denied(f"denied: requested access to {name} is denied", hint=_login(self.endpoint))
            raise NoAccess(
                f"pull access denied for {name}, repository does not exist or may require 'minidock login'",
                hint=_login(self.endpoint),
            )
        if status == 404 and told:
            if ":" in reference and "blob" in told:
                raise NotFound(f"{host} lacks {reference[:19]} of {name}: {told}")
            separator = "@" if ":" in reference else ":"
            raise NotFound(f"manifest for {name}{separator}{reference} not found: {told}")
        if status == 404:
            raise MinidockError(f"{host}: not a registry: it answers 404 to {wire.shown(response.url)}")
        raise MinidockError(f"{host}: {verb} {name} failed: {told or 'status'} ({status})".replace(" :", ":"))


def _limit(header: str) -> tuple[int, int | None] | None:
    """``"100;w=21600"`` → (100, 21600)."""
    found = re.match(r"\s*(\d+)\s*(?:;\s*w\s*=\s*(\d+))?", header)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else None


def _told(response: wire.Response) -> str:
    """The registry's own words: ``manifest unknown``; empty when it sent none of a registry's errors."""
    try:
        first: Any = json.loads(response.read(MAX_ERROR))["errors"][0]
        words = str(first.get("message") or first.get("code", "")).strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, MinidockError):
        return ""
    return re.sub(r"[^ -~]+", " ", words)[:200]


def _rate_limited(response: wire.Response, host: str, limit: RateLimit | None) -> TooManyRequests:
    wait = response.headers.get("Retry-After", "")
    when = f"Try again in {wait} s. " if wait.isdigit() else ""
    allowed = (
        f" ({limit.limit} pulls{f' in {limit.window / 3600:g} h' if limit.window else ''})"
        if limit and limit.limit
        else ""
    )
    return TooManyRequests(
        f"{host}: too many requests: its rate limit{allowed} is used up",
        hint=f"{when}A mirror (registry-mirrors in /etc/minidock/daemon.json) or a login helps.",
    )


def _login(endpoint: Endpoint) -> str:
    server = "" if endpoint.domain == DEFAULT_DOMAIN else f" {endpoint.domain}"
    return f"Check the name, or log in: minidock login{server}"
