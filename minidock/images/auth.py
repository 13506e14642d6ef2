"""How a registry knows who asks: a challenge, and then a token or a password.

A registry that wants to know answers 401 with ``WWW-Authenticate``. ``Basic`` asks for the password
itself. ``Bearer`` names a *token server* (the realm): the client shows its password there, says what it
wants to do (the *scope*: ``repository:library/busybox:pull``), and gets a short-lived token that only
allows that. Even an anonymous pull from Docker Hub goes this way.

Source: distribution specification, docs/spec/auth/token.md and oauth.md; RFC 9110, 11.6.1; RFC 6750.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from minidock import trace
from minidock.errors import MinidockError
from minidock.images import distribution, wire

MARGIN = 10.0  # seconds before its end at which a token counts as expired, as the request takes time too
_MAX_ANSWER = 1 << 20

_PARAMETERS = re.compile(rf"(?:{distribution.PARAMETER})*")
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$)(?!\s*=)")


class Denied(MinidockError):
    """The registry knows who asks (or that nobody did) and says no."""

    status = 401


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an *identity_token* in the password's place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an ``Authorization: Basic`` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ``WWW-Authenticate`` challenge; *scheme* is lower case."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, used until *expires* (seconds since the epoch), a little before its real end."""

    value: str = field(repr=False)
    expires: float

    def is_fresh(self) -> bool:
        """Whether it can still be used for a request that starts now."""
        return time.time() < self.expires


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """Read ``WWW-Authenticate`` headers; one header may hold several challenges.

    ``Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="…"``
    """
    found: list[Challenge] = []
    for header in headers:
        position = 0
        while match := _SCHEME.match(header, position):
            rest = _PARAMETERS.match(header, match.end())
            assert rest is not None  # it also matches nothing
            position = rest.end()
            parameters = distribution.parse_parameters(rest[0])
            fields = {key: parameters.get(key, "") for key in ("realm", "service", "scope", "error")}
            found.append(Challenge(match[1].lower(), **fields))
    return found


@trace.mechanism(lesson=6)
def fetch_token(
    client: wire.Client, challenge: Challenge, scopes: list[str], credentials: Credentials | None
) -> Token:
    """Exchange a password (or nobody's name) for a short-lived token that only allows what we asked for.

    Raises Denied when the token server refuses the password.
    """
    if credentials and credentials.identity_token:
        form = [("service", challenge.service)] if challenge.service else []
        form += [("client_id", "minidock"), ("grant_type", "refresh_token")]
        form += [("refresh_token", credentials.identity_token), ("scope", " ".join(scopes))]
        sent = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form).encode()
        response = wire.patiently(lambda: client.request("POST", challenge.realm, headers=sent, body=body))
    else:
        headers = {"Authorization": credentials.basic()} if credentials else {}
        url = distribution.token_url(challenge.realm, challenge.service, scopes)
        response = wire.patiently(lambda: client.request("GET", url, headers=headers))
    with response:
        if response.status in (400, 401, 403):
            who = (
                f"the password of {credentials.username!r}" if credentials and credentials.username else "us"
            )
            raise Denied(f"{wire.shown(challenge.realm)} does not accept {who} ({response.status})")
        if response.status != 200:
            raise MinidockError(f"{wire.shown(challenge.realm)}: no token: status {response.status}")
        return _read_token(response.read(_MAX_ANSWER), wire.shown(challenge.realm))


def check_realm(challenge: Challenge, registry_url: str, *, trusted: bool) -> None:
    """Refuse to carry a password over plain HTTP because some answer says so.

    *trusted* registries (loopback, insecure-registries) may name a token server on plain HTTP.
    """
    scheme = urlsplit(challenge.realm).scheme
    if scheme != "https" and not (scheme == "http" and trusted):
        raise MinidockError(f"{registry_url}: names a token server that is not on https: {challenge.realm!r}")


def _read_token(data: bytes, realm: str) -> Token:
    try:
        value, lifetime = distribution.read_token(data)
    except MinidockError as error:
        raise MinidockError(f"{realm}: {error}") from None
    # Counted from now by our own clock: the server's "issued_at" would need clocks that agree.
    return Token(value, time.time() + max(lifetime - MARGIN, lifetime / 2))
