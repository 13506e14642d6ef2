"""`exec`: one more process in a running container, started by the shim so that the shim can wait for it."""

from __future__ import annotations

import os
from typing import Any

from minidock import trace
from minidock.containers import birth
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
    tty, detach = bool(request.get("tty")), bool(request.get("detach"))
    stdin = bool(request.get("stdin")) and not detach
    size = tuple(request["size"]) if request.get("size") else None
    recorder = trace.Recorder()
    try:
        with trace.recording(recorder):
            born = birth.join(
                running.container,
                running.pid,
                running.cgroup,
                _program(running, request),
                tty=tty,
                stdin=stdin,
                size=size,
            )
    except MinidockError as error:
        error.exit_code = error.exit_code or NOT_EXECUTABLE  # as Docker: the command cannot be invoked
        raise
    finally:
        write_trace(running.container, recorder)
    console = Console(running.loop, None, keep_stdin=False)
    console.use(born.pipes, born.terminal)
    client.tell(started=born.pid)
    if detach:
        client.finish(done=True)
    else:
        console.attach(client, stdin=stdin, stdout=True, stderr=True)
        console.on_control = lambda message: _control(born, message)

    def reap() -> None:
        _, status = os.waitpid(born.pid, 0)
        running.loop.forget(born.pidfd)
        os.close(born.pidfd)
        console.on_control = None  # the pid may soon be another's
        console.drain()
        console.close()
        code = os.waitstatus_to_exitcode(status)
        client.finish(exit=128 - code if code < 0 else code)

    console.start()
    running.loop.watch(born.pidfd, READ, lambda _: reap())


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
