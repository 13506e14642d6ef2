"""``/exec``: one more program in a running container, in the steps of the API.

Source: Docker Engine API v1.44, "Exec".
"""

from __future__ import annotations

from typing import Any

from minidock.engine import streams
from minidock.errors import MinidockError
from minidock.server.errors import BAD_REQUEST, Refused
from minidock.server.plain import flag, text, words
from minidock.server.request import Reply, Request
from minidock.server.streams import Output


def create(request: Request) -> Reply:
    body = request.json()
    made = request.engine.exec_create(
        request["id"],
        words(body, "Cmd") or [],
        env=words(body, "Env") or [],
        user=text(body, "User"),
        cwd=text(body, "WorkingDir"),
        tty=flag(body, "Tty"),
        privileged=flag(body, "Privileged"),
        stdin=flag(body, "AttachStdin"),
        stdout=flag(body, "AttachStdout"),
        stderr=flag(body, "AttachStderr"),
        detach_keys=text(body, "DetachKeys"),
    )
    return Reply(201, {"Id": made})


def start(request: Request) -> Any:
    """Detached, or with the connection as its terminal."""
    body = request.json(optional=True)
    found = request.engine.execution(request["id"])
    size = body.get("ConsoleSize")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)
    ):
        raise Refused(BAD_REQUEST, "invalid JSON: ConsoleSize must be [height, width]")
    if flag(body, "Detach"):
        request.engine.exec_start(found.id, None)
        return Reply(200)
    raw = flag(body, "Tty")  # what the start says decides how output is framed, as in Docker
    output = Output(request.connection, raw=raw)
    use = streams(
        stdin=request.connection.fileno() if found.stdin else None,
        stdout=output.stdout if found.stdout else None,
        stderr=output.stderr if found.stderr else None,
        detach_keys=found.detach_keys or "ctrl-p,ctrl-q",
        forward_signals=False,
        caller=request.connection.fileno(),
    )

    def ready() -> None:
        use.typed = request.take_over(framed=not raw)

    try:
        request.engine.exec_start(found.id, use, size=tuple(size) if size else None, on_ready=ready)
    except MinidockError as error:
        if not request.began:
            raise
        output.stdout(f"{error.message}\r\n".encode())  # the exit code is on record
    return None


def resize(request: Request) -> Reply:
    rows, columns = request.size()
    request.engine.exec_resize(request["id"], rows, columns)
    return Reply(200)


def inspect(request: Request) -> Any:
    return request.engine.exec_inspect(request["id"])


ROUTES = [
    ("POST", "/containers/{id}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
]
