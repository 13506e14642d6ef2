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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minidock import files, trace
from minidock.containers import (
    birth,
    cgroup,
    etc,
    health,
    life,
    lobby,
    logs,
    mounts,
    protocol,
    requests,
    restart,
    shutdown,
    timestamps,
    volumes,
)
from minidock.containers.client import Client
from minidock.containers.console import Console
from minidock.containers.door import Door
from minidock.containers.loop import READ, Loop
from minidock.containers.protocol import Order
from minidock.containers.running import Running, write_trace
from minidock.containers.state import Container, State, abandoned, drop_volumes, vanish
from minidock.containers.wiring import is_network
from minidock.errors import MinidockError
from minidock.kernel import syscalls

if TYPE_CHECKING:
    from minidock.containers.cables import Cables

TITLE = "minidock-shim"
SIGKILL = 9
_A_MOMENT = 0.05  # seconds
_LATE = 5.0  # seconds that who came late may take to say why


def get_ready() -> None:
    """Import what every shim needs sooner or later: now, while nobody waits, and shared by all forks."""
    from minidock.kernel import cgroups, devices, tutor  # noqa: F401

    cgroups.driver()


def run(container: Container, order: Order, connection: socket.socket) -> NoReturn:
    """Be the shim of *container*, from the fork to the end. *connection* leads to the starter.

    The starter gets one control frame, ``started`` or ``error``; then it is an attached client.
    """
    _leave_the_starter(connection)
    shim = Shim(container, order, connection)
    try:
        shim.live()
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

    def __init__(self, container: Container, order: Order, connection: socket.socket) -> None:
        self.container, self.order = container, order
        self.loop = Loop()
        self.starter = Client(self.loop, connection)
        self.recorder = trace.Recorder()
        self.cables: Cables | None = None
        self.running: Running | None = None
        self.back_off = restart.BackOff()
        self.guests: list[lobby.Guest] = []  # who came before the start
        self._door: Door | None = None
        self._lock = self._mounts = -1
        self._turn = contextlib.ExitStack()  # holds the container's lock while we start it again

    # --- the beginning ---------------------------------------------------------------------------

    def live(self) -> None:
        """Start the container, serve it until it ends, put everything in order."""
        self._take_lock()
        if self.order.lobby and not self._told_to_start():
            return
        if self.container.spec.student_layers:
            from minidock import layers

            layers.load(Path(self.container.spec.student_layers))
        state = State()
        while True:
            with self._turn, trace.recording(self.recorder):
                running = self.running = self._start(state)
            if not self.container.spec.auto_remove or (self.container.directory / "trace.jsonl").exists():
                write_trace(self.container, self.recorder)
            else:  # it may be gone in a moment, with its trace: then writing one need not hold it up
                self.loop.after(_A_MOMENT, lambda: write_trace(self.container, self.recorder))
            while not running.ended:
                self.loop.turn()
            self._end(running)
            if not self._restarts(running):
                return
            state = State(restart_count=running.state.restart_count + 1)
            self.recorder = trace.Recorder()

    def _take_lock(self) -> None:
        path = self.container.directory / "shim.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _told_to_start(self) -> bool:
        """Keep the lobby until somebody wants a start; False when nobody wanted one."""
        room = lobby.Lobby(self.loop, self.container.state().exit_code)
        door = Door(self.loop, self.container.directory, lobby.SOCKET, room.serve)
        self.starter.finish(open=True)
        while not room.over:
            self.loop.turn()
        lobby.close(self.container)
        door.close(room.serve)
        if room.starter is None:
            self._flush([client for client, _ in room.guests])
            return False
        self.container.forget_spec()  # it may have been renamed or updated while we waited
        self.starter, self.order, self.guests = room.starter, room.order, room.guests
        return True

    def _start(self, state: State) -> Running:
        container, spec = self.container, self.container.spec
        mounts.prepare_sources(container.root, spec.mounts)
        self._reserve_network()
        made = cgroup.create(container.root, spec)
        born = birth.bear(container, made, self.order.size, self.cables.plug if self.cables else None)
        if spec.auto_remove:
            self._hold_mounts(born.pid)
        state.status, state.pid, state.started_at = life.RUNNING, born.pid, timestamps.now()
        state.boot = timestamps.boot()
        state.health = health.at_first(spec.health_check)
        log = logs.open_log(spec, container.directory / "log.json")
        console = Console(self.loop, log, keep_stdin=spec.open_stdin and not spec.stdin_once)
        running = Running(container, self.loop, console, made, born.pid, state, self.cables)
        if self.running is not None:  # a restart: who came meanwhile waits for the next end
            running.waiters, running.log_readers = self.running.waiters, self.running.log_readers
        if self._door is None:  # before anyone hears that it runs
            self._door = Door(self.loop, container.directory, "shim.sock", self._serve)
            shutdown.heed(self.loop, lambda: requests.shut_down(self.running))
        container.write_state(state)
        self._note_volumes("mount")
        container.note("start")
        if spec.owner:  # a build: when it is killed, nobody waits for what this container does
            self.starter.on_close = lambda: running.signal(SIGKILL)
        console.on_log = running.wake_log_readers
        console.on_control = lambda message: requests.control(running, message)
        console.use(born.pipes, born.terminal)
        self.starter.tell(started=born.pid)
        if self.order.attach:
            console.attach(self.starter, **self.order.attach)
        else:
            self.starter.close()
        self._serve_guests(running)
        console.start()
        self.loop.watch(born.pidfd, READ, lambda _: self._reap(running, born.pidfd))
        if health.wanted(spec.health_check):
            running.on_end.append(health.Monitor(running).stop)
        return running

    def _reserve_network(self) -> None:
        """Write the container's own files of /etc, and take its place in its networks."""
        if not is_network(self.container.spec.namespaces.network):
            etc.write(self.container, [])
            return
        if self.cables is None:
            from minidock.containers.cables import Cables  # much code: only where there is a network

            self.cables = Cables(self.container, self.loop)
        self.cables.reserve()

    def _note_volumes(self, action: str) -> None:
        """Tell `events` which volumes are in use from now on, or no more."""
        for mount in self.container.spec.mounts:
            if mount.kind == "volume":
                about = {"container": self.container.id}
                if action == "mount":
                    about |= {"destination": mount.target, "propagation": mount.propagation}
                    about["read/write"] = str(not mount.read_only).lower()
                volumes.note(self.container.root, mount.source, action, **about)

    def _hold_mounts(self, pid: int) -> None:
        """Keep the container's mount namespace until the news of its end is out.

        With its last process it goes, and the kernel takes milliseconds to unmount all in it; so nobody
        waits for them. Not of a container that stays: it may be started again, on the same upper directory.
        """
        with contextlib.suppress(OSError):  # it has ended already
            self._mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _serve_guests(self, running: Running) -> None:
        """Those from the lobby come first: they miss nothing of what is written."""
        guests, self.guests = self.guests, []
        for client, request in guests:
            client.on_close = None
            client.serve(lambda who, wish: requests.serve(running, who, wish), request)

    def _serve(self, client: Client, request: dict[str, Any]) -> None:
        assert self.running is not None
        requests.serve(self.running, client, request)

    # --- the end ---------------------------------------------------------------------------------

    def _reap(self, running: Running, pidfd: int) -> None:
        _, status = os.waitpid(running.pid, 0)
        self.loop.forget(pidfd)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        running.state.exit_code = 128 - code if code < 0 else code
        running.ended = True

    def _end(self, running: Running) -> None:
        """Everything after the first process's end that has to be done whether or not it starts again."""
        state = running.state
        for stop in running.on_end:
            stop()
        with contextlib.suppress(MinidockError):
            state.oom_killed = running.cgroup.oom_kills() > 0
        try:  # who is left dies now: in a shared pid namespace nobody else kills them
            running.cgroup.kill()
            running.cgroup.remove()
        except MinidockError as error:
            state.error = error.message
        running.console.drain()
        running.console.close()
        running.console.close_log()
        state.pid, state.finished_at = 0, timestamps.now()
        if state.oom_killed:
            running.note("oom")
        running.note("die", exitCode=str(state.exit_code), execDuration=str(int(running.lasted())))
        if self.cables is not None:
            self.cables.note_end()
        self._note_volumes("unmount")

    def _restarts(self, running: Running) -> bool:
        """Let the restart policy decide. True when the container is to start again, after its rest."""
        spec, state = self.container.spec, running.state
        wanted = not running.wanted_end and restart.again(
            spec.restart_policy, spec.restart_retries, state.exit_code, state.restart_count
        )
        if wanted:
            state.status = life.after("restart policy", life.RUNNING, spec.id)
            self.container.write_state(state)
            if self.cables is not None:
                self.cables.release()
            self._tell_all(exit=state.exit_code, oom_killed=state.oom_killed)
            self._rest(running, self.back_off.rest(running.lasted()))
            if self._get_turn(running):
                return True
        state.status = life.after("end", state.status, spec.id)
        self._last_words(state, exit=state.exit_code, oom_killed=state.oom_killed)
        return False

    def _rest(self, running: Running, seconds: float) -> None:
        running.resting = True
        self.loop.after(seconds, running.wake_up)
        while running.resting:
            self.loop.turn()

    def _get_turn(self, running: Running) -> bool:
        """Take the container's lock for the next start; False when a user ends it before that.

        Who copies files may still have the writable directory mounted, and a second mount would damage it.
        Who holds the lock may also ask us for something (an update does), so we never wait but in the loop.
        """
        while not running.wanted_end:
            try:
                self._turn.enter_context(self.container.lock(wait=False))
            except BlockingIOError:
                self._rest(running, _A_MOMENT)
            else:
                self.container.forget_spec()  # what was changed meanwhile counts
                return True
        return False

    def _tell_all(self, **message: Any) -> list[Client]:
        """Tell everyone who waits or is attached, and let them go; returns who that was."""
        clients = [self.starter, *(client for client, _ in self.guests)]
        if self.running is not None:
            clients += [*self.running.waiters, *self.running.log_readers, *self.running.console.clients]
            self.running.waiters.clear()
            self.running.log_readers.clear()
        for client in clients:
            client.finish(**message)
        return clients

    def _last_words(self, state: State, **message: Any) -> None:
        """Record the end or vanish, let the lock go, then tell all who wait."""
        state.pid = 0
        if self.cables is not None:
            self.cables.free_ports()
        parting = None
        if self.container.spec.auto_remove or abandoned(self.container.spec):
            self.container.note("destroy")
            parting = vanish(self.container)
            with contextlib.suppress(OSError):
                drop_volumes(self.container)
        else:
            with contextlib.suppress(OSError):  # a full disk must not keep anyone from hearing of the end
                self.container.write_state(state)
            (self.container.directory / "shim.sock").unlink(missing_ok=True)
        clients = self._close_door(message)
        if self._lock >= 0:
            os.close(self._lock)
        clients += self._tell_all(**message)
        if self._mounts >= 0:
            os.close(self._mounts)
        if self.cables is not None:
            self.cables.release()
        if parting is not None:  # nobody sees it any more, so nobody needs to wait for it
            files.remove_tree(parting)
        self._flush(clients)

    def _close_door(self, message: dict[str, Any]) -> list[Client]:
        """Who has knocked while we were ending hears of the end, too; nobody else can knock any more."""
        if self._door is None or self.running is None:
            return []
        running = self.running
        late = self._door.close(lambda *each: requests.serve_late(running, message, *each))
        for client in late:
            self.loop.after(_LATE, client.close)
        return late

    def _flush(self, clients: list[Client]) -> None:
        while any(not client.closed for client in clients):  # the slow ones may still read
            self.loop.turn()

    def fail(self, error: BaseException) -> None:
        """The container could not start, or the shim has a bug: clean up, and say so."""
        try:
            if not isinstance(error, MinidockError) and getattr(error, "errno", None) not in files.FULL:
                self.note_crash()
            described = protocol.describe(error)
            cgroup.clear(self.container.root, self.container.id)
            write_trace(self.container, self.recorder)
            # As in Docker: what never ran is "created" still, and inspect shows why.
            state = self.running.state if self.running else State()
            if self.running:
                state.status, state.finished_at = life.EXITED, timestamps.now()
            state.exit_code = getattr(error, "exit_code", None) or 128
            state.error = described["message"]
            self._last_words(state, error=described)
        except BaseException:
            self.note_crash()

    def note_crash(self) -> None:
        """Keep the traceback of a bug where it can be found: shim.log."""
        import traceback

        with contextlib.suppress(OSError), open(self.container.directory / "shim.log", "a") as file:
            traceback.print_exception(*sys.exc_info(), file=file)
