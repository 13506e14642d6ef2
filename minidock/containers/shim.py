"""The shim: one small process per running container, its parent and its keeper.

It makes the container, copies its output to the log and to whoever is attached, answers requests on
``shim.sock``, waits for the end, records the exit code and cleans up. It holds ``shim.lock`` as long as
it lives: that lock *is* the container's being alive. When the shim dies the container dies with it.
No daemon watches the shims: what they leave in the files is the whole truth.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from minidock import trace
from minidock.containers import birth, cgroup, etc, mounts, protocol, requests, streams, timestamps
from minidock.containers.logs import LogFile
from minidock.containers.state import Container, State, vanish
from minidock.errors import MinidockError
from minidock.kernel import cgroups, syscalls

TITLE = "minidock-shim"


@dataclass(slots=True)
class Order:
    """What the starter wants: whom to attach (``{"stdin": true, …}``), the terminal's rows and columns."""

    attach: dict[str, bool]
    size: tuple[int, int] | None = None


def run(container: Container, order: Order, connection: socket.socket) -> NoReturn:
    """Be the shim of *container*, from the fork to the end. *connection* leads to the starter.

    The starter gets one control frame, ``started`` or ``error``; then it is an attached client.
    """
    _leave_the_starter(connection)
    shim = Shim(container, order)
    try:
        shim.live(connection)
    except BaseException as error:
        shim.fail(error)
    finally:
        os._exit(0)


def _leave_the_starter(connection: socket.socket) -> None:
    """Keep nothing of the process that forked us but *connection*."""
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        os.dup2(null, number)
    kept = connection.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 30)
    # Nobody but the host's root may look into /proc/PID of us or of the child we clone: there lie
    # descriptors of the host and the host's Python.
    syscalls.set_dumpable(False)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as title:
        title.write(TITLE)


class Shim:
    """The life of one container's keeper."""

    def __init__(self, container: Container, order: Order) -> None:
        self.container, self.order = container, order
        self.state = State()
        self.loop = streams.Loop()
        self.recorder = trace.Recorder()
        self.starter: streams.Client | None = None
        self.console: streams.Console | None = None
        self.born: birth.Born | None = None
        self.cgroup: cgroups.Cgroup | None = None
        self.waiters: list[streams.Client] = []
        self.log_readers: list[streams.Client] = []
        self.ended = False
        self._lock = self._listener = -1

    # --- the beginning ---------------------------------------------------------------------------

    def live(self, connection: socket.socket) -> None:
        """Start the container, serve it until it ends, put everything in order."""
        self.starter = streams.Client(self.loop, connection)
        self._take_lock()
        if self.container.spec.student_layers:
            from minidock import layers

            layers.load(Path(self.container.spec.student_layers))
        with trace.recording(self.recorder):
            self._start()
        self.write_trace()
        while not self.ended:
            self.loop.turn()
        self._end()

    def _take_lock(self) -> None:
        self._lock = os.open(
            self.container.directory / "shim.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _start(self) -> None:
        container, spec = self.container, self.container.spec
        mounts.prepare_sources(container.root, spec.mounts)
        etc.write(container)
        self.born, self.cgroup = birth.bear(
            container, lambda: cgroup.create(container.root, spec), self.order.size
        )
        self.state = State("running", self.born.pid, started_at=timestamps.now())
        container.write_state(self.state)
        self._listen()  # before anyone hears that it runs
        self._open_console()
        self.loop.watch(self.born.pidfd, streams.READ, lambda _: self._reap())

    def _open_console(self) -> None:
        spec, born = self.container.spec, self.born
        assert born is not None
        log = LogFile(self.container.directory / "log.json")
        self.console = streams.Console(self.loop, log, keep_stdin=spec.open_stdin and not spec.stdin_once)
        self.console.on_log = self._wake_log_readers
        self.console.on_control = lambda message: requests.control(self, message)
        if born.terminal is not None:
            self.console.use_terminal(*born.terminal)
        elif born.pipes is not None:
            self.console.use_pipes(*born.pipes)
        assert self.starter is not None
        self.starter.tell(started=born.pid)
        if self.order.attach:
            self.console.attach(self.starter, **self.order.attach)
        else:
            self.starter.close()
        self.console.start()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held = os.open(self.container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{held}/shim.sock"  # the real path may exceed what an address holds
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        os.close(held)
        listener.listen(64)
        listener.setblocking(False)
        self._listener = listener.detach()
        self.loop.watch(self._listener, streams.READ, lambda _: self._accept())

    def _accept(self) -> None:
        with socket.socket(fileno=os.dup(self._listener)) as listener:
            try:
                connection, _ = listener.accept()
            except OSError:  # it hung up already
                return
        streams.Client(self.loop, connection, lambda client, wanted: requests.serve(self, client, wanted))

    def write_trace(self) -> None:
        """Append the recorded steps to trace.jsonl, in the order of time; forget them here."""
        self.recorder.steps.sort(key=lambda step: step.at)
        path = self.container.directory / "trace.jsonl"
        with contextlib.suppress(OSError):  # a full disk must not end a container
            self.recorder.descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            self.recorder.flush()
            os.close(self.recorder.descriptor)
        self.recorder = trace.Recorder()

    # --- while it runs ---------------------------------------------------------------------------

    def _wake_log_readers(self) -> None:
        for reader in self.log_readers:
            if not reader.backlog:  # one word in the pipe is enough: it reads the file to its end
                reader.tell(more=True)

    def record(self, **changes: Any) -> None:
        """Change state.json."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        self.container.write_state(self.state)

    # --- the end ---------------------------------------------------------------------------------

    def _reap(self) -> None:
        assert self.born is not None
        _, status = os.waitpid(self.born.pid, 0)
        self.loop.forget(self.born.pidfd)
        code = os.waitstatus_to_exitcode(status)
        self.state.exit_code = 128 - code if code < 0 else code
        self.ended = True

    def _end(self) -> None:
        """Everything after the first process's end. What is acknowledged here is on disk."""
        assert self.console is not None and self.cgroup is not None
        with contextlib.suppress(MinidockError):
            self.state.oom_killed = self.cgroup.oom_kills() > 0
        self._clear_cgroup()
        self.console.drain()
        self.console.close_log()
        self.state.status, self.state.finished_at = "exited", timestamps.now()
        self._last_words(exit=self.state.exit_code, oom_killed=self.state.oom_killed)

    def _clear_cgroup(self) -> None:
        """Kill whoever is left (in a shared pid namespace nobody else does) and remove the cgroup."""
        assert self.cgroup is not None
        try:
            self.cgroup.kill()
            self.cgroup.remove()
        except MinidockError as error:
            self.state.error = error.message

    def _last_words(self, **message: Any) -> None:
        """Record the end or vanish, let the lock go, then tell all who wait; in this order."""
        self.state.pid = 0
        if self.container.spec.auto_remove:
            vanish(self.container)
        else:
            self.container.write_state(self.state)
            with contextlib.suppress(FileNotFoundError):
                (self.container.directory / "shim.sock").unlink()
        if self._listener >= 0:
            self.loop.forget(self._listener)
            os.close(self._listener)
        if self._lock >= 0:
            os.close(self._lock)
        clients = [*self.waiters, *self.log_readers]
        if self.starter is not None:
            clients.append(self.starter)
        if self.console is not None:
            clients += self.console.clients
        clients = list(dict.fromkeys(clients))
        for client in clients:
            client.finish(**message)
        while any(not client.closed for client in clients):  # the slow ones may still read
            self.loop.turn()

    def fail(self, error: BaseException) -> None:
        """The container could not start, or the shim has a bug: clean up, and say so."""
        try:
            if not isinstance(error, MinidockError):
                self._note_crash()
            described = protocol.describe(error)
            if self.born is not None:
                os.kill(self.born.pid, birth.SIGKILL)
            cgroup.clear(self.container.root, self.container.id)
            # As in Docker: what never ran is "created" still, and inspect shows why.
            self.state = State(exit_code=getattr(error, "exit_code", None) or 128)
            self.state.error = described["message"]
            self.write_trace()
            self._last_words(error=described)
        except BaseException:
            self._note_crash()

    def _note_crash(self) -> None:
        import traceback

        with contextlib.suppress(OSError), open(self.container.directory / "shim.log", "a") as file:
            traceback.print_exception(*sys.exc_info(), file=file)
