"""``/containers/{id}/start …``: what containers do over time, and what goes in and out of them meanwhile.

Source: Docker Engine API v1.44, "Container".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from minidock.engine import streams
from minidock.errors import Conflict, MinidockError
from minidock.server.errors import BAD_REQUEST, NotModified, Refused
from minidock.server.request import MULTIPLEXED, RAW, Request
from minidock.server.streams import STDERR, STDOUT, Output, framed, wait_until_read
from minidock.server.websocket import Keyboard, WebSocket, accepted

_BLOCK = 1 << 16  # bytes of log that are sent at once
_CHOSEN_SINCE = (1, 42)  # the version that began to ask which streams a WebSocket is to carry


def start(request: Request) -> None:
    if request.engine.container(request["id"]).status() in ("running", "restarting"):
        raise NotModified
    request.engine.start(request["id"])


def stop(request: Request) -> None:
    if not request.engine.container(request["id"]).running():
        raise NotModified
    timeout, signal = request.number("t"), request.text("signal") or None
    request.engine.stop(request["id"], timeout=timeout, signal=signal)


def restart(request: Request) -> None:
    timeout, signal = request.number("t"), request.text("signal") or None
    request.engine.restart(request["id"], timeout=timeout, signal=signal)


def kill(request: Request) -> None:
    request.engine.kill(request["id"], signal=request.text("signal") or "SIGKILL")


def pause(request: Request) -> None:
    request.engine.pause(request["id"])


def unpause(request: Request) -> None:
    request.engine.unpause(request["id"])


def wait(request: Request) -> None:
    """The headers come at once, so that the client knows that it can start the container now."""
    condition = request.text("condition") or "not-running"
    if condition not in ("not-running", "next-exit", "removed"):
        raise Refused(BAD_REQUEST, f"invalid condition: {condition!r}")
    container = request.engine.container(request["id"])

    def joined() -> None:
        request.begin()

    try:
        code = request.engine.wait(
            container.id, condition, on_joined=joined, caller=request.connection.fileno()
        )
    except MinidockError as error:
        if request.stream is None:
            raise
        code = error.exit_code or 125  # it could not start: why, hears whoever started it
    assert request.stream is not None
    request.stream.write(json.dumps({"StatusCode": code}).encode() + b"\n")


def resize(request: Request) -> None:
    rows, columns = request.size()
    request.engine.resize(request["id"], rows, columns)


def attach(request: Request) -> None:
    """Join what the container reads and writes; before its start, too."""
    container, connection = request.engine.container(request["id"]), request.connection
    output = Output(connection, raw=container.spec.tty)
    _join(
        request,
        container,
        {name for name in ("stdin", "stdout", "stderr") if request.flag(name)},
        (connection.fileno(), output.stdout, output.stderr),
        lambda: request.take_over(framed=not container.spec.tty),
    )


def attach_by_websocket(request: Request) -> None:
    """The same in the frames of a WebSocket, where stdout and stderr are one."""
    container, wanted = request.engine.container(request["id"]), {"stdin", "stdout", "stderr"}
    if request.version >= _CHOSEN_SINCE:
        wanted = {name for name in wanted if request.flag(name)}
    lines, web = accepted(request.headers), WebSocket(request.connection)
    keyboard = Keyboard(web, request.connection, heard="stdin" in wanted and container.spec.open_stdin)

    def begin() -> bytes:
        keyboard.begin(request.switch("101 Switching Protocols", lines))
        return b""

    try:
        _join(request, container, wanted, (keyboard.fileno(), web.send, web.send), begin)
    finally:
        keyboard.end()


def _join(
    request: Request, container: Any, wanted: set[str], ends: tuple[int, Any, Any], begin: Callable[[], bytes]
) -> None:
    """Attach *ends*, the client's stdin, stdout and stderr; *begin* is called when the streams begin.

    Without ``stream`` only what was written before is shown. Raises Conflict, InvalidInput.
    """
    if request.flag("logs"):
        _check_log(request, container.id)
    status, (stdin, stdout, stderr) = container.status(), ends
    if status in ("paused", "restarting"):
        what = "unpause it first" if status == "paused" else "wait until it is running"
        raise Conflict(f"Container {container.id} is {status}, {what}")
    use = streams(
        stdin=stdin if "stdin" in wanted and container.spec.open_stdin else None,
        stdout=stdout if "stdout" in wanted else None,
        stderr=stderr if "stderr" in wanted else None,
        detach_keys=request.text("detachKeys") or "ctrl-p,ctrl-q",
        forward_signals=False,
        caller=stdin,
    )

    def joined() -> None:
        use.typed = begin()
        if request.flag("logs"):
            wait_until_read(request.connection)
            for stream, text, _ in request.engine.logs(container.id):
                if stream in wanted:
                    (stdout if stream == "stdout" else stderr)(text)

    if not (request.flag("stream") and wanted):
        joined()
        return
    try:
        request.engine.attach(container.id, use, early=True, on_joined=joined)
    except MinidockError:
        if not request.began:  # else the client hears from whoever started it
            raise


def _check_log(request: Request, identifier: str) -> None:
    if request.engine.container(identifier).spec.log_driver == "none":
        raise Conflict("configured logging driver does not support reading")


def logs(request: Request) -> None:
    """What it wrote, and with ``follow`` what it writes."""
    container = request.engine.container(request["id"])
    chosen = {name: code for name, code in (("stdout", STDOUT), ("stderr", STDERR)) if request.flag(name)}
    if not chosen:
        raise Refused(BAD_REQUEST, "Bad parameters: you must choose at least one stream")
    _check_log(request, container.id)
    spec, times = container.spec, request.flag("timestamps")
    details = b""
    if request.flag("details"):
        details = ",".join(f"{key}={value}" for key, value in sorted(spec.labels.items())).encode() + b" "
    waiting = bytearray()

    def flush() -> None:
        if waiting:
            stream.write(bytes(waiting))
            waiting.clear()

    tail = request.text("tail", "all")
    entries = request.engine.logs(
        container.id,
        follow=request.flag("follow"),
        tail=int(tail) if tail.isdigit() else None,
        since=_moment(request.text("since")),
        until=_moment(request.text("until")),
        on_idle=flush,
        caller=request.connection.fileno(),
    )
    framing = MULTIPLEXED if not spec.tty and request.version >= (1, 42) else RAW
    stream = request.begin(framing)
    for name, text, time in entries:
        if name not in chosen:
            continue
        line = (time.encode() + b" " if times else b"") + details + text
        waiting += line if spec.tty else framed(chosen[name], line)
        if len(waiting) >= _BLOCK:
            flush()
    flush()


def _moment(text: str) -> str | None:
    """``0`` and nothing at all are no limit."""
    return None if text in ("", "0", "0.000000000") else text


ROUTES = [
    ("POST", "/containers/{id}/start", start),
    ("POST", "/containers/{id}/stop", stop),
    ("POST", "/containers/{id}/restart", restart),
    ("POST", "/containers/{id}/kill", kill),
    ("POST", "/containers/{id}/pause", pause),
    ("POST", "/containers/{id}/unpause", unpause),
    ("POST", "/containers/{id}/wait", wait),
    ("POST", "/containers/{id}/resize", resize),
    ("POST", "/containers/{id}/attach", attach),
    ("GET", "/containers/{id}/attach/ws", attach_by_websocket),
    ("GET", "/containers/{id}/logs", logs),
]
