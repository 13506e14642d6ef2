"""Where to ask for an image: the mirrors first, then the registry itself.

A *mirror* (镜像加速) keeps copies of what Docker Hub has, near by: quicker, and without the Hub's rate
limit. Mirrors come and go. A dead one must not cost every pull its connection timeout, so it is
remembered for a minute, in this process and (in ``<root>/tmp``) by the next ones.
"""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minidock import files
from minidock.config import Config
from minidock.errors import InvalidInput, MinidockError
from minidock.images.distribution import DEFAULT_DOMAIN
from minidock.images.session import Endpoint

HUB_URL = "https://registry-1.docker.io"
MIRROR_TIMEOUT = 1.5  # seconds to reach a mirror: it is near, or it is no use
MEMORY = 60.0  # seconds during which a dead mirror is not asked again


def endpoints(domain: str, config: Config) -> list[Endpoint]:
    """Whom to ask for images of *domain*, in order. Only Docker Hub has mirrors, as in Docker."""
    found = []
    if domain == DEFAULT_DOMAIN:
        for url in config.registry_mirrors:
            found.append(_mirror(url, config.insecure_registries))
    return [*found, origin(domain, config.insecure_registries)]


def origin(domain: str, trusted_hosts: tuple[str, ...] = ()) -> Endpoint:
    """The registry itself. Plain HTTP only on loopback and for insecure-registries; else https."""
    if domain == DEFAULT_DOMAIN:
        return Endpoint(domain, HUB_URL)
    trusted = is_trusted(domain, trusted_hosts)
    return Endpoint(domain, f"{'http' if trusted else 'https'}://{domain}", trusted)


def is_trusted(host: str, trusted_hosts: tuple[str, ...] = ()) -> bool:
    """Whether plain HTTP may be spoken with *host* (``name:port``).

    Yes for loopback, for a host listed (with or without its port), for an address in a listed block.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost") or host in trusted_hosts or name in trusted_hosts:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(address in block for block in _blocks(trusted_hosts))


def _blocks(trusted_hosts: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    blocks = []
    for entry in trusted_hosts:
        if "/" in entry:
            try:
                blocks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                raise InvalidInput(f"insecure-registries: {entry!r} is no address block") from None
    return blocks


def _mirror(url: str, trusted_hosts: tuple[str, ...]) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInput(
            f"registry-mirrors: {url!r} is not the URL of a mirror", hint="For example http://127.0.0.1:5000"
        )
    trusted = is_trusted(parts.netloc.rpartition("@")[2], trusted_hosts)
    return Endpoint(DEFAULT_DOMAIN, url.rstrip("/"), trusted, mirror=True)


class Dead:
    """The endpoints that did not answer a moment ago."""

    _here: dict[str, float] = {}  # noqa: RUF012 (shared by all on purpose: the memory of this process)

    def __init__(self, root: Path) -> None:
        self._file = root / "tmp" / "dead-mirrors.json"

    def __contains__(self, endpoint: Endpoint) -> bool:
        until = max(self._here.get(endpoint.url, 0.0), self._read().get(endpoint.url, 0.0))
        # A clock that was set back must not make a mirror dead for years.
        return 0 < until - time.time() <= MEMORY

    def add(self, endpoint: Endpoint) -> None:
        """Remember that *endpoint* did not answer."""
        self._here[endpoint.url] = time.time() + MEMORY
        self._write(self._read() | {endpoint.url: self._here[endpoint.url]})

    def discard(self, endpoint: Endpoint) -> None:
        """It answers again."""
        known = self._read()
        if self._here.pop(endpoint.url, None) or known.pop(endpoint.url, None):
            self._write({url: until for url, until in known.items() if url != endpoint.url})

    def _write(self, known: dict[str, float]) -> None:
        fresh = {url: until for url, until in known.items() if until > time.time()}
        with suppress(OSError):  # a memory that cannot be written only costs time
            files.write_json(self._file, fresh, sync=False)

    def _read(self) -> dict[str, float]:
        try:
            known: Any = files.read_json(self._file)
            return {str(url): float(when) for url, when in known.items()}
        except (MinidockError, AttributeError, TypeError, ValueError):
            return {}
