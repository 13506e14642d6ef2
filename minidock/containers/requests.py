"""What clients may ask of a running container's shim. One function per request, in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock import files
from minidock.containers import exec as exec_
from minidock.containers import life
from minidock.containers.checks import signal_number
from minidock.containers.client import Client
from minidock.containers.running import Running
from minidock.containers.wiring import Attachment
from minidock.errors import Conflict, InvalidInput, MinidockError

SIGKILL = 9


def serve(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Answer one request. Errors go back to the client."""
    function = _REQUESTS.get(str(request.get("op")))
    if function is None:
        raise InvalidInput(f"shim: unknown request {request.get('op')!r}")
    function(running, client, request)


def serve_late(running: Running, end: dict[str, Any], client: Client, request: dict[str, Any]) -> None:
    """Answer who came while the container was ending; *end* is the news of that."""
    if request.get("op") == "attach":
        client.tell(attached=True, tty=running.container.spec.tty)
    if request.get("op") in ("attach", "stop", "wait"):
        client.finish(**end)
    else:
        client.close()  # as if it had found nobody


def control(running: Running, message: dict[str, Any]) -> None:
    """A control frame on an attached connection: a signal that the user's terminal got."""
    if "signal" in message:
        running.signal(int(message["signal"]))


def _attach(running: Running, client: Client, request: dict[str, Any]) -> None:
    _allow(running, "attach")
    running.note("attach")
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
    rows, columns = request["size"]
    if request.get("execution"):
        console = running.executions.get(str(request["execution"]))
        if console is None:
            raise Conflict(f"exec {request['execution']} is not running")
        console.resize(rows, columns)
        client.finish(done=True)
        return
    running.console.resize(rows, columns)
    running.note("resize", height=str(rows), width=str(columns))
    client.finish(done=True)


def _signal(running: Running, client: Client, request: dict[str, Any]) -> None:
    _allow(running, "kill")
    number = int(request["signal"])
    if number in (SIGKILL, signal_number(running.container.spec.stop_signal)):
        running.end_for_good()
    running.note("kill", signal=str(number))
    running.signal(number)
    if number == SIGKILL and running.state.status == life.PAUSED:
        running.cgroup.thaw()  # frozen processes do not even die
    client.finish(done=True)


def _stop(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Signal, wait, kill. The answer comes at the end; the shim sees it through if the client goes."""
    running.waiters.append(client)
    running.end_for_good()
    _ask_to_end(running, int(request["signal"]), request["timeout"])


def shut_down(running: Running | None) -> None:
    """The machine goes down (see shutdown.py): stop the container, which no user wanted to end."""
    if running is not None and not running.wanted_end:
        running.end_for_now()
        spec = running.container.spec
        _ask_to_end(running, signal_number(spec.stop_signal), spec.stop_timeout)


def _ask_to_end(running: Running, number: int, timeout: float) -> None:
    """Send a signal, and after *timeout* seconds (-1: never) the one that nobody can refuse."""
    running.note("kill", signal=str(number))
    running.signal(number)
    if running.state.status == life.PAUSED:
        _thaw(running)
    if timeout >= 0:
        running.loop.after(timeout, lambda: running.signal(SIGKILL))


def _wait(running: Running, client: Client, request: dict[str, Any]) -> None:
    running.waiters.append(client)


def _follow_log(running: Running, client: Client, request: dict[str, Any]) -> None:
    running.log_readers.append(client)
    client.on_close = lambda: running.log_readers.remove(client) if client in running.log_readers else None
    client.tell(more=True)


def _pause(running: Running, client: Client, request: dict[str, Any]) -> None:
    status = _allow(running, "pause")
    running.cgroup.freeze()
    running.record(status=status)
    running.note("pause")
    client.finish(done=True)


def _unpause(running: Running, client: Client, request: dict[str, Any]) -> None:
    _allow(running, "unpause")
    _thaw(running)
    running.note("unpause")
    client.finish(done=True)


def _thaw(running: Running) -> None:
    running.cgroup.thaw()
    running.record(status=life.RUNNING)


def _exec(running: Running, client: Client, request: dict[str, Any]) -> None:
    _allow(running, "exec")
    exec_.start(running, client, request)


def _execs(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Which processes of `exec` run now: id → pid, as the host counts."""
    client.finish(execs=running.execs)


def _update(running: Running, client: Client, request: dict[str, Any]) -> None:
    """New limits, all of them or none. Between two lives there is nothing to limit."""
    try:
        if not running.resting:
            running.cgroup.apply(**request["limits"])
    except MinidockError:
        running.cgroup.apply(**files.fields_of(running.container.spec.limits))
        raise
    running.container.forget_spec()  # the caller writes it: our next start follows it, too
    client.finish(done=True)


def _allow(running: Running, verb: str) -> str:
    """The state that *verb* leads to. Raises Conflict where it leads nowhere."""
    return life.after(verb, running.state.status, running.container.id)


def _connect(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.cables is not None and not running.resting:  # else the next start does it
        running.cables.connect(running.pid, Attachment(**request["attachment"]))
    client.finish(done=True)


def _disconnect(running: Running, client: Client, request: dict[str, Any]) -> None:
    if running.cables is not None and not running.resting:
        running.cables.disconnect(running.pid, str(request["network"]))
    client.finish(done=True)


_REQUESTS: dict[str, Callable[[Running, Client, dict[str, Any]], None]] = {
    "attach": _attach,
    "connect": _connect,
    "disconnect": _disconnect,
    "exec": _exec,
    "execs": _execs,
    "follow": _follow_log,
    "pause": _pause,
    "resize": _resize,
    "signal": _signal,
    "stop": _stop,
    "unpause": _unpause,
    "update": _update,
    "wait": _wait,
}
