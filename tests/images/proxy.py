"""A small proxy in front of a real registry that plays what a loopback registry never does.

Tokens, passwords, rate limits, redirects, and faults: cut connections, wrong bytes, too many or too few,
servers that fail a few times and then work. Everything else is the real registry's answer.

    with Proxy("127.0.0.1:5000") as proxy:
        proxy.fault("/blobs/", cut_after=1000, times=2)
        pull(f"{proxy.host}/busybox")
        assert proxy.asked("GET", "/blobs/")[1].headers["Range"] == "bytes=1000-"
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Fault:
    """What to do to answers whose request matches; *times* of them (None: all)."""

    pattern: str
    method: str = "GET"
    times: int | None = None
    status: int | None = None  # answer this without asking the registry
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None  # bytes of the body, then the connection breaks
    extra: bytes = b""  # sent beyond the body
    replace: bytes | None = None  # sent instead of the body
    flip: bool = False  # one byte of the body is another
    honest_length: bool = True  # False: Content-Length stays the real one
    ignore_range: bool = False
    redirect: str = ""  # a base URL: 307 to it + path
    hang: float = 0.0  # seconds of silence after half of the body


@dataclass
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]


class Proxy:
    """Listens on 127.0.0.1 (of the network namespace of the thread that makes it)."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        self.upstream = upstream
        self.requests: list[Asked] = []
        self.faults: list[Fault] = []
        self.headers: dict[str, str] = {}  # added to every answer
        self.users: dict[str, str] = {}  # with users, or with tokens, a login is asked for
        self.bearer = False
        self.lifetime = 300  # seconds a token lives
        self.public = True  # anonymous tokens allow pulling
        self.tokens: dict[str, tuple[float, str]] = {}  # token → end of life, scopes
        self.lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.server = _Server(("127.0.0.1", port), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Add a fault for requests whose path matches the regular expression *pattern*."""
        self.faults.append(Fault(pattern, **what))
        return self.faults[-1]

    def asked(self, method: str, pattern: str) -> list[Asked]:
        """The requests that came in, in order."""
        return [each for each in self.requests if each.method == method and re.search(pattern, each.path)]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and re.search(fault.pattern, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_any(self) -> None:
        owner = self.owner
        owner.requests.append(Asked(self.command, self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/token"):
            self._token(body)
            return
        if not self._allowed():
            return
        fault = owner.take_fault(self.command, self.path) or Fault("")
        if fault.redirect:
            self._answer(307, {"Location": fault.redirect + self.path}, b"")
        elif fault.status is not None:
            self._answer(fault.status, fault.headers, fault.body)
        else:
            self._forward(body, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _forward(self, body: bytes, fault: Fault) -> None:
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("authorization",)}
        if fault.ignore_range:
            headers.pop("Range", None)
        connection = http.client.HTTPConnection(self.owner.upstream)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        kept = {
            key: value
            for key, value in answer.getheaders()
            if key.lower() not in ("content-length", "transfer-encoding", "connection", "date")
        }
        length = int(answer.headers.get("Content-Length") or len(data))
        self._answer(answer.status, kept | fault.headers, data, fault, length)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        fault: Fault | None = None,
        length: int | None = None,
    ) -> None:
        fault = fault or Fault("")
        sent = data if fault.replace is None else fault.replace
        if fault.flip and sent:
            sent = sent[:-20] + bytes([sent[-20] ^ 1]) + sent[-19:]
        sent += fault.extra
        announced = len(sent) if fault.honest_length and self.command != "HEAD" else (length or len(data))
        self.send_response(status)
        for key, value in (headers | self.owner.headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.cut_after is not None:
            self.wfile.write(sent[: fault.cut_after])
            self.close_connection = True
        elif fault.hang:
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            time.sleep(fault.hang)
            self.close_connection = True
        else:
            self.wfile.write(sent)
            if len(sent) != announced:
                self.close_connection = True

    # ── who may ask ──────────────────────────────────────────────────────────────────────────────

    def _allowed(self) -> bool:
        owner = self.owner
        given = self.headers.get("Authorization", "")
        if owner.bearer:
            return self._has_token(given)
        if owner.users and _user(given, owner.users) is None:
            self._refuse(401, {"WWW-Authenticate": 'Basic realm="test registry"'}, "UNAUTHORIZED")
            return False
        return True

    def _has_token(self, given: str) -> bool:
        needed = self._needed_scope()
        ends, scopes = self.owner.tokens.get(given.removeprefix("Bearer "), (0.0, ""))
        name, _, actions = needed.rpartition(":")
        granted = {
            action
            for scope in scopes.split()
            if scope.rpartition(":")[0] == name
            for action in scope.rpartition(":")[2].split(",")
        }
        if ends > time.time() and (not needed or set(actions.split(",")) <= granted):
            return True
        challenge = f'Bearer realm="{self.owner.url}/token",service="test-registry"'
        if needed:
            challenge += f',scope="{needed}"'
        self._refuse(401, {"WWW-Authenticate": challenge}, "UNAUTHORIZED")
        return False

    def _needed_scope(self) -> str:
        path = urlsplit(self.path).path
        if path.startswith("/v2/_catalog"):
            return "registry:catalog:*"
        found = re.match(r"/v2/(.+)/(?:blobs|manifests|tags)/", path)
        if not found:
            return ""
        return f"repository:{found[1]}:{'pull' if self.command in ('GET', 'HEAD') else 'pull,push'}"

    def _token(self, body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query) | parse_qs(body.decode())
        given = self.headers.get("Authorization", "")
        user = _user(given, self.owner.users)
        if given and user is None:
            self._refuse(401, {}, "UNAUTHORIZED")
            return
        scopes = []
        for scope in " ".join(query.get("scope", [])).split():
            name, _, actions = scope.rpartition(":")
            if user or not self.owner.users:
                scopes.append(scope)
            elif self.owner.public and "pull" in actions.split(","):
                scopes.append(f"{name}:pull")
        token = f"token-{len(self.owner.tokens)}-of-{user}"
        self.owner.tokens[token] = (time.time() + self.owner.lifetime, " ".join(scopes))
        answer = {"token": token, "expires_in": self.owner.lifetime}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _refuse(self, status: int, headers: dict[str, str], code: str) -> None:
        message = {"errors": [{"code": code, "message": "authentication required"}]}
        self._answer(status, headers | {"Content-Type": "application/json"}, json.dumps(message).encode())


def _user(given: str, users: dict[str, str]) -> str | None:
    if not given.startswith("Basic "):
        return None
    name, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
    return name if users.get(name) == password else None
