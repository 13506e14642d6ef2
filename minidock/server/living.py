"""``/containers/{id}/start …``: what containers do over time, and what goes in and out of them meanwhile.

Source: Docker Engine API v1.44, "Container".
"""

from __future__ import annotations

import json

from minidock.engine import streams
from minidock.errors import Conflict, MinidockError
from minidock.server.errors import BAD_REQUEST, NotModified, Refused
from minidock.server.request import MULTIPLEXED, RAW, Request
from minidock.server.streams import STDERR, STDOUT, Output, framed, wait_until_read

_BLOCK = 1 << 16  # bytes of log that are sent at once


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
    container = request.engine.container(request["id"])
    spec = container.spec
    wanted = {name: request.flag(name) for name in ("stdin", "stdout", "stderr")}
    if request.flag("logs"):
        _check_log(request, container.id)
    if not request.flag("stream"):
        wanted = dict.fromkeys(wanted, False)
    if container.status() in ("paused", "restarting"):
        state = container.status()
        what = "unpause it first" if state == "paused" else "wait until it is running"
        raise Conflict(f"Container {container.id} is {state}, {what}")
    keys = request.text("detachKeys") or "ctrl-p,ctrl-q"
    output = Output(request.connection, raw=spec.tty)
    use = streams(
        stdin=request.connection.fileno() if wanted["stdin"] and spec.open_stdin else None,
        stdout=output.stdout if wanted["stdout"] else None,
        stderr=output.stderr if wanted["stderr"] else None,
        detach_keys=keys,
        forward_signals=False,
        caller=request.connection.fileno(),
    )

    def joined() -> None:
        use.typed = request.take_over(framed=not spec.tty)
        if request.flag("logs"):
            wait_until_read(request.connection)
            for stream, text, _ in request.engine.logs(container.id):
                if request.flag(stream):
                    (output.stdout if stream == "stdout" else output.stderr)(text)

    if not any(wanted.values()):
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
    ("GET", "/containers/{id}/logs", logs),
]
