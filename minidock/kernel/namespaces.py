"""Namespaces: each divides one thing that all processes of a machine would otherwise share.

Lesson 02. A namespace lives as long as a process is in it or something holds its file under
/proc/PID/ns. Create one for yourself (:func:`create`), or start a child in new ones (syscalls.clone with
:func:`flags`), or enter another process's (:func:`join`). A pid namespace needs a process 1 that does its
duty (:func:`supervise`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which cost time
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.errors import InvalidInput, NotFound
from minidock.kernel import syscalls

# What each kind divides: mounts, process ids, host name, System V and POSIX queues, network interfaces,
# user ids and capabilities, the visible root of the cgroup tree, the monotonic and boot clocks.
KINDS = {
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "net": syscalls.CLONE_NEWNET,
    "user": syscalls.CLONE_NEWUSER,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "time": syscalls.CLONE_NEWTIME,
}


# The signals by which people talk to a program; a process 1 passes them on.
PASSED_ON = (
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM),
    *(_signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGWINCH),
)


@dataclass(frozen=True, slots=True)
class IdRange:
    """*length* ids: *inside* and up in the user namespace mean *outside* and up in its parent."""

    inside: int
    outside: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.length}"


def flags(kinds: Iterable[str]) -> int:
    """``{"mnt", "pid"}`` → ``CLONE_NEWNS | CLONE_NEWPID``. Raises InvalidInput for an unknown kind."""
    total = 0
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidInput(f"namespace {kind!r}: no such kind", hint=f"Known kinds: {', '.join(KINDS)}.")
        total |= KINDS[kind]
    return total


@trace.mechanism(lesson=2)
def create(kinds: Iterable[str]) -> None:
    """Leave the host's view behind: from here this process sees new, empty namespaces.

    ``pid`` and ``time`` begin with the next child: a process cannot change its own pid.
    Raises KernelError: EPERM without CAP_SYS_ADMIN, EINVAL for ``user`` with several threads.
    Source: unshare(2).
    """
    syscalls.unshare(flags(kinds))


@trace.mechanism(lesson=2)
def join(target: int | Path, kinds: Iterable[str]) -> None:
    """Enter the namespaces of another process: that is all that `exec` into a container is.

    *target* is a pid, or the path of one namespace file (then *kinds* names its one kind). Namespaces
    that this process is in already are left out: the kernel refuses to enter one's own user namespace.
    All are entered by one setns(2) on a pidfd, so it works wholly or not at all, and a pid that is
    reused meanwhile cannot lead elsewhere. ``pid`` counts for later children.
    """
    if isinstance(target, Path):
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        wanted = list(kinds)
    else:
        descriptor = syscalls.pidfd_open(target)
        own, theirs = identify(os.getpid()), identify(target)
        wanted = [kind for kind in kinds if own.get(kind) != theirs.get(kind)]
    try:
        if wanted:
            syscalls.setns(descriptor, flags(wanted))
    finally:
        os.close(descriptor)


def identify(pid: int | str = "self") -> dict[str, int]:
    """The namespaces that a process is in: ``{"mnt": 4026531841, …}``; equal numbers, same namespace.

    Kinds that this kernel lacks are left out. Raises NotFound when there is no such process.
    """
    found = {}
    for kind in KINDS:
        try:
            found[kind] = os.stat(f"/proc/{pid}/ns/{kind}").st_ino
        except FileNotFoundError:
            continue
    if not found:
        raise NotFound(f"process {pid}: no such process")
    return found


def sharing(pids: Iterable[int] | None = None) -> dict[str, dict[int, list[int]]]:
    """Who shares what: ``{"net": {4026531840: [1, 2, 77], 4026532177: [80]}, …}``.

    Looks at all processes of /proc unless *pids* are given; those that end meanwhile are left out.
    """
    if pids is None:
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    found: dict[str, dict[int, list[int]]] = {kind: {} for kind in KINDS}
    for pid in pids:
        try:
            namespaces = identify(pid)
        except (NotFound, PermissionError, ProcessLookupError):
            continue
        for kind, inode in namespaces.items():
            found[kind].setdefault(inode, []).append(pid)
    return {kind: members for kind, members in found.items() if members}


@trace.mechanism(lesson=2)
def write_id_map(
    pid: int, uid_map: list[IdRange], gid_map: list[IdRange], *, deny_setgroups: bool | None = None
) -> None:
    """Say which users of the parent the users in a new user namespace really are.

    Each map can be written once, by one write. A writer without CAP_SETGID in the parent may map only
    its own ids, and must give up setgroups(2) first (else it could leave a group that denies it access);
    *deny_setgroups* None means: when this process is not root. Source: user_namespaces(7).
    """
    if deny_setgroups is None:
        deny_setgroups = os.geteuid() != 0
    if deny_setgroups:
        syscalls.write_file(f"/proc/{pid}/setgroups", "deny")
    syscalls.write_file(f"/proc/{pid}/uid_map", "\n".join(map(str, uid_map)))
    syscalls.write_file(f"/proc/{pid}/gid_map", "\n".join(map(str, gid_map)))


@trace.mechanism(lesson=2)
def set_hostname(name: str, domain: str = "") -> None:
    """Name the container: its UTS namespace has a host name of its own."""
    syscalls.sethostname(name)
    if domain:
        syscalls.setdomainname(domain)


@trace.mechanism(lesson=2)
def shift_clocks(*, monotonic: int = 0, boottime: int = 0) -> None:
    """Move the clocks of a new time namespace, in seconds: a container restored elsewhere sees no jump.

    Between ``create({"time"})`` and the first child; afterwards the kernel answers EACCES.
    Source: time_namespaces(7).
    """
    text = f"monotonic {monotonic} 0\nboottime {boottime} 0"
    syscalls.write_file("/proc/self/timens_offsets", text)


@trace.mechanism(lesson=2)
def supervise(main: int) -> int:
    """Be process 1 for the child *main*: pass signals on to it, and bury every orphan.

    A process whose parent has ended becomes a child of process 1. Until someone waits for it, it stays
    a zombie and keeps its pid. And the kernel drops a signal for process 1 that it has no handler for:
    without one, SIGTERM would never reach the program. Returns when *main* has ended: its exit code,
    128+n after signal n. Source: pid_namespaces(7), wait(2).
    """
    for number in PASSED_ON:
        _signal.signal(number, lambda received, frame: os.kill(main, received))
    while True:
        pid, status = os.wait()
        if pid == main:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
