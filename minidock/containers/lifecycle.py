"""A container's life, verb by verb: what the engine calls.

Each verb takes a :class:`Container` and leaves the work to its shim, where there is one.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import files
from minidock.containers import checks, life, line, names, protocol, spawner, state, volumes, waiting
from minidock.containers.line import wait as wait  # a verb like those below
from minidock.containers.protocol import Order
from minidock.containers.spec import Spec
from minidock.containers.state import Container
from minidock.containers.streams import Streams
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.containers.log_reader import Entry

SIGKILL = 9


# --- birth ---------------------------------------------------------------------------------------


def create(root: Path, spec: Spec) -> Container:
    """Write a new container's directory and give it its name (one is invented when *spec* has none).

    On disk when this returns, unless the container is not to outlive what goes on now. Raises Conflict
    when the name is taken, InvalidInput for what could never start.
    """
    checks.check(spec)
    container = Container(root, spec.id, spec)
    durable = not (spec.auto_remove or spec.owner)
    with volumes.claimed(root, spec.mounts, sync=durable), state.names_lock(root):
        if not spec.name:
            spec.name = names.generate(lambda name: state.named(root, name) is not None)
        making = state.make_room(root)
        try:
            for directory in ("upper", "work", "merged"):
                (making / directory).mkdir(mode=0o755)
            files.write_json(making / "config.json", spec, sync=durable)
            state.claim(root, spec.name, spec.id)
            os.rename(making, container.directory)
        except BaseException:
            files.remove_tree(making)
            raise
        if durable:
            files.sync_directory(root / "containers")
            files.sync_directory(root / "names")
    container.note("create")
    return container


def start(container: Container, attach: Streams | None = None) -> int | None:
    """Start *container*. With *attach*: stay with it until it ends, and return its exit code.

    -1 (attach.DETACHED) when the user left it with the detach keys. Does nothing when it runs already
    (as Docker: with *attach*, joins it). Raises what kept it from starting; its exit_code is 125, 126, 127.
    """
    tty = container.spec.tty
    with container.lock():
        status = container.status()
        life.after("start", status, container.id)
        running = status in life.ALIVE
        if not running:
            for path in files.unfinished(container.directory):
                path.unlink(missing_ok=True)
            connection, frames = _start_shim(container, _order(container, attach))
    if running:
        return attach_to(container, attach) if attach is not None else None
    with connection:
        if attach is None:
            return None
        return _converse(connection, attach, tty=tty, frames=frames, leave=container)


def _start_shim(container: Container, order: Order) -> tuple[socket.socket, protocol.Frames]:
    """Have the shim start the container: the one that waits in the lobby, or a new one."""
    woken = line.start_waiting(container, order)
    for connection in (woken, None) if woken is not None else (None,):
        connection = connection or spawner.start_shim(container, order)
        try:
            frames = protocol.Frames()
            answer = protocol.answer(connection, frames)
            waiting.reap()
        except BaseException:
            connection.close()
            raise
        if answer is not None:
            return connection, frames
        connection.close()
    state.bury(container)
    raise MinidockError(f"the shim was killed while it started {container.id[:12]}")


def _order(container: Container, streams: Streams | None) -> Order:
    if streams is None:
        return Order({})
    wanted = {
        "stdin": streams.stdin is not None and container.spec.open_stdin,
        "stdout": streams.stdout is not None,
        "stderr": streams.stderr is not None,
    }
    if not wanted["stdin"]:
        streams.stdin = None
    return Order(wanted, streams.size() if container.spec.tty else None)


def attach_to(
    container: Container,
    streams: Streams,
    *,
    early: bool = False,
    on_joined: Callable[[], object] = line.nothing,
) -> int:
    """Join a running container's streams; its exit code, or -1 when the user left with the detach keys.

    With *early* one that does not run is waited for (see lobby.py). *on_joined* is called as soon as
    nothing that the container writes can be missed.
    """
    request: dict[str, Any] = {
        "op": "attach",
        "stdin": streams.stdin is not None,
        "stdout": streams.stdout is not None,
        "stderr": streams.stderr is not None,
        "size": streams.size() if container.spec.tty else None,
    }
    entered = line.enter_lobby(container, **request) if early else None
    if entered is not None:
        connection, frames = entered
    else:
        connection, frames = line.shim_of(container, "attach"), protocol.Frames()
    with connection:
        if entered is None:
            protocol.send_request(connection, **request)
            if protocol.answer(connection, frames) is None:
                on_joined()
                return wait(container)
        on_joined()
        return _converse(connection, streams, tty=container.spec.tty, frames=frames, leave=container)


def exec(
    container: Container,
    argv: list[str],
    *,
    env: list[str] | None = None,
    user: str = "",
    cwd: str = "",
    tty: bool = False,
    detach: bool = False,
    privileged: bool = False,
    streams: Streams | None = None,
    size: tuple[int, int] | None = None,
    identifier: str = "",
) -> int:
    """Run one more program in a running container; its exit code (0 at once with *detach*).

    Raises MinidockError with exit code 126 or 127 when the program cannot run, Conflict when the
    container does not. *identifier* names an execution on record (executions.py), *size* is that of its
    terminal, where *streams* have none.
    """
    streams = streams or Streams()
    connection = line.shim_of(container, "exec")
    with connection:
        protocol.send_request(
            connection,
            op="exec",
            argv=argv,
            env=env or [],
            user=user,
            cwd=cwd,
            tty=tty,
            detach=detach,
            privileged=privileged,
            stdin=streams.stdin is not None,
            size=size or streams.size() if tty else None,
            id=identifier,
            recorded=bool(identifier),
        )
        frames = protocol.Frames()
        if protocol.answer(connection, frames) is None:
            raise Conflict(f"container {container.id} is not running")
        if detach:
            return 0
        return _converse(connection, streams, tty=tty, frames=frames)


# --- signals and waiting -------------------------------------------------------------------------


def stop(container: Container, timeout: float | None = None, signal: str | None = None) -> None:
    """Ask the container to end (its stop signal), and kill it after *timeout* seconds (-1: never).

    Nothing happens when it does not run. The shim sees it through, even if we are interrupted.
    """
    spec = container.spec
    number = checks.signal_number(signal or spec.stop_signal)
    seconds = spec.stop_timeout if timeout is None else timeout
    if protocol.ask(container.directory, op="stop", signal=number, timeout=seconds) is not None:
        container.note("stop")


def kill(container: Container, signal: str = "SIGKILL") -> None:
    """Send a signal; returns when a SIGKILL has ended it. Raises Conflict when it does not run."""
    number = checks.signal_number(signal)
    line.ask(container, "kill", op="signal", signal=number)
    if number == SIGKILL:
        wait(container)


def pause(container: Container) -> None:
    """Freeze all processes. Raises Conflict when it is paused already, or does not run."""
    line.ask(container, "pause", op="pause")


def unpause(container: Container) -> None:
    """Let them go on."""
    line.ask(container, "unpause", op="unpause")


def resize(container: Container, rows: int, columns: int) -> None:
    """Tell a running container's terminal its size."""
    line.ask(container, "exec", op="resize", size=[rows, columns])


# --- the end -------------------------------------------------------------------------------------


def remove(container: Container, *, force: bool = False, with_volumes: bool = False) -> None:
    """Remove a container that does not run; with *force* kill it first.

    *with_volumes*: its anonymous volumes go too, but for those that others use. Raises Conflict when it runs.
    """
    if container.running():
        if not force:
            life.after("rm", container.status(), container.id, container.name)
        with contextlib.suppress(Conflict):
            kill(container)
    with contextlib.suppress(NotFound if force else ()), container.lock():  # type: ignore[arg-type]
        if container.running():
            raise Conflict(f'cannot remove container "/{container.name}": it was started just now')
        line.dismiss_guests(container)
        state.clear(container)  # where a shim was killed before its container ran
        state.delete(container)
        if with_volumes:
            state.drop_volumes(container)


def rename(container: Container, name: str) -> None:
    """Give the container another name. Raises Conflict when it is taken."""
    from minidock.containers import networks

    name = names.check(name)
    with container.lock(), state.names_lock(container.root):
        spec = container.spec
        if name == spec.name:
            raise InvalidInput("Renaming a container with the same name as its current name")
        old = spec.name
        state.claim(container.root, name, container.id)
        spec.name = name
        write_spec(container)
        state.release(container.root, old, container.id)
    container.note("rename", oldName=f"/{old}")
    networks.rename(container.root, container.id, name)


def write_spec(container: Container) -> None:
    """Write down what the container is asked to be, as it is now. The caller holds its lock."""
    files.write_json(container.directory / "config.json", container.spec)


def update(container: Container, changes: dict[str, Any], restart: tuple[str, int] | None = None) -> None:
    """Change limits (fields of spec.Limits) and the restart policy, also of a running container.

    Raises Conflict for a container that removes itself and shall restart, KernelError when the kernel
    refuses a limit; then nothing has changed.
    """
    with container.lock():
        container.forget_spec()
        spec = container.spec
        if restart is not None:
            if spec.auto_remove and restart[0] != "no":
                raise Conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container"
                )
            spec.restart_policy, spec.restart_retries = restart
        swap = changes.get("memory_swap") or spec.limits.memory_swap
        if changes.get("memory") and swap and 0 < swap < changes["memory"]:
            raise InvalidInput(
                "Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time"
            )
        for name, value in changes.items():
            setattr(spec.limits, name, value)
        checks.limits(spec.limits)
        if container.running():
            line.ask(container, "exec", op="update", limits=files.fields_of(spec.limits))
        write_spec(container)
    container.note("update")


# --- looking -------------------------------------------------------------------------------------


def read_logs(
    container: Container,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: str | None = None,
    until: str | None = None,
    on_idle: Callable[[], object] = line.nothing,
    caller: int | None = None,
) -> Iterator[Entry]:
    """The container's output so far: (stream, bytes, time). With *follow* also what comes, until it ends.

    *on_idle* is called whenever there is no more for now; *caller*: see notice.readable.
    """
    from minidock.containers import log_reader

    if container.spec.log_driver == "none":
        raise Conflict("configured logging driver does not support reading")
    path = container.directory / "log.json"
    connection = protocol.connect(container.directory) if follow else None
    if connection is None:
        line.await_first_words(container, path, caller)
        yield from log_reader.read(path, tail=tail, since=since, until=until)
        return
    with connection:
        protocol.send_request(connection, op="follow")

        def more() -> bool:
            on_idle()
            return _more(connection, caller)

        yield from log_reader.read(path, tail=tail, since=since, until=until, wait=more)


def _more(connection: socket.socket, caller: int | None) -> bool:
    """Wait until the shim says that there is more; False when it has ended."""
    if caller is not None:
        from minidock.kernel import notice

        notice.readable(connection.fileno(), caller)
    try:
        return bool(connection.recv(65536))
    except ConnectionResetError:
        return False


def statistics(container: Container) -> dict[str, Any]:
    """One reading of what the container uses (see kernel/cgroups.py, Statistics)."""
    if not container.running():
        raise Conflict(f"container {container.id} is not running")
    from minidock.containers import cgroup

    return dict(cgroup.find(container.root, container.id).statistics())


def processes(container: Container) -> list[int]:
    """The pids of the container's processes, as the host counts. Raises Conflict when it does not run."""
    if not container.running():
        raise Conflict(f"container {container.id} is not running")
    from minidock.containers import cgroup

    return cgroup.find(container.root, container.id).processes()


def _converse(
    connection: socket.socket,
    streams: Streams,
    *,
    tty: bool,
    frames: protocol.Frames,
    leave: Container | None = None,
) -> int:
    """Be with a program until it ends. `events` tells when the user leaves the container *leave* before."""
    from minidock.containers import attach  # only now, while the shim is at work

    code = attach.converse(connection, streams, tty=tty, frames=frames)
    if leave is not None and code == attach.DETACHED:
        leave.note("detach")
    return code
