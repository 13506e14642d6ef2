"""What clients may ask of a running container's shim. One function per request, in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock.containers import exec as exec_
from minidock.containers.client import Client
from minidock.containers.running import Running
from minidock.errors import Conflict, InvalidInput

SIGKILL = 9


def serve(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Answer one request. Errors go back to the client."""
    function = _REQUESTS.get(str(request.get("op")))
    if function is None:
        raise InvalidInput(f"shim: unknown request {request.get('op')!r}")
    function(running, client, request)


def control(running: Running, message: dict[str, Any]) -> None:
    """A control frame on an attached connection: a signal that the user's terminal got."""
    if "signal" in message:
        running.signal(int(message["signal"]))


def _attach(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.state.status == "paused":
        raise Conflict("You cannot attach to a paused container, unpause it first")
    client.tell(attached=True, tty=running.container.spec.tty)
    running.console.attach(
        client,
        stdin=bool(request.get("stdin")),
        stdout=bool(request.get("stdout", True)),
        stderr=bool(request.get("stderr", True)),
    )
    if request.get("size"):
        running.console.resize(*request["size"])


def _resize(running: Running, client: Client, request: dict[str, Any]) -> None:
    running.console.resize(*request["size"])
    client.finish(done=True)


def _signal(running: Running, client: Client, request: dict[str, Any]) -> None:
    number = int(request["signal"])
    running.signal(number)
    if number == SIGKILL and running.state.status == "paused":
        running.cgroup.thaw()  # frozen processes do not even die
    client.finish(done=True)


def _stop(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Signal, wait, kill. The answer comes at the end; the shim sees it through if the client goes."""
    running.signal(int(request["signal"]))
    running.waiters.append(client)
    if running.state.status == "paused":
        _thaw(running)
    timeout = request["timeout"]
    if timeout >= 0:
        running.loop.after(timeout, lambda: running.signal(SIGKILL))


def _wait(running: Running, client: Client, request: dict[str, Any]) -> None:
    running.waiters.append(client)


def _follow_log(running: Running, client: Client, request: dict[str, Any]) -> None:
    running.log_readers.append(client)
    client.on_close = lambda: running.log_readers.remove(client) if client in running.log_readers else None
    client.tell(more=True)


def _pause(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.state.status == "paused":
        raise Conflict(f"Container {running.container.id} is already paused")
    running.cgroup.freeze()
    running.record(status="paused")
    client.finish(done=True)


def _unpause(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.state.status != "paused":
        raise Conflict(f"Container {running.container.id} is not paused")
    _thaw(running)
    client.finish(done=True)


def _thaw(running: Running) -> None:
    running.cgroup.thaw()
    running.record(status="running")


def _exec(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.state.status == "paused":
        raise Conflict(f"Container {running.container.id} is paused, unpause the container before exec")
    exec_.start(running, client, request)


_REQUESTS: dict[str, Callable[[Running, Client, dict[str, Any]], None]] = {
    "attach": _attach,
    "exec": _exec,
    "follow": _follow_log,
    "pause": _pause,
    "resize": _resize,
    "signal": _signal,
    "stop": _stop,
    "unpause": _unpause,
    "wait": _wait,
}
