"""One connection: requests in, answers out, whatever a client sends.

Each connection has a thread. Reading has deadlines; an endpoint that waits for long hears when its client
hangs up; a failure becomes an answer, never the end of the daemon.
"""

from __future__ import annotations

import io
import json
import socket
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote

from minidock import __version__
from minidock.engine import Engine
from minidock.server import errors, routes
from minidock.server.errors import NotModified, Refused
from minidock.server.inbox import Body, Inbox
from minidock.server.request import JSON, Reply, Request
from minidock.server.streams import failure, part

IDLE = 300.0  # seconds that a connection may be silent between two requests
HEAD = 20.0  # seconds for a request's line and headers
PAUSE = 60.0  # seconds that a body may pause
_BUFFER = 8192  # bytes, for heads (bodies go past it): larger ones, of many clients, leave holes in memory
_SKIPPED = 8 << 20  # bytes of an unwanted body that are read, so that the client hears the answer
COMMON = [
    ("Api-Version", "{}.{}".format(*routes.NEWEST)),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", f"minidock/{__version__} (linux)"),
]


class Handler(BaseHTTPRequestHandler):
    """See http.server: one object for each connection."""

    protocol_version = "HTTP/1.1"
    engine: Engine  # set by whoever serves
    table: routes.Table

    def setup(self) -> None:
        self.connection = self.request
        self.inbox = Inbox(self.connection)
        self.rfile = self.source = io.BufferedReader(self.inbox, _BUFFER)
        self.wfile = _Outbox(self.connection)

    def finish(self) -> None:
        self.rfile.close()

    def handle(self) -> None:
        self.close_connection = True
        try:
            self.handle_one_request()
            while not self.close_connection:
                self.handle_one_request()
        except OSError:  # it hung up, or was silent for too long
            return

    def handle_one_request(self) -> None:
        self.inbox.allow(IDLE)
        try:
            if not self.source.peek(1):
                self.close_connection = True
                return
        except TimeoutError:
            self.close_connection = True
            return
        self.inbox.allow(HEAD)
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if len(self.raw_requestline) > 65536:
                self.command = ""
                self.send_error(414, "the request line is too long")
                self.close_connection = True
            elif not self.raw_requestline.strip():
                self.command = ""
                self.send_error(errors.BAD_REQUEST, "an empty line is no request")
            elif self.parse_request():
                self.inbox.allow(None, PAUSE)
                self._serve()
        except TimeoutError:
            self.command = ""
            self.send_error(errors.TIMEOUT, "the request did not come within its time")
            self.close_connection = True

    # --- a request -------------------------------------------------------------------------------

    def _serve(self) -> None:
        request: Request | None = None
        try:
            if self.request_version == "HTTP/0.9":
                raise Refused(errors.BAD_REQUEST, "HTTP/0.9 is not spoken here")
            request = self._request()
            endpoint, request.parameters = self.table.find(request.method, request.path)
            reply = endpoint(request)
            if not request.began:
                self._send(reply if isinstance(reply, Reply) else Reply(204 if reply is None else 200, reply))
            elif request.stream is not None:
                request.stream.end()
        except NotModified:
            self._send(Reply(304))
        except ConnectionError:
            self.close_connection = True
        except Exception as error:
            self._fail(request, error)
        finally:
            if request is not None:
                self._leave(request)

    def _request(self) -> Request:
        if len(set(self.headers.get_all("Content-Length", []))) > 1:
            raise Refused(errors.BAD_REQUEST, "more than one Content-Length")
        path, _, query = self.path.partition("?")
        body = Body(
            self.rfile,  # type: ignore[arg-type]
            self.headers.get("Content-Length"),
            self.headers.get("Transfer-Encoding", ""),
        )
        try:
            fields = parse_qs(query, keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            raise Refused(errors.BAD_REQUEST, "too many query parameters") from None
        if "\0" in unquote(self.path):
            raise Refused(errors.BAD_REQUEST, "invalid path: it holds a zero byte")
        version, rest = routes.split_version(path)
        method = self.command
        if method == "HEAD" and not rest.endswith(("/_ping", "/archive")):
            method = "GET"  # the same without the body
        return Request(
            self.engine,
            method,
            rest,
            version,
            fields,
            self.headers,
            body,
            self.connection,
            self.request_version >= "HTTP/1.1",
            self._rest,
            COMMON,
        )

    def _rest(self) -> bytes:
        """What the client sent after its request, in the same breath."""
        self.connection.setblocking(False)
        try:
            self.inbox.allow(0)
            waiting = self.source.peek(1)
        except OSError:
            waiting = b""
        finally:
            self.connection.setblocking(True)
        return self.rfile.read(len(waiting)) if waiting else b""

    def _fail(self, request: Request | None, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = Refused(errors.TIMEOUT, "the request's body did not come within its time")
        if not errors.foreseen(error):
            errors.report(error, f"{self.command} {self.path}")
        if request is None or not request.began:
            if isinstance(error, Refused) and error.status in (errors.TOO_LARGE, errors.TIMEOUT):
                self.close_connection = True
            headers = error.headers if isinstance(error, Refused) else {}
            self._send(Reply(errors.status_of(error), {"message": errors.message_of(error)}, headers))
            if request is None:
                self.close_connection = True
            return
        self.close_connection = True
        if request.stream is not None and request.progress:
            request.stream.tell(failure(error))
            request.stream.end()

    def _leave(self, request: Request) -> None:
        """Make the connection ready for the next request, or end it."""
        if request.began and request.stream is None:
            part(self.connection)
            self.close_connection = True
        elif not self.close_connection:
            self.inbox.allow(HEAD)
            self.close_connection = not request.body.skip(_SKIPPED)

    # --- an answer -------------------------------------------------------------------------------

    def _send(self, reply: Reply) -> None:
        data, headers = reply.data, dict(reply.headers)
        if data is None and reply.value is not None:
            data = json.dumps(reply.value, separators=(",", ":"), ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
            data += b"\n"
            headers.setdefault("Content-Type", JSON)
        self.send_response_only(reply.status)
        for name, value in [*COMMON, ("Date", self.date_time_string()), *headers.items()]:
            self.send_header(name, str(value))
        if data is not None or reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(data or b"")))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if data and self.command != "HEAD":
            self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server finds wrong with a request."""
        self.close_connection = True
        self.request_version = self.protocol_version  # before 1.0 an answer had no headers
        status = 400 if code in (501, 505) else code  # an unknown method or version is the client's mistake
        self._send(Reply(status, {"message": message or explain or "bad request"}))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what goes wrong is told to the client."""


class _Outbox(io.BufferedIOBase):
    """The other direction: everything written is sent at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)

    def fileno(self) -> int:
        return self._connection.fileno()
