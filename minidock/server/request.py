"""One request, as the endpoints see it: what was asked, in plain values, and the ways to answer."""

from __future__ import annotations

import json
import re
import socket
import tempfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from minidock.engine import Engine
from minidock.server.errors import BAD_REQUEST, Refused
from minidock.server.inbox import Body
from minidock.server.streams import Stream

Json = dict[str, Any]
JSON = "application/json"
RAW, MULTIPLEXED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"
_LARGEST = 16 << 20  # bytes of a JSON document
_SPOOLED = 8 << 20  # bytes of an archive that are kept in memory
_UNFIT = re.compile("[\0\ud800-\udfff]")
_FALSE = ("", "0", "no", "false", "none")
_FRAMED_SINCE = (1, 42)  # the version that began to say so in Content-Type


@dataclass(slots=True)
class Reply:
    """An answer that is whole: a value for JSON (None: no body), or bytes."""

    status: int = 200
    value: Any = None
    headers: Json = field(default_factory=dict)
    data: bytes | None = None


@dataclass(slots=True)
class Request:
    """What a client asks. *path* is without version and query, *parameters* are from the route."""

    engine: Engine
    method: str
    path: str
    version: tuple[int, int]
    query: dict[str, list[str]]
    headers: Any  # of HTTP: get(name, default), whatever the case
    body: Body
    connection: socket.socket
    persistent: bool  # HTTP/1.1
    rest: Any  # what came behind the request, as a function
    common: list[tuple[str, str]]  # the headers that every answer has
    parameters: dict[str, str] = field(default_factory=dict)
    began: bool = False  # an answer is under way, or the connection was taken over
    stream: Stream | None = None
    progress: bool = False  # of JSON lines, the last of which may tell a failure

    # --- what was asked --------------------------------------------------------------------------

    def __getitem__(self, name: str) -> str:
        """A part of the path: ``request["id"]``."""
        return self.parameters[name]

    def text(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def texts(self, name: str) -> list[str]:
        return self.query.get(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean, with Docker's meaning of what is one."""
        return self.query[name][0].strip().lower() not in _FALSE if name in self.query else default

    def number(self, name: str, default: int | None = None) -> int | None:
        """A whole number. Raises Refused."""
        text = self.text(name)
        if not text:
            return default
        try:
            number = int(text)
        except ValueError:
            raise Refused(BAD_REQUEST, f"invalid value for {name}: {text!r} is not a number") from None
        if not -(1 << 63) <= number < 1 << 63:
            raise Refused(BAD_REQUEST, f"invalid value for {name}: {text!r} is not a number of 64 bits")
        return number

    def size(self) -> tuple[int, int]:
        """Rows and columns of a terminal. Raises Refused."""
        rows, columns = self.number("h"), self.number("w")
        if rows is None or columns is None or not (0 <= rows < 65536 and 0 <= columns < 65536):
            raise Refused(BAD_REQUEST, "invalid terminal size: h and w are numbers up to 65535")
        return rows, columns

    def filters(self) -> dict[str, list[str]]:
        """``{"status": ["exited"]}``, also from the older form ``{"status": {"exited": true}}``."""
        text = self.text("filters")
        if not text:
            return {}
        value = parsed(text.encode(), "invalid filter")
        if not isinstance(value, dict):
            raise Refused(BAD_REQUEST, "invalid filter: must be an object")
        found = {}
        for key, wanted in value.items():
            if isinstance(wanted, dict):
                wanted = [each for each, chosen in wanted.items() if chosen]
            elif isinstance(wanted, str):
                wanted = [wanted]
            if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
                raise Refused(BAD_REQUEST, f"invalid filter '{key}'")
            found[key] = wanted
        return found

    def json(self, *, optional: bool = False) -> Json:
        """The body, which must be a JSON object; with *optional* it may be missing."""
        data = self.body.whole(_LARGEST)
        if not data.strip():
            if optional:
                return {}
            raise Refused(BAD_REQUEST, "invalid JSON: got EOF while reading request body")
        kind = self.headers.get("Content-Type", JSON).partition(";")[0].strip().lower()
        if kind not in (JSON, "", "text/plain", "application/octet-stream"):
            raise Refused(BAD_REQUEST, f"unsupported Content-Type header ({kind}): must be '{JSON}'")
        value = parsed(data, "invalid JSON")
        if value is None and optional:
            return {}
        if not isinstance(value, dict):
            raise Refused(BAD_REQUEST, "invalid JSON: must be an object")
        return value

    def spooled(self) -> BinaryIO:
        """The body as a file that can be read from anywhere; the caller closes it."""
        self.engine.root.mkdir(parents=True, exist_ok=True)
        file = tempfile.SpooledTemporaryFile(_SPOOLED, dir=str(self.engine.root))
        try:
            for piece in self.body:
                file.write(piece)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return cast(BinaryIO, file)

    # --- how it is answered ----------------------------------------------------------------------

    def begin(self, content_type: str = JSON, **headers: str) -> Stream:
        """Start an answer that goes on."""
        lines = {"Content-Type": content_type, **{key.replace("_", "-"): headers[key] for key in headers}}
        if self.persistent:
            lines["Transfer-Encoding"] = "chunked"
        else:
            lines["Connection"] = "close"
        self._head("200 OK", lines)
        self.stream = Stream(self.connection, chunked=self.persistent)
        return self.stream

    def tell_progress(self) -> Stream:
        """Start an answer of JSON lines: each a piece of progress, and the last one perhaps a failure."""
        self.progress = True
        return self.begin()

    def take_over(self, *, framed: bool) -> bytes:
        """Make the connection a plain one, for a container's streams; what the client sent already."""
        content_type = MULTIPLEXED if framed and self.version >= _FRAMED_SINCE else RAW
        lines = {"Content-Type": content_type}
        if not self.headers.get("Upgrade"):
            return self.switch("200 OK", lines)
        return self.switch("101 UPGRADED", {**lines, "Connection": "Upgrade", "Upgrade": "tcp"})

    def switch(self, status: str, lines: dict[str, str]) -> bytes:
        """End HTTP on this connection with *status* and headers; what the client sent already."""
        self._head(status, lines, ())
        found: bytes = self.rest()
        return found

    def _head(self, status: str, lines: dict[str, str], common: Any = None) -> None:
        self.began = True
        shown = [*(self.common if common is None else common), *lines.items()]
        text = "".join(f"{name}: {value}\r\n" for name, value in shown)
        self.connection.sendall(f"HTTP/1.1 {status}\r\n{text}\r\n".encode("latin-1"))


def parsed(data: bytes, what: str) -> Any:
    """The value of a JSON text. Raises Refused, with *what* before the reason.

    No string may have what no file name and no argument of a program can have.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise Refused(BAD_REQUEST, f"{what}: nested too deeply") from None
    except ValueError as error:
        raise Refused(BAD_REQUEST, f"{what}: {error}") from None
    if b"\\u" in data:  # both can only come as \u0000 and \ud800
        todo = [value]
        while todo:
            each = todo.pop()
            if isinstance(each, dict):
                todo += [*each, *each.values()]
            elif isinstance(each, list):
                todo += each
            elif isinstance(each, str) and _UNFIT.search(each):
                raise Refused(BAD_REQUEST, f"{what}: {each[:80]!r} has a zero byte or half a character")
    return value
