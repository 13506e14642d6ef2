"""The shim's half of starting a process in a container: namespaces, pipes, cgroup, and the way back.

:func:`bear` makes a container's first process (child.py is the other half), :func:`join` one more in a
running container (`exec`). Both return a :class:`Born`: a process that runs the user's program.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.containers import channel, child, etc, launcher, program, user_namespace
from minidock.containers.channel import Channel
from minidock.containers.state import Container
from minidock.errors import Conflict
from minidock.kernel import capabilities, cgroups, namespaces, seccomp, syscalls

SIGKILL = 9


@dataclass(slots=True)
class Born:
    """A process that came to life. *pidfd* is readable when it ends; the pipes are the shim's ends."""

    pid: int
    pidfd: int
    terminal: tuple[int, int] | None  # master, slave
    pipes: tuple[int | None, int, int] | None  # stdin, stdout, stderr; None with a terminal


def program_of(container: Container) -> program.Program:
    """The container's own program, with everything that decides what it may do."""
    spec = container.spec
    powers = capabilities.resolve(spec.security.cap_add, spec.security.cap_drop, spec.security.privileged)
    return program.Program(
        arguments=child.init_arguments(spec),
        environment=environment(container),
        working_directory=spec.working_directory or "/",
        make_directory=True,
        user=spec.user,
        group_add=spec.group_add,
        ulimits=spec.ulimits,
        capabilities=powers,
        seccomp=filter_of(container, powers),
        no_new_privileges=spec.security.no_new_privileges,
        keyring=f"_ses.{spec.id}",
        supervised=child.is_supervised(spec),
    )


def filter_of(container: Container, powers: set[str]) -> bytes:
    """The seccomp filter; none for privileged containers."""
    security = container.spec.security
    if security.privileged:
        return b""
    return seccomp.program(security.seccomp, powers, container.root / "cache") or b""


def environment(container: Container) -> list[str]:
    """Docker's defaults, what it is told of linked containers, then what the image and the user set."""
    spec = container.spec
    defaults = [f"PATH={program.DEFAULT_PATH}", f"HOSTNAME={etc.hostname(spec)}"]
    if spec.tty:
        defaults.append("TERM=xterm")
    if any(each.links for each in spec.wiring.attachments):
        from minidock.containers import links

        defaults += links.environment(container)
    return defaults + spec.environment


def bear(
    container: Container,
    cgroup: cgroups.Cgroup,
    size: tuple[int, int] | None,
    plug: Callable[[int], None] | None = None,
) -> Born:
    """Start the container's first process, which enters *cgroup*.

    *plug* is called with a descriptor of its network namespace while it builds its root; it waits until
    that is done. Raises what the child reports; then nothing of it is left.
    """
    spec = container.spec
    make, joins = _namespaces(container)
    if spec.namespaces.user == "private":
        with user_namespace.hold(user_namespace.ids_of(spec), make) as held:
            joins += held
            make -= {kind for kind, _ in held}
    pid_join = next((descriptor for kind, descriptor in joins if kind == "pid"), None)
    ends = Ends(spec.tty, spec.open_stdin)
    ours, theirs = channel.pair()
    birth = child.Birth(
        container,
        cgroup.places,
        program_of(container),
        theirs,
        ends.inside,
        size,
        launcher.sealed(),
        syscalls.pidfd_open(os.getpid()),
        [each for each in joins if each[0] != "pid"],
    )
    pid = _clone(namespaces.flags(make), pid_join)
    if pid == 0:
        child.live(birth)
    theirs.close()
    network = next((descriptor for kind, descriptor in joins if kind == "net"), None)
    if network is not None:  # made beforehand: the newborn is perhaps not in it yet
        network = os.dup(network)
    elif plug is not None:
        with contextlib.suppress(FileNotFoundError):  # it has failed already: _deliver knows why
            network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for descriptor in (birth.launch, birth.shim, *(descriptor for _, descriptor in joins)):
            os.close(descriptor)
        lay = None if plug is None or network is None else functools.partial(plug, network)
        return _deliver(pid, ours, ends, spec.arguments[0], lay)
    finally:
        if network is not None:
            os.close(network)


def join(
    container: Container,
    init: int,
    cgroup: cgroups.Cgroup,
    wanted: program.Program,
    *,
    tty: bool,
    stdin: bool,
    size: tuple[int, int] | None,
) -> Born:
    """Start one more process in a running container, beside the one with pid *init*."""
    ends = Ends(tty, stdin)
    ours, theirs = channel.pair()
    joining = child.Joining(
        init,
        cgroup.places,
        container.spec.oom_score_adj,
        wanted,
        theirs,
        ends.inside,
        tty,
        size,
        launcher.sealed(),
        syscalls.pidfd_open(os.getpid()),
        user_namespace.ids_of(container.spec),
    )
    descriptor = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = _clone(0, descriptor)
    finally:
        os.close(descriptor)
    if pid == 0:
        child.live_beside(joining)
    theirs.close()
    os.close(joining.launch)
    os.close(joining.shim)
    return _deliver(pid, ours, ends, wanted.arguments[0])


def _clone(flags: int, pid_namespace: int | None) -> int:
    """clone(2), into another pid namespace when one is given: setns(2) moves our children, not us."""
    if pid_namespace is None:
        return syscalls.clone(flags)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        namespaces.join(Path(f"/proc/self/fd/{pid_namespace}"), {"pid"})
        try:
            pid = syscalls.clone(flags)
        finally:
            if pid != 0:
                namespaces.join(Path(f"/proc/self/fd/{home}"), {"pid"})
    finally:
        os.close(home)
    return pid


def _deliver(pid: int, ours: Channel, ends: Ends, name: str, plug: Callable[[], None] | None = None) -> Born:
    """See the newborn through to its exec, or bury it and raise what it reports."""
    ends.close_inside()
    opened: list[int] = []
    try:
        opened.append(syscalls.pidfd_open(pid))
        if plug is not None:
            plug()
            ours.network_stands()
        news = ours.listen()
        opened += news.terminal or ()
        recorder = trace.current()
        if recorder is not None:
            recorder.steps += news.steps
        if news.refused is not None:
            raise program.refused(news.refused, name)
        if news.error is not None:
            raise news.error
    except BaseException:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
        ends.close_outside()
        for descriptor in opened:
            os.close(descriptor)
        raise
    finally:
        ours.close()
    return Born(pid, opened[0], news.terminal, ends.outside)


class Ends:
    """The pipes for stdin, stdout and stderr: the ends inside the container and those of the shim."""

    def __init__(self, tty: bool, stdin: bool) -> None:
        self.inside: list[int | None] = [None, None, None]
        self.outside: tuple[int | None, int, int] | None = None
        if tty:
            return  # the child brings a terminal
        in_read, in_write = os.pipe() if stdin else (None, None)
        (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
        self.inside = [in_read, out_write, err_write]
        self.outside = (in_write, out_read, err_read)

    def close_inside(self) -> None:
        for descriptor in self.inside:
            if descriptor is not None:
                os.close(descriptor)

    def close_outside(self) -> None:
        for descriptor in self.outside or ():
            if descriptor is not None:
                os.close(descriptor)


def _namespaces(container: Container) -> tuple[set[str], list[tuple[str, int]]]:
    """Which namespaces to make, and which to join.

    With another's ipc namespace comes its /dev/shm: for that its mount namespace is in the list as ``shm``.
    """
    wanted = container.spec.namespaces
    make, joins = {"mnt"}, []
    for kind, choice in (
        ("pid", wanted.pid),
        ("net", wanted.network),
        ("ipc", wanted.ipc),
        ("uts", wanted.uts),
    ):
        if choice.startswith("container:"):
            identifier = choice.partition(":")[2]
            pid = _running(container, identifier)
            try:
                joins.append((kind, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)))
                if kind == "ipc":
                    joins.append(("shm", os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)))
            except FileNotFoundError:  # it ended just now
                raise _not_running(identifier) from None
        elif choice != "host":
            make.add(kind)
    return make, joins


def _running(container: Container, identifier: str) -> int:
    """The pid of another container's first process. Raises Conflict when it does not run."""
    other = Container(container.root, identifier)
    pid = other.state().pid
    if not other.exists() or not other.running() or not pid:
        raise _not_running(identifier)
    return pid


def _not_running(identifier: str) -> Conflict:
    return Conflict(
        f"cannot join the namespaces of a non running container: {identifier[:12]}",
        hint=f"minidock start {identifier[:12]}",
    )
