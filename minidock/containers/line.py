"""The line to a container's shim: asking it for something, and waiting for the container's end.

Whoever asks hears of a container that does not run in Docker's words, whatever was asked for.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidock import files
from minidock.containers import life, lobby, protocol, spawner, state, timestamps, waiting
from minidock.containers.container import no_such_container
from minidock.containers.protocol import Order
from minidock.containers.state import Container
from minidock.errors import Conflict, MinidockError

_AGAIN = 3  # a lobby may close between our look and our knock
_FIRST_WORDS = 0.3  # seconds after a start in which `logs` waits for something to show


def nothing() -> None:
    """What is called where nobody wants to know."""


def shim_of(container: Container, verb: str) -> socket.socket:
    """The line to the shim. Raises Conflict when there is none: what *verb* then means, the table knows."""
    connection = protocol.connect(container.directory)
    if connection is None:
        raise refused(container, verb)
    return connection


def refused(container: Container, verb: str) -> Conflict:
    """Why *verb* is not for a container in this state."""
    try:
        life.after(verb, container.status(), container.id)
    except Conflict as error:
        error.hint = f"minidock start {container.name}"
        return error
    return Conflict(f"container {container.id} is not running")  # it ended or began just now


def ask(container: Container, verb: str, **request: Any) -> dict[str, Any]:
    """Ask a running container's shim for something. Raises Conflict when it does not run, or what it says."""
    with shim_of(container, verb) as connection:
        protocol.send_request(connection, **request)
        found = protocol.answer(connection)
    if found is None or "exit" in found:
        raise refused(container, verb)
    return found


# --- before the start: see lobby.py --------------------------------------------------------------


def enter_lobby(container: Container, **request: Any) -> tuple[socket.socket, protocol.Frames] | None:
    """Have *request* (attach or wait) served as soon as *container* starts: the connection to its shim.

    None when it runs already: then its shim can be asked. Raises NotFound when it was removed.
    """
    with container.lock():
        for _ in range(_AGAIN):
            if container.running():
                return None
            connection = protocol.connect(container.directory, lobby.SOCKET) or _open_lobby(container)
            if connection is None:
                continue
            protocol.send_request(connection, **request)
            frames = protocol.Frames()
            if protocol.answer(connection, frames) is not None:
                return connection, frames
            connection.close()
    raise MinidockError(f"the shim was killed while it waited for the start of {container.id[:12]}")


def _open_lobby(container: Container) -> socket.socket | None:
    with spawner.start_shim(container, Order({}, lobby=True)) as door:
        if protocol.answer(door) is None:
            return None
    waiting.reap()
    return protocol.connect(container.directory, lobby.SOCKET)


def start_waiting(container: Container, order: Order) -> socket.socket | None:
    """Ask the shim that waits in the lobby to start; the starter's connection. None when none waits."""
    connection = protocol.connect(container.directory, lobby.SOCKET)
    if connection is not None:
        protocol.send_request(connection, op="start", attach=order.attach, size=order.size)
    return connection


def dismiss_guests(container: Container) -> None:
    """There will be no start: let the guests go. The caller holds the container's lock."""
    protocol.ask(container.directory, lobby.SOCKET, op="dismiss")


# --- waiting -------------------------------------------------------------------------------------


def wait(
    container: Container,
    condition: str = "not-running",
    *,
    on_joined: Callable[[], object] = nothing,
    caller: int | None = None,
) -> int:
    """Wait until the container does not run; its exit code. Does not poll.

    *condition* may be ``next-exit``: its next end, also when it is still to be started; or ``removed``.
    *on_joined* is called as soon as that end cannot be missed; *caller*: see notice.readable.
    Raises what kept it from starting. Source: Docker Engine API v1.44, POST /containers/{id}/wait.
    """
    entered = enter_lobby(container, op="wait") if condition != "not-running" else None
    if entered is not None:
        connection: socket.socket | None = entered[0]
    else:
        connection = protocol.connect(container.directory)
        if connection is not None:
            protocol.send_request(connection, op="wait")
    found = {"exit": _recorded_end(container)} if connection is None else None
    on_joined()
    if connection is not None:
        with connection:
            found = protocol.answer(connection, entered and entered[1], caller)
    code = int(found["exit"]) if found and "exit" in found else _recorded_end(container)
    if condition == "removed":
        _wait_until_gone(container, caller)
    return code


def _recorded_end(container: Container) -> int:
    """The exit code in the files, after the shim ended before it heard us. Raises NotFound without files."""
    found = container.state()
    if found.status in life.ALIVE:  # its lock is free as soon as the files tell the truth
        lock = container.directory / "shim.lock"
        with contextlib.suppress(FileNotFoundError), files.lock(lock, shared=True):
            pass
        state.reconcile(container)
        found = container.state()
    if not container.exists():
        raise no_such_container(container.id)
    return found.exit_code


def await_first_words(container: Container, log: Path, caller: int | None = None) -> None:
    """Give a container that has only just begun the time to write something to its log.

    Who starts it and then asks for the log expects to find the first words there. In Docker they do: its
    start takes that long.
    """
    from minidock.kernel import notice

    begun = timestamps.to_nanoseconds(container.state().started_at or timestamps.NEVER) / timestamps.SECOND
    until = time.monotonic() + min(begun + _FIRST_WORDS - time.time(), _FIRST_WORDS)
    if until < time.monotonic() or not _empty(log):
        return
    connection = protocol.connect(container.directory)
    if connection is None:
        return
    with connection:
        protocol.send_request(connection, op="follow")
        while _empty(log) and notice.readable(connection.fileno(), caller, until - time.monotonic()):
            with contextlib.suppress(ConnectionResetError):
                if connection.recv(65536):
                    continue
            return


def _empty(log: Path) -> bool:
    try:
        return not log.stat().st_size
    except FileNotFoundError:
        return True


def _wait_until_gone(container: Container, caller: int | None) -> None:
    from minidock.kernel.notice import Watch

    with Watch(container.root / "containers") as watch:
        while container.exists():
            watch.wait(caller=caller)
