"""Capabilities: root's power, cut into 41 pieces of which a container gets 14.

Each thread has five sets of them. *Effective* is what it may do now; *permitted* what it may make
effective; *bounding* the most that any program it ever starts can get; *inheritable* and *ambient*
pass capabilities on through execve (containers leave both empty: CVE-2022-24769 shows why). Root in
a container is uid 0 with a small bounding set. Another user gets no capability at all, but keeps the
bounding set, so that a setuid-root program still finds the 14, unless no_new_privs forbids it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from minidock import trace
from minidock.errors import InvalidInput
from minidock.kernel import syscalls

# In the order of their bits. Source: linux/capability.h, capabilities(7).
_IN_ORDER = """
CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW
CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD
CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE
"""
NAMES = _IN_ORDER.split()
BITS = {name: bit for bit, name in enumerate(NAMES)}

# What root in a container needs to install packages and run servers: Docker's list, 00000000a80425fb.
_DOCKERS = """
CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP
"""
DEFAULT = frozenset(_DOCKERS.split())


def mask(capabilities: Iterable[str]) -> int:
    """The bit mask of *capabilities*, as /proc/PID/status shows it."""
    return sum(1 << BITS[name] for name in set(capabilities))


def names(bits: int) -> set[str]:
    """The names in a bit mask. Bits that this program does not know are left out."""
    return {name for name, bit in BITS.items() if bits >> bit & 1}


def available() -> set[str]:
    """The bounding set of this process: what this machine can give at all.

    Asked of the kernel, not read from /proc: inside a container /proc may be the image's invention.
    """
    return {name for name, bit in BITS.items() if syscalls.bounding_has(bit)}


def resolve(add: Collection[str] = (), drop: Collection[str] = (), privileged: bool = False) -> set[str]:
    """The capabilities of a container with ``--cap-add`` *add*, ``--cap-drop`` *drop*, ``--privileged``.

    Names may lack ``CAP_`` and be in small letters; ``ALL`` stands for all. What is dropped and added
    is added; ``--cap-add ALL`` respects drops, ``--cap-drop ALL`` leaves only what is added. What this
    machine does not have is left out of the defaults, of ALL and of privileged.

    Raises InvalidInput, with Docker's words, for a name that does not exist or cannot be had here.
    """
    here = available()
    added = _normalize(add, "CapAdd", here)
    dropped = _normalize(drop, "CapDrop", here)
    if privileged:
        return here
    if "ALL" in added:
        return here - dropped
    if "ALL" in dropped:
        return added
    return (here & DEFAULT) - dropped | added


def _normalize(given: Collection[str], option: str, here: set[str]) -> set[str]:
    normal = set()
    for text in given:
        name = text.upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != "ALL" and name not in BITS:
            raise InvalidInput(
                f'invalid {option}: unknown capability: "{name}"',
                hint="capabilities(7) lists the names; ALL means all of them.",
            )
        if option == "CapAdd" and name != "ALL" and name not in here:
            raise InvalidInput(
                f"invalid {option}: capability not supported by your kernel or not available "
                f'in the current environment: "{name}"'
            )
        normal.add(name)
    return normal


@trace.mechanism(lesson=11)
def apply(
    capabilities: Collection[str], uid: int = 0, gid: int = 0, groups: Collection[int] | None = None
) -> None:
    """Give up root's powers: what is not listed here can never come back, whatever is executed.

    Call it as root, last before execve; *groups* None leaves the supplementary groups alone. The
    order matters: dropping from the bounding set needs CAP_SETPCAP, the change of groups CAP_SETGID,
    that of the user CAP_SETUID, so each is used before it is lost. Without no_new_privs a seccomp
    filter must be installed earlier (it needs CAP_SYS_ADMIN), with it later.
    """
    keep = mask(capabilities)
    here = [bit for bit in range(64) if syscalls.bounding_has(bit)]  # a newer kernel has more than we know
    for bit in here:
        if not keep >> bit & 1:
            syscalls.drop_bounding(bit)
    syscalls.ambient_clear()
    if groups is not None:
        syscalls.setgroups(list(groups))
    syscalls.setresgid(gid, gid, gid)
    syscalls.setresuid(uid, uid, uid)
    # The kernel clears these by itself only when the user id leaves 0.
    powers = keep & sum(1 << bit for bit in here) if uid == 0 else 0
    syscalls.capset(powers, powers, 0)
