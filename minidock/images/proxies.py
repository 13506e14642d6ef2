"""Which HTTP proxy a request goes through: from many schools and companies nothing else gets out.

As dockerd: what ``proxies`` in daemon.json says, else the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY
(also in lower case). The machine itself is never reached through a proxy.

Source: Docker, "Daemon proxy configuration"; Go's golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from minidock.config import PROXIES
from minidock.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where to connect instead, and what to say there. *headers* hold its password, if it has one."""

    host: str
    port: int
    headers: dict[str, str]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def use(settings: dict[str, str]) -> None:
    """Let the settings of daemon.json stand above the environment's, here and in the processes we start."""
    for key, value in settings.items():
        os.environ[PROXIES[key]] = value


def setting(key: str) -> str:
    """What counts for ``http-proxy``, ``https-proxy`` or ``no-proxy``."""
    name = PROXIES[key]
    return os.environ.get(name) or os.environ.get(name.lower()) or ""


def shown(key: str) -> str:
    """The same without passwords, for people to read."""
    text = setting(key)
    address, _, host = text.rpartition("@")
    scheme = address.partition("://")[0] + "://" if "://" in address else ""
    return f"{scheme}xxxxx:xxxxx@{host}" if address and key != "no-proxy" else text


def find(scheme: str, netloc: str) -> Proxy | None:
    """The proxy between us and *netloc* (``host:port``), or None. Raises InvalidInput for a malformed one."""
    text = setting(f"{scheme}-proxy")
    if not text or _goes_direct(scheme, netloc):
        return None
    name = PROXIES[f"{scheme}-proxy"]
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise InvalidInput(
            f"{name}: {shown(f'{scheme}-proxy')!r} is no HTTP proxy", hint="Write http://HOST:PORT."
        )
    headers = {}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    return Proxy(parts.hostname, port, headers)


def _goes_direct(scheme: str, netloc: str) -> bool:
    parts = urlsplit(f"//{netloc}")
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if scheme == "https" else 80)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in setting("no-proxy").split(","))
    return any(_matches(entry, host, address, port) for entry in entries if entry)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, address: Address | None, port: int) -> bool:
    """Whether an entry of NO_PROXY means *host*: ``*``, a network, an address or a domain, with its port."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        entry = name
    entry = entry.removeprefix("[").removesuffix("]")
    if address is not None:
        return address == _address(entry)
    below = entry.removeprefix("*")
    return host == below or host.endswith(below if below.startswith(".") else f".{below}")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
