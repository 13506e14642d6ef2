"""`exec`: one more process in a running container, started by the shim so that the shim can wait for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from minidock import trace
from minidock.containers import birth, streams
from minidock.containers.program import Program
from minidock.containers.streams import Client
from minidock.errors import InvalidInput
from minidock.kernel import capabilities

if TYPE_CHECKING:
    from minidock.containers.shim import Shim


def start(shim: Shim, client: Client, request: dict[str, Any]) -> None:
    """Start the process that *request* describes. *client* becomes its terminal unless ``detach``.

    The answer is ``started`` (the pid); the end is ``exit``. Raises what the new process reports.
    """
    tty, detach = bool(request.get("tty")), bool(request.get("detach"))
    stdin = bool(request.get("stdin")) and not detach
    size = tuple(request["size"]) if request.get("size") else None
    assert shim.born is not None and shim.cgroup is not None
    with trace.recording(shim.recorder):
        born = birth.join(
            shim.container,
            shim.born.pid,
            shim.cgroup,
            _program(shim, request),
            tty=tty,
            stdin=stdin,
            size=size,
        )
    console = streams.Console(shim.loop, None, keep_stdin=False)
    if born.terminal is not None:
        console.use_terminal(*born.terminal)
    elif born.pipes is not None:
        console.use_pipes(*born.pipes)
    client.tell(started=born.pid)
    if detach:
        client.finish(done=True)
    else:
        console.attach(client, stdin=stdin, stdout=True, stderr=True)
        console.on_control = lambda message: _control(born, message)

    def reap() -> None:
        _, status = os.waitpid(born.pid, 0)
        shim.loop.forget(born.pidfd)
        os.close(born.pidfd)
        console.on_control = None  # the pid may soon be another's
        console.drain()
        console.close()
        code = os.waitstatus_to_exitcode(status)
        client.finish(exit=128 - code if code < 0 else code)

    console.start()
    shim.loop.watch(born.pidfd, streams.READ, lambda _: reap())


def _program(shim: Shim, request: dict[str, Any]) -> Program:
    spec = shim.container.spec
    arguments = request["argv"]
    if not arguments:
        raise InvalidInput("No exec command specified")
    own = birth.program_of(shim.container)
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
