"""Becoming the user's program: the last steps of every process that starts in a container.

The same for a container's first process (child.py) and for `exec` (exec.py). Called inside the
container's namespaces and root. Each step takes something away, so the order matters: what needs a
power comes before the step that drops it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which cost time
import os
import stat
from dataclasses import dataclass, field
from typing import NoReturn

from minidock import trace
from minidock.containers import launcher, users
from minidock.containers.channel import Channel
from minidock.errors import MinidockError
from minidock.kernel import capabilities, namespaces, seccomp, syscalls

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # the exit codes that shells and Docker give
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAUNCHER = 4  # the descriptor of the launcher, after the standard three and its report
_NEEDED = 64  # descriptors, on the way to the program
_NULL_DEVICE = os.makedev(1, 3)


@dataclass(slots=True)
class Program:
    """What is to run, as whom, with which powers."""

    arguments: list[str]
    environment: list[str]
    working_directory: str = "/"
    make_directory: bool = False  # create the working directory where the image lacks it
    user: str = ""
    group_add: list[str] = field(default_factory=list)
    ulimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    capabilities: set[str] = field(default_factory=set)
    seccomp: bytes = b""  # a filter; empty: none
    no_new_privileges: bool = False
    keyring: str = ""
    supervised: bool = False  # by a process 1 that stays behind, see run_under_init


@trace.mechanism(lesson=9)
def become(program: Program, stdio: list[int | None], channel: Channel, launch: int, parent: int) -> NoReturn:
    """Give up what the container must not have, then turn into the user's program.

    *stdio* are descriptors for stdin, stdout and stderr (None: the container's /dev/null). *channel*
    is the way back to the shim, closed by the exec; *launch* the sealed launcher; *parent* a pidfd of the
    shim, with which this process dies. Raises MinidockError (exit code 126 or 127 when the program is
    to blame).
    """
    syscalls.umask(0o022)
    last = _set_limits(program.ulimits)
    syscalls.keyctl_join_session_keyring(program.keyring)
    identity = users.lookup(program.user, program.group_add)
    place_stdio(stdio, identity.uid)
    if program.make_directory:
        os.makedirs(program.working_directory, exist_ok=True)
    if program.seccomp and not program.no_new_privileges:
        seccomp.install(program.seccomp)  # needs CAP_SYS_ADMIN, which goes away next
    capabilities.apply(program.capabilities, identity.uid, identity.gid, identity.groups)
    # The change of user has cancelled the first one. A shim that died in between cannot kill us any
    # more; set_parent_death_signal notices and does it for it.
    syscalls.set_parent_death_signal(_signal.SIGKILL, parent)
    enter(program.working_directory)
    environment = with_home(program.environment, identity.home)
    path = find_program(program.arguments[0], environment)
    reset_signals()
    if program.no_new_privileges:
        syscalls.set_no_new_privs()
        if program.seccomp:
            seccomp.install(program.seccomp)  # last: it may forbid any of the above
    if program.supervised:
        run_under_init()
    # No descriptor of the host's may get through (CVE-2024-21626): the report (closed by the launcher)
    # and the launcher (closed by the kernel) are all that is left above stderr.
    launch = os.dup(launch)  # out of the way of the two numbers
    channel.settle(launcher.REPORT)
    os.dup2(launch, _LAUNCHER, inheritable=False)
    os.closerange(_LAUNCHER + 1, 1 << 30)
    for resource, (soft, hard) in last.items():
        _limit(resource, soft, hard)
    syscalls.execve(_LAUNCHER, ["minidock-launcher", path, *program.arguments], environment)


def run_under_init() -> None:
    """Fork, and return in the child. The parent stays as the container's process 1 until the child ends.

    It has no power left by now, and no descriptor of the host's. It dies with the shim, and the kernel
    ends a pid namespace with its process 1.
    """
    main = os.fork()
    if main == 0:
        _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)
        os.setpgid(0, 0)  # a process group of its own: Ctrl-C reaches the program once, not twice
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpid())
        _signal.signal(_signal.SIGTTOU, _signal.SIG_DFL)
        return
    code = 125
    try:
        os.closerange(3, 1 << 30)
        with trace.recording(trace.Recorder()):  # nobody listens to our steps any more
            code = namespaces.supervise(main)
    except BaseException as error:
        os.write(2, f"minidock: process 1: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _set_limits(limits: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Set *limits*, while we may raise them; returns those for the end, because we could not work with them.

    A program may live with three descriptors. The way to it needs more.
    """
    last = {}
    for resource, (soft, hard) in limits.items():
        if resource == "nofile" and 0 <= soft < _NEEDED:
            last[resource] = (soft, hard)
            if 0 <= hard < _NEEDED:
                continue
            soft = hard
        _limit(resource, soft, hard)
    return last


def _limit(resource: str, soft: int, hard: int) -> None:
    try:
        syscalls.setrlimit(resource, soft, hard)
    except MinidockError as error:
        raise MinidockError(
            f"ulimit {resource}={soft}:{hard}: {error.message}",
            hint=error.hint or "Raising a hard limit needs CAP_SYS_RESOURCE, which this machine may lack.",
        ) from None


def place_stdio(stdio: list[int | None], uid: int) -> None:
    """Put the standard descriptors in place, owned by the user, so that /dev/stdout can be opened anew."""
    for number, descriptor in enumerate(stdio):
        if descriptor is None:
            # The container's own /dev/null, not the host's, and nothing else that bears its name.
            descriptor = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(descriptor).st_rdev != _NULL_DEVICE:
                raise MinidockError("/dev/null in the container is not the null device")
        elif uid:
            os.fchown(descriptor, uid, -1)
        if descriptor == number:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(descriptor, number)


def enter(directory: str) -> None:
    """Change to the working directory, and make sure that it lies inside the container.

    Raises MinidockError. A directory descriptor left open by its starter let /proc/self/fd/7 be a
    "working directory" on the host (CVE-2024-21626); there getcwd(2) has no answer.
    """
    try:
        os.chdir(directory)
        os.getcwd()
    except OSError as error:
        code = NOT_EXECUTABLE if isinstance(error, (PermissionError, NotADirectoryError)) else NOT_FOUND
        reason = (error.strerror or "").lower()
        raise MinidockError(
            f'unable to start container process: chdir to cwd ("{directory}") failed: {reason}',
            exit_code=code,
        ) from None


def with_home(environment: list[str], home: str) -> list[str]:
    """*environment* with HOME, unless it is there; of several entries of one name the last counts."""
    merged: dict[str, str] = {}
    for entry in environment:
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
    merged.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in merged.items()]


def find_program(name: str, environment: list[str]) -> str:
    """The path of the program *name*, looked up as a shell would. Raises MinidockError: 126, 127."""
    if "/" in name:
        _must_be_executable(name, name)
        return name
    search = next((entry[5:] for entry in environment if entry.startswith("PATH=")), "")
    for directory in search.split(":") if name else ():
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            _must_be_executable(candidate, name)
            return candidate
    raise _cannot_run(f'exec: "{name}": executable file not found in $PATH', NOT_FOUND)


def _must_be_executable(path: str, name: str) -> None:
    try:
        kind = os.stat(path).st_mode
    except PermissionError:
        raise _cannot_run(f'exec: "{name}": permission denied', NOT_EXECUTABLE) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise _cannot_run(f'exec: "{name}": stat {path}: {reason}', NOT_FOUND) from None
    if stat.S_ISDIR(kind):
        raise _cannot_run(f'exec: "{name}": is a directory', NOT_EXECUTABLE)
    if not os.access(path, os.X_OK):
        raise _cannot_run(
            f'exec: "{name}": permission denied',
            NOT_EXECUTABLE,
            hint=f"{path} has no executable bit for this user: chmod +x it in the image.",
        )
    wanted = interpreter(path)
    if wanted and not os.path.exists(wanted):
        raise _cannot_run(
            f"exec {path}: no such file or directory",
            NOT_FOUND,
            hint=f"{path} is there, but what runs it is not: {wanted} is missing in the image.",
        )


def _cannot_run(text: str, code: int, hint: str | None = None) -> MinidockError:
    return MinidockError(f"unable to start container process: {text}", hint=hint, exit_code=code)


def interpreter(path: str) -> str:
    """What the kernel needs beside *path* to run it: the script's interpreter, or the dynamic loader.

    "" when nothing, or when the file cannot be read. Source: execve(2), elf(5).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        start = os.read(descriptor, 4096)
        if start[:2] == b"#!":
            words = start[2:].split(b"\n", 1)[0].split(None, 1)
            return os.fsdecode(words[0]) if words else ""
        if start[:5] != b"\x7fELF\x02" or len(start) < 64:
            return ""
        offset = int.from_bytes(start[32:40], "little")
        size, count = int.from_bytes(start[54:56], "little"), int.from_bytes(start[56:58], "little")
        for at in range(offset, offset + size * count, size or 1):
            segment = start[at : at + 56]
            if len(segment) == 56 and int.from_bytes(segment[:4], "little") == 3:  # PT_INTERP
                where, length = (int.from_bytes(segment[i : i + 8], "little") for i in (8, 32))
                return os.fsdecode(os.pread(descriptor, min(length, 4096), where).rstrip(b"\0"))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return ""


def reset_signals() -> None:
    """Start with all signals at their default: Python ignores SIGPIPE, a nohup'ed starter SIGHUP."""
    for number in range(1, _signal.NSIG):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP) and _signal.getsignal(number) is not None:
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):  # those that libc keeps for itself
                continue
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def refused(number: int, path: str) -> MinidockError:
    """The error for an execve that the kernel refused after all, from the launcher's report."""
    code = NOT_FOUND if number == 2 else NOT_EXECUTABLE
    hint = None
    if number == 8:
        hint = "Not a program for this machine (or a script without a #! line): check the image's platform."
    return MinidockError(
        f"unable to start container process: exec {path}: {os.strerror(number).lower()}",
        hint=hint,
        exit_code=code,
    )
