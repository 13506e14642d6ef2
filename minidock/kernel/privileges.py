"""The calls that decide what a process may do: user, capabilities, seccomp filter, limits.

Part of the one door: everyone calls these as ``syscalls.capset(…)``.
"""

# ruff: noqa: F405 (names of the kernel come from constants.py)
from __future__ import annotations

import os
import struct

from minidock.errors import InvalidInput
from minidock.kernel.constants import *  # noqa: F403
from minidock.kernel.door import address, buffer, request, syscall

# --- prctl: what a process is and may become -----------------------------------------------------


def prctl(option: str, value: int, argument: int = 0) -> int:
    """prctl(2): *option* by its name, as the trace shows it."""
    with request("prctl", option=option, value=value):
        return syscall("prctl", globals()[option], value, argument, 0, 0)


def set_no_new_privs() -> None:
    """From here no execve gives more privileges (setuid bits and file capabilities are ignored)."""
    prctl("PR_SET_NO_NEW_PRIVS", 1)


def set_dumpable(dumpable: bool) -> None:
    """Forbid (or allow) ptrace and /proc/PID access by processes of the same user."""
    prctl("PR_SET_DUMPABLE", int(dumpable))


def set_child_subreaper() -> None:
    """Become the parent of orphaned descendants, so that their exit codes arrive here."""
    prctl("PR_SET_CHILD_SUBREAPER", 1)


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted capabilities when the user id changes from 0."""
    prctl("PR_SET_KEEPCAPS", int(keep))


def drop_bounding(capability: int) -> None:
    """Remove a capability from the bounding set: no program started later can get it."""
    prctl("PR_CAPBSET_DROP", capability)


def bounding_has(capability: int) -> bool:
    """Whether the bounding set holds *capability*; False for one this kernel does not know. Unrecorded."""
    try:
        return syscall("prctl", PR_CAPBSET_READ, capability, 0, 0, 0) == 1
    except OSError:
        return False


def ambient_clear() -> None:
    """Empty the ambient capability set, which would survive execve."""
    prctl("PR_CAP_AMBIENT", PR_CAP_AMBIENT_CLEAR_ALL)


def seccomp_install(program: bytes) -> None:
    """seccomp(2): filter this process's system calls by *program*, an array of struct sock_filter.

    Needs no_new_privs or CAP_SYS_ADMIN; cannot be taken back.
    """
    instructions = buffer(program)
    filters = struct.pack("H6xP", len(program) // 8, address(instructions))  # struct sock_fprog
    with request("seccomp", mode="SECCOMP_SET_MODE_FILTER", instructions=len(program) // 8):
        syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, filters)


# --- users, capabilities, limits -----------------------------------------------------------------


def capget() -> tuple[int, int, int]:
    """capget(2): this thread's (effective, permitted, inheritable) capabilities as bit masks. Unrecorded."""
    words = buffer(bytes(24))
    syscall("capget", struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0), words)
    low, high = struct.unpack("3I", bytes(words)[:12]), struct.unpack("3I", bytes(words)[12:])
    return low[0] | high[0] << 32, low[1] | high[1] << 32, low[2] | high[2] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2): set this thread's capabilities from bit masks."""
    masks = {"effective": effective, "permitted": permitted, "inheritable": inheritable}
    words = [mask & 0xFFFFFFFF for mask in masks.values()] + [mask >> 32 for mask in masks.values()]
    with request("capset", **{name: f"{mask:016x}" for name, mask in masks.items()}):
        syscall("capset", struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0), struct.pack("6I", *words))


def setgroups(groups: list[int]) -> None:
    """setgroups(2): set the supplementary groups."""
    with request("setgroups", groups=groups):
        os.setgroups(groups)


def setresuid(real: int, effective: int, saved: int) -> None:
    """setresuid(2): become another user."""
    with request("setresuid", real=real, effective=effective, saved=saved):
        os.setresuid(real, effective, saved)


def setresgid(real: int, effective: int, saved: int) -> None:
    """setresgid(2): become another group."""
    with request("setresgid", real=real, effective=effective, saved=saved):
        os.setresgid(real, effective, saved)


def setrlimit(resource: str, soft: int, hard: int) -> None:
    """prlimit(2) on this process: *resource* is a key of RLIMITS ("nofile"); -1 means unlimited."""
    if resource not in RLIMITS:
        raise InvalidInput(f"ulimit {resource!r}: unknown", hint=f"Known: {', '.join(sorted(RLIMITS))}.")
    with request("setrlimit", resource=resource, soft=soft, hard=hard):
        limits = struct.pack("QQ", soft % 2**64, hard % 2**64)
        syscall("prlimit64", 0, RLIMITS[resource], limits, None)


def umask(mask: int) -> int:
    """umask(2): set the mode bits that new files lack; returns the old mask."""
    with request("umask", mask=oct(mask)):
        return os.umask(mask)


def keyctl_join_session_keyring(name: str) -> int:
    """keyctl(2): start a session keyring, so that the container cannot read the keys of its starter."""
    with request("keyctl", command="KEYCTL_JOIN_SESSION_KEYRING", name=name):
        return syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name)
