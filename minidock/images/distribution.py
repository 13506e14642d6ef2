"""What a client of a registry must know, without a connection: names, tokens, platforms, ranges.

What a pull must decide is a small function each; the requests themselves are in registry.py::

    docker.io/library/busybox:latest    split_domain, split_suffix    whom to ask, and for what
    401, WWW-Authenticate: Bearer …     parse_parameters, token_url,  who we are
                                        read_token
    the manifest                        check_manifest                is it the one we asked for?
    the index                           choose_platform               which image fits this machine?
    a blob, from byte 1000 on           open_blob, new_bytes          go on where it broke

Lab 06 has the student write them (see layers.py).

Source: OCI distribution specification 1.1; distribution, docs/spec/auth/token.md; RFC 9110, 11.2 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from minidock import trace
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.images.wire import Response

DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library/"  # where Docker Hub keeps the images without a user name
DEFAULT_LIFETIME = 60.0  # seconds a token lives when its server names no time
DEFAULT_VARIANT = {"arm64": "v8", "amd64": "v1", "arm": "v7"}  # what an unnamed variant means

PARAMETER = r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))'


def split_domain(text: str) -> tuple[str, str]:
    """``"user/app"`` → ``("docker.io", "user/app")``; ``"host:5000/app"`` → ``("host:5000", "app")``.

    The first word is a registry only when it could not be a user of Docker Hub: it has a dot, a port
    or upper case, or is ``localhost``. So ``registry/app`` names a user called "registry".
    """
    first, slash, rest = text.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    domain, path = (first, rest) if slash and is_host else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":  # the Hub's name of old
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = OFFICIAL + path
    return domain, path


def split_suffix(rest: str) -> tuple[str, str | None, str | None]:
    """``"app:1.0@sha256:…"`` → ``("app", "1.0", "sha256:…")``; None for the parts that are not there."""
    named, at, digest = rest.partition("@")
    path, colon, tag = named.partition(":")  # a path holds no colon: ports went with the domain
    return path, tag if colon else None, digest if at else None


def parse_parameters(text: str) -> dict[str, str]:
    """``'realm="https://…",service="hub"'`` → ``{"realm": "https://…", "service": "hub"}``.

    A value in quotes may hold commas: ``scope="repository:app:pull,push"``.
    """
    found = {}
    for name, quoted, plain in re.findall(PARAMETER, text):
        found[name.lower()] = plain or re.sub(r"\\(.)", r"\1", quoted)
    return found


def token_url(realm: str, service: str, scopes: list[str]) -> str:
    """The URL at which the token server *realm* gives a token that only allows *scopes*.

    One ``scope=`` for each; no ``service=`` when the registry named none.
    """
    from urllib.parse import urlencode

    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    return realm + (("&" if "?" in realm else "?") + urlencode(query) if query else "")


def read_token(answer: bytes) -> tuple[str, float]:
    """The token in a token server's JSON answer, and the seconds it lives.

    It is called ``token`` or ``access_token``. Raises MinidockError when there is none.
    """
    import json

    try:
        fields = json.loads(answer)
        token = fields.get("token") or fields.get("access_token")
        lifetime = float(fields.get("expires_in") or DEFAULT_LIFETIME)
    except (ValueError, AttributeError, TypeError):
        token, lifetime = None, 0.0
    if not isinstance(token, str) or not token:
        raise MinidockError("the token server's answer holds no token")
    return token, lifetime


def check_manifest(reference: str, claimed: str, data: bytes) -> str:
    """Return the digest of the manifest *data*; refuse it when it is not what was asked for.

    *reference* is the tag or digest that was asked for, *claimed* the registry's Docker-Content-Digest
    (or empty). A digest that we asked for counts more than what the registry claims.
    """
    import hashlib

    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    expected = reference if ":" in reference else claimed
    if expected.startswith("sha256:") and expected != digest:
        raise MinidockError(
            f"digest mismatch: asked for {expected}, got {digest}",
            hint="The content was damaged or exchanged on its way; nothing of it was used.",
        )
    return digest


def choose_platform(offered: list[str], wanted: str) -> int | None:
    """The position of the best of *offered* platforms (``"linux/arm/v7"``) for *wanted*; None: no fit.

    The nearest variant that is not newer wins: arm/v7 also runs v6, amd64 never takes amd64/v3.
    """
    system, architecture, level = _split_platform(wanted)
    fitting = []
    for position, text in enumerate(offered):
        *kind, older = _split_platform(text)
        if kind == [system, architecture] and older <= level:
            fitting.append((level - older, position))
    return min(fitting)[1] if fitting else None


def _split_platform(text: str) -> tuple[str, str, int]:
    """``"linux/arm/v7"`` → ``("linux", "arm", 7)``."""
    system, architecture, variant = (*text.split("/"), "", "")[:3]
    digits = (variant or DEFAULT_VARIANT.get(architecture, "")).removeprefix("v").partition(".")[0]
    return system, architecture, int(digits) if digits.isdigit() else 0


@trace.mechanism(lesson=6)
def open_blob(get: Callable[[dict[str, str]], Response], start: int) -> tuple[Response, int]:
    """Begin to fetch a blob, from byte *start* on when the registry can do that.

    *get* sends the request with these headers. Returns the answer and the offset in the blob at which
    its body really begins. An answer that is no success comes back with 0: the caller knows what it means.
    """
    answer = get({"Range": f"bytes={start}-"} if start else {})
    if answer.status == 206:  # Partial Content
        begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        return answer, int(begins[1]) if begins else start
    if answer.status == 416 and start:  # there is nothing after *start*: begin anew
        answer.close()
        return get({}), 0
    return answer, 0  # 200: this registry ignores ranges and sends everything


def new_bytes(block: memoryview, at: int, have: int) -> memoryview:
    """What *block*, which begins at offset *at* of the blob, adds to the first *have* bytes."""
    return block[max(0, have - at) :]
