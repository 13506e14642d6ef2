"""`exec`: one more process in a running container, started by the shim so that the shim can wait for it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from minidock import trace
from minidock.containers import birth, executions
from minidock.containers.client import Client
from minidock.containers.console import Console
from minidock.containers.loop import READ
from minidock.containers.program import NOT_EXECUTABLE, Program
from minidock.containers.running import Running, write_trace
from minidock.errors import InvalidInput, MinidockError
from minidock.kernel import capabilities


def start(running: Running, client: Client, request: dict[str, Any]) -> None:
    """Start the process that *request* describes. *client* becomes its terminal unless ``detach``.

    The answer is ``started`` (the pid); the end is ``exit``. Raises what the new process reports.
    """
    detach = bool(request.get("detach"))
    stdin = bool(request.get("stdin")) and not detach
    try:
        born = _bear(running, request, stdin=stdin)
    except MinidockError as error:
        if request.get("recorded"):
            _record(running, str(request["id"]), exit_code=error.exit_code or NOT_EXECUTABLE)
        raise
    console = Console(running.loop, None, keep_stdin=False)
    console.use(born.pipes, born.terminal)
    identifier = str(request.get("id") or os.urandom(32).hex())
    recorded = bool(request.get("recorded"))
    for action in ("exec_start",) if recorded else ("exec_create", "exec_start"):
        running.note(f"{action}: {' '.join(request['argv'])}", execID=identifier)
    running.execs[identifier] = born.pid
    if recorded:
        _record(running, identifier, pid=born.pid)
    running.executions[identifier] = console
    client.tell(started=born.pid)
    if detach:
        client.finish(done=True)
    else:
        console.attach(client, stdin=stdin, stdout=True, stderr=True)
        console.on_control = lambda message: _control(born, message)

    def reap() -> None:
        code = _reaped(running, born)
        del running.execs[identifier]
        console.on_control = None  # the pid may soon be another's
        console.drain()
        console.close()
        running.executions.pop(identifier, None)
        if recorded:
            _record(running, identifier, exit_code=code)
        running.note("exec_die", execID=identifier, exitCode=str(code))
        client.finish(exit=code)

    console.start()
    running.loop.watch(born.pidfd, READ, lambda _: reap())


def _record(running: Running, identifier: str, **changes: int) -> None:
    """Write down how far it is, for those who ask."""
    with contextlib.suppress(OSError, MinidockError):  # a full disk must not end a container
        found = executions.read(running.container, identifier)
        if found is not None:
            for name, value in changes.items():
                setattr(found, name, value)
            executions.write(running.container, found)


class Checked:
    """One more process whose output nobody is shown: the first *longest* bytes are kept, the rest dropped.

    *pidfd* is readable when it has ended; :meth:`finish` must be called, then or before.
    """

    def __init__(self, running: Running, words: list[str], longest: int) -> None:
        self._running = running
        self._kept = _Kept(longest)
        self._born = _bear(running, {"argv": words}, stdin=False)
        self.pid, self.pidfd = self._born.pid, self._born.pidfd
        self._console = Console(running.loop, self._kept, keep_stdin=False)
        self._console.use(self._born.pipes, None)
        self._console.start()

    def finish(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it wrote."""
        code = _reaped(self._running, self._born)
        self._console.drain()
        self._console.close()
        return code, self._kept.text.decode(errors="replace")


class _Kept:
    """In the place of a log."""

    def __init__(self, longest: int) -> None:
        self.text, self._longest = b"", longest

    def write(self, stream: int, data: bytes | memoryview) -> None:
        self.text += bytes(data[: self._longest - len(self.text)])

    def close(self) -> None:
        """Nothing is open."""


def _bear(running: Running, request: dict[str, Any], *, stdin: bool) -> birth.Born:
    size = tuple(request["size"]) if request.get("size") else None
    recorder = trace.Recorder()
    try:
        with trace.recording(recorder):
            return birth.join(
                running.container,
                running.pid,
                running.cgroup,
                _program(running, request),
                tty=bool(request.get("tty")),
                stdin=stdin,
                size=size,
            )
    except MinidockError as error:
        error.exit_code = error.exit_code or NOT_EXECUTABLE  # as Docker: the command cannot be invoked
        raise
    finally:
        write_trace(running.container, recorder)


def _reaped(running: Running, born: birth.Born) -> int:
    """The exit code of a process that ends now, or has ended."""
    _, status = os.waitpid(born.pid, 0)
    running.loop.forget(born.pidfd)
    os.close(born.pidfd)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _program(running: Running, request: dict[str, Any]) -> Program:
    spec = running.container.spec
    arguments = request["argv"]
    if not arguments:
        raise InvalidInput("No exec command specified")
    own = birth.program_of(running.container)
    own.arguments = arguments
    own.environment = [*own.environment, *request.get("env", [])]
    if request.get("tty") and not spec.tty:
        own.environment.insert(0, "TERM=xterm")
    own.working_directory = request.get("cwd") or spec.working_directory or "/"
    own.make_directory = False
    own.user = request.get("user") or spec.user
    if request.get("user"):
        own.group_add = []
    if request.get("privileged"):
        own.capabilities = capabilities.resolve(privileged=True)
        own.seccomp = b""
    return own


def _control(born: birth.Born, message: dict[str, Any]) -> None:
    if "signal" in message:
        os.kill(born.pid, int(message["signal"]))
