"""What the errno tutor looks at: one refused call, and the machine on which it was refused.

The causes themselves stand in `causes_mounts.py`, `causes_processes.py`,
`causes_programs.py`, `causes_networks.py`. A cause is a function that
answers (cause, hint) when what it finds on the machine proves it, and None otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock.kernel.mounts import MountPoint, mountinfo

Answer = tuple[str, str] | None

CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_MKNOD": 27,
}


@dataclass(frozen=True)
class Question:
    """Why was *operation* with *arguments* (as recorded in its step) refused with *errno*?

    *proc* is where the live state is read. *ask* makes a harmless system call that shows which mount
    option the kernel does not take; without it that cause is not looked for.
    """

    operation: str
    arguments: dict[str, Any]
    errno: int
    proc: Path = Path("/proc")
    ask: Callable[..., int] | None = None

    def text(self, name: str) -> str:
        """An argument as text, empty when it was not given."""
        return str(self.arguments.get(name, ""))

    def has_flag(self, *names: str) -> bool:
        """Whether one of the flags was given, by the kernel's name."""
        return bool(set(names) & set(self.text("flags").split("|")))

    def read(self, name: str) -> str:
        """A file below /proc; empty when it is not there."""
        try:
            return (self.proc / name).read_text(errors="surrogateescape")
        except OSError:
            return ""

    def read_file(self, path: str) -> str | None:
        """Any other file; None when it is not there."""
        try:
            with open(path, errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return None

    def status(self, key: str) -> str:
        """One line of /proc/thread-self/status: ``status("CapEff")``."""
        for line in self.read("thread-self/status").splitlines():
            if line.startswith(f"{key}:"):
                return line.partition(":")[2].strip()
        return ""

    def lacks(self, capability: str) -> bool:
        """Whether the calling thread's effective set is known to lack *capability*."""
        effective = self.status("CapEff")
        return bool(effective) and not int(effective, 16) >> CAPABILITIES[capability] & 1

    def in_user_namespace(self) -> bool:
        """Whether this process is in a user namespace other than the machine's first."""
        mapped = self.read("self/uid_map").split()
        return bool(mapped) and mapped != ["0", "0", "4294967295"]

    def processes(self) -> Iterator[tuple[int, Path]]:
        """Every process with its directory in /proc."""
        for entry in sorted(self.proc.iterdir(), key=lambda each: (len(each.name), each.name)):
            if entry.name.isdigit():
                yield int(entry.name), entry

    def name_of(self, pid: int) -> str:
        """``nginx (pid 77)``."""
        return f"{self.read(f'{pid}/comm').strip() or '?'} (pid {pid})"

    def mounts(self) -> list[MountPoint]:
        """What is mounted in the namespace of the calling process."""
        try:
            return mountinfo(self.proc / "self/mountinfo")
        except OSError:
            return []

    def mount_of(self, path: str) -> MountPoint | None:
        """The mount on which *path* lies: the longest path that leads to it, the latest of several."""
        real, best = os.path.realpath(path), None
        for mount in self.mounts():
            below = real == mount.path or real.startswith(mount.path.rstrip("/") + "/")
            if below and (best is None or len(mount.path) >= len(best.path)):
                best = mount
        return best

    def is_mount_point(self, path: str) -> bool:
        """Whether something is mounted exactly at *path*."""
        mount = self.mount_of(path)
        return mount is not None and mount.path == os.path.realpath(path)


# (operations, errno values, the function that looks for the proof), in the order of asking.
CAUSES: list[tuple[frozenset[str], frozenset[int], Callable[[Question], Answer]]] = []


def cause(operations: str, *errnos: int) -> Callable[[Callable[[Question], Answer]], Callable[..., Answer]]:
    """Register a cause for *operations* (separated by spaces); the first registered is the first asked."""

    def register(find: Callable[[Question], Answer]) -> Callable[[Question], Answer]:
        CAUSES.append((frozenset(operations.split()), frozenset(errnos), find))
        return find

    return register


def listed(things: list[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(things[:most]) + more
