"""The one HTTP client: connections, redirects, TLS, and errors that say what went wrong.

It stands on the standard library's ``http.client`` and not on requests, for three reasons that were
measured: a layer streams with ``readinto`` into one reused buffer (no copy per chunk), importing it
costs 25 ms and 9 MiB less in every worker process, and nothing happens behind the reader's back: no
decoding, no retrying, no cookies. What a registry is asked is therefore exactly what the code says.

Every request is one step of the trace, its URL without secrets.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

from minidock import __version__, trace
from minidock.errors import InvalidInput, MinidockError
from minidock.images import proxies
from minidock.images.proxies import Proxy

CONNECT_TIMEOUT = 10.0  # seconds to reach a host, TLS handshake included
READ_TIMEOUT = 60.0  # seconds of silence in the middle of an answer
MAX_REDIRECTS = 5
CHUNK = 1 << 18  # bytes per read: Python's cost per chunk is gone, and it still fits the cache
USER_AGENT = f"minidock/{__version__}"

Body = bytes | Callable[[], Iterable[bytes]]  # a function, because a request may be sent again

# Query parameters that hold no secret. Signed download links and upload states do: they stay out
# of traces and messages.
_OPEN_PARAMETERS = frozenset({"n", "last", "q", "mount", "from", "digest", "service", "scope"})


class Unreachable(MinidockError):
    """Nobody there who speaks our protocol: no such host, refused, silent. Asking again is vain."""


class NotHttp(Unreachable):
    """Something answers, and it is not HTTP: perhaps TLS."""


class Interrupted(MinidockError):
    """The connection broke in the middle. Asking again may well help."""


class Response:
    """An answer whose body has not been read yet. Close it: the connection serves the next request."""

    def __init__(self, answer: http.client.HTTPResponse, url: str, release: Callable[[bool], None]) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.url = url
        self._answer = answer
        self._release = release
        self._whole: bytes | None = None

    def read(self, limit: int) -> bytes:
        """The body, at most *limit* bytes; again the same when asked again.

        Raises MinidockError when there is more.
        """
        if self._whole is not None:
            return self._whole
        with _errors_of(self.url):
            data = self._answer.read(limit + 1)
        if len(data) > limit:
            self.close()
            raise MinidockError(f"{shown(self.url)}: the answer is larger than {limit} bytes")
        if self._answer.length:  # the server promised more than it sent
            raise Interrupted(f"{shown(self.url)}: the connection closed in the middle of the answer")
        self._whole = data
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill *buffer* with the next bytes of the body; 0 at its end (or where the server cut it)."""
        with _errors_of(self.url):
            return self._answer.readinto(buffer)

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end costs the connection."""
        self._release(self._answer.isclosed())

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """Sends requests, keeping one idle connection per host. Not for use by two threads at once.

    *verify* False accepts any TLS certificate (insecure-registries only).
    """

    def __init__(self, *, connect_timeout: float = CONNECT_TIMEOUT, verify: bool = True) -> None:
        self.connect_timeout = connect_timeout
        self.verify = verify
        self._idle: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def request(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, body: Body = b""
    ) -> Response:
        """Send one request; redirects of GET and HEAD are followed.

        Raises Unreachable (nobody there), Interrupted (broke in the middle).
        Source: RFC 9110; OCI distribution specification, "Pulling blobs" (redirects).
        """
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        for _ in range(MAX_REDIRECTS + 1):
            response = self._once(method, url, sent, body)
            target = response.headers.get("Location")
            if (
                method not in ("GET", "HEAD")
                or response.status not in (301, 302, 303, 307, 308)
                or not target
            ):
                return response
            response.close()
            next_url = urljoin(url, target)
            sent = _headers_for_redirect(sent, url, next_url)
            url = next_url
        raise MinidockError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.popitem()[1].close()

    def _once(self, method: str, url: str, headers: dict[str, str], body: Body) -> Response:
        parts = urlsplit(url)
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        key = (parts.scheme, parts.netloc)
        proxy = proxies.find(*key) if parts.scheme in ("http", "https") else None
        if proxy and parts.scheme == "http":  # it is told the whole URL; through TLS it only tunnels
            path, headers = f"http://{parts.netloc.rpartition('@')[2]}{path}", headers | proxy.headers
        with trace.step(method, url=shown(url)) as step, _errors_of(url):
            connection = self._idle.pop(key, None)
            reused = connection is not None
            while True:
                connection = connection or self._connect(*key, proxy)
                try:
                    connection.request(method, path, body() if callable(body) else body or None, headers)
                    answer = connection.getresponse()
                    break
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    connection.close()
                    if not reused:
                        raise
                    connection, reused = None, False  # the server had closed the idle connection: a new one
                except BaseException:
                    connection.close()
                    raise
            if proxy and answer.status == http.client.PROXY_AUTHENTICATION_REQUIRED:
                connection.close()
                raise _refused(parts.netloc.rpartition("@")[2], proxy, f"{answer.status} {answer.reason}")
            step.result = f"{answer.status} {answer.reason}, {_length(answer)}"
        kept = connection

        def release(finished: bool) -> None:
            if (finished or method == "HEAD") and kept.sock is not None:
                answer.close()
                self._idle[key] = kept
            else:
                kept.close()

        return Response(answer, url, release)

    def _connect(self, scheme: str, netloc: str, proxy: Proxy | None) -> http.client.HTTPConnection:
        host = urlsplit(f"//{netloc}")
        there, port = (proxy.host, proxy.port) if proxy else (host.hostname or "", host.port)
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(
                there, port, timeout=self.connect_timeout, context=_tls(self.verify)
            )
            if proxy:
                connection.set_tunnel(host.hostname or "", host.port or 443, proxy.headers)
        elif scheme == "http":
            connection = http.client.HTTPConnection(there, port, timeout=self.connect_timeout)
        else:
            raise MinidockError(f"{scheme}://{netloc}: only http and https are spoken here")
        connection.blocksize = CHUNK
        try:
            connection.connect()
        except UnicodeError:
            raise InvalidInput(f"{netloc!r} is no name of a host") from None
        except OSError as error:  # nothing was asked yet: nobody is there
            raise _unreachable(netloc.rpartition("@")[2], error, self.connect_timeout, proxy) from None
        connection.sock.settimeout(READ_TIMEOUT)
        return connection


def patiently(ask: Callable[[], Response], attempts: int = 4) -> Response:
    """Ask again, a little later each time, while the server answers 5xx or the connection breaks.

    A 4xx is an answer: asking again would not change it. Returns the last answer, or raises Interrupted.
    """
    for last in backoff(attempts):
        try:
            response = ask()
        except Interrupted:
            if last:
                raise
            continue
        if response.status < 500 or last:
            return response
        response.close()
    raise AssertionError("unreachable")


def backoff(attempts: int, first: float = 0.25) -> Iterator[bool]:
    """Yield *attempts* times, pausing in between: 0.25, 0.5, 1 … seconds. True marks the last attempt.

    A little chance in each pause keeps a classroom from knocking in step.
    """
    for number in range(attempts):
        if number:
            time.sleep(first * 2 ** (number - 1) * random.uniform(0.75, 1.25))
        yield number == attempts - 1


def same_origin(one: str, other: str) -> bool:
    """Whether both URLs lead to the same scheme, host and port."""
    return urlsplit(one)[:2] == urlsplit(other)[:2]


def shown(url: str) -> str:
    """*url* for messages and traces: without passwords, signatures and upload states."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = "&".join(f"{key}={value}" for key, value in query if key in _OPEN_PARAMETERS)
    if any(key not in _OPEN_PARAMETERS for key, _ in query):
        kept += "&…" if kept else "…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, kept, ""))


def _headers_for_redirect(headers: dict[str, str], old: str, new: str) -> dict[str, str]:
    before, after = urlsplit(old), urlsplit(new)
    if before.scheme == "https" and after.scheme != "https":
        raise MinidockError(f"{shown(old)} redirects to plain HTTP ({shown(new)}): refused")
    if same_origin(old, new):
        return headers
    # A redirect to a storage host is not a reason to hand it our password or token.
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _length(answer: http.client.HTTPResponse) -> str:
    return f"{answer.length} bytes" if answer.length is not None else "length unknown"


@cache
def _tls(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()  # the system's authorities, or SSL_CERT_FILE / SSL_CERT_DIR
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _errors_of:  # noqa: N801 (reads as a phrase: with _errors_of(url))
    """Turn what sockets, TLS and http.client raise into one clear line."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, (OSError, http.client.HTTPException)):
            return
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            raise NotHttp(f"{host}: what answers there is not an HTTP server") from None
        what = "fell silent" if isinstance(error, TimeoutError) else "broke the connection"
        raise Interrupted(f"{host}: the server {what} during {shown(self.url)}") from None


def _refused(host: str, proxy: Proxy, reason: str) -> Unreachable:
    return Unreachable(
        f"{host}: the proxy {proxy} does not let us through: {reason.lower()}",
        hint="HTTP_PROXY, HTTPS_PROXY, NO_PROXY, or proxies in /etc/minidock/daemon.json, say so.",
    )


def _unreachable(host: str, error: OSError, patience: float, proxy: Proxy | None) -> Unreachable:
    if proxy and not isinstance(error, ssl.SSLError):
        return _refused(
            host, proxy, (error.strerror or str(error)).removeprefix("Tunnel connection failed: ")
        )
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{host}: no such host", hint="Check the name, and that this machine has DNS.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{host}: its TLS certificate is not trusted: {error.verify_message}",
            hint="Install the authority that signed it (update-ca-certificates, or SSL_CERT_FILE).",
        )
    if isinstance(error, ssl.SSLError):
        return Unreachable(
            f"{host}: no TLS there ({(error.reason or str(error)).replace('_', ' ').lower()})",
            hint='List a registry on plain HTTP in "insecure-registries" of /etc/minidock/daemon.json.',
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{host}: connection refused", hint="Is a registry listening on that address?")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{host}: no answer within {patience:g} s")
    reason = error.strerror or str(error)
    return Unreachable(f"{host}: {reason[:1].lower()}{reason[1:]}")
