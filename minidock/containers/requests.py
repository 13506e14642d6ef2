"""What clients may ask of a running container's shim. One function per request, in one table."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minidock.containers import exec as exec_
from minidock.containers.streams import Client
from minidock.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from minidock.containers.shim import Shim

SIGKILL, SIGCONT = 9, 18


def serve(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    """Answer one request. Errors go back to the client."""
    function = _REQUESTS.get(str(request.get("op")))
    if function is None:
        raise InvalidInput(f"shim: unknown request {request.get('op')!r}")
    function(shim, client, request)


def control(shim: Shim, message: dict[str, Any]) -> None:
    """A control frame on an attached connection: a signal that the user's terminal got."""
    if "signal" in message:
        send_signal(shim, int(message["signal"]))


def send_signal(shim: Shim, number: int) -> None:
    """Signal the container's first process. The shim is its parent: the pid cannot be another's."""
    if shim.born is not None and not shim.ended:
        os.kill(shim.born.pid, number)


def _attach(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    if shim.state.status == "paused":
        raise Conflict("You cannot attach to a paused container, unpause it first")
    assert shim.console is not None
    client.tell(attached=True, tty=shim.container.spec.tty)
    shim.console.attach(
        client,
        stdin=bool(request.get("stdin")),
        stdout=bool(request.get("stdout", True)),
        stderr=bool(request.get("stderr", True)),
    )
    if request.get("size"):
        shim.console.resize(*request["size"])


def _resize(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    assert shim.console is not None
    shim.console.resize(*request["size"])
    client.finish(done=True)


def _signal(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    number = int(request["signal"])
    send_signal(shim, number)
    if number == SIGKILL and shim.state.status == "paused":
        assert shim.cgroup is not None
        shim.cgroup.thaw()  # frozen processes do not even die
    client.finish(done=True)


def _stop(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    """Signal, wait, kill. The answer comes at the end; the shim sees it through if the client goes."""
    send_signal(shim, int(request["signal"]))
    shim.waiters.append(client)
    if shim.state.status == "paused":
        _thaw(shim)
    timeout = request["timeout"]
    if timeout >= 0:
        shim.loop.after(timeout, lambda: send_signal(shim, SIGKILL))


def _wait(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    shim.waiters.append(client)


def _follow_log(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    shim.log_readers.append(client)
    client.on_close = lambda: shim.log_readers.remove(client) if client in shim.log_readers else None
    client.tell(more=True)


def _pause(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    if shim.state.status == "paused":
        raise Conflict(f"Container {shim.container.id} is already paused")
    assert shim.cgroup is not None
    shim.cgroup.freeze()
    shim.record(status="paused")
    client.finish(done=True)


def _unpause(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    if shim.state.status != "paused":
        raise Conflict(f"Container {shim.container.id} is not paused")
    _thaw(shim)
    client.finish(done=True)


def _thaw(shim: Shim) -> None:
    assert shim.cgroup is not None
    shim.cgroup.thaw()
    shim.record(status="running")


def _exec(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    if shim.state.status == "paused":
        raise Conflict(f"Container {shim.container.id} is paused, unpause the container before exec")
    try:
        exec_.start(shim, client, request)
    finally:
        shim.write_trace()


_REQUESTS: dict[str, Callable[[Shim, Client, dict[str, Any]], None]] = {
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
