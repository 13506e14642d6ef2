"""The kernel's own view of what exists: processes, namespaces, mounts, cgroups and network links.

Read from /proc and /sys only. Two snapshots and the difference between them show what a command really
did to the machine, whatever it says about itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from minidock.errors import NotFound
from minidock.kernel import mounts as kernel_mounts

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("mnt", "pid", "uts", "ipc", "net", "user", "cgroup", "time")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: *what* is process, namespace, mount, cgroup or link; *sign* is ``+`` or ``-``."""

    what: str
    sign: str
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What existed at one moment. Each maps a name that stays the same to a detail for the reader."""

    process: dict[str, str] = field(default_factory=dict)  # "4711" → "sleep 300"
    namespace: dict[str, str] = field(default_factory=dict)  # "pid:[4026532201]" → "process 4711"
    mount: dict[str, str] = field(default_factory=dict)  # "/proc in mnt:[…]" → "proc"
    cgroup: dict[str, str] = field(default_factory=dict)  # path below /sys/fs/cgroup
    link: dict[str, str] = field(default_factory=dict)  # "eth0 in net:[…]"

    def changes(self, since: Snapshot) -> list[Change]:
        """What came and what went since an earlier snapshot."""
        found = []
        for what in ("process", "namespace", "mount", "cgroup", "link"):
            now, then = getattr(self, what), getattr(since, what)
            found += [Change(what, "+", name, now[name]) for name in now if name not in then]
            found += [Change(what, "-", name, then[name]) for name in then if name not in now]
        return found


def snapshot() -> Snapshot:
    """Look at the machine now. What ends while we look, and what we may not look at, is left out."""
    seen = Snapshot()
    for entry in sorted((name for name in os.listdir(PROC) if name.isdigit()), key=int):
        try:
            spaces = _namespaces(entry)
            command = _command(entry)
            if not command:  # a kernel thread, or a zombie
                continue
            seen.process[entry] = command
            for space in spaces.values():
                if space in seen.namespace:
                    continue
                seen.namespace[space] = f"process {entry}"
                if space.startswith("mnt:"):
                    for each in kernel_mounts.mountinfo(PROC / entry / "mountinfo"):
                        seen.mount[f"{each.path} in {space}"] = each.fstype
                elif space.startswith("net:"):
                    for link in _links(entry):
                        seen.link[f"{link} in {space}"] = ""
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    for place, directories, _ in os.walk(CGROUPS):
        for name in directories:
            seen.cgroup[os.path.join(place, name).removeprefix(f"{CGROUPS}/")] = ""
    return seen


def mounts(pid: int | None = None) -> list[kernel_mounts.MountPoint]:
    """The mounts that process *pid* sees (ours by default). NotFound when there is no such process."""
    try:
        return kernel_mounts.mountinfo(PROC / (str(pid) if pid else "self") / "mountinfo")
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"no process {pid}") from None


def _command(pid: str) -> str:
    """What runs there: its command line, or the name it gave itself when that says something else."""
    line = (PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    name = (PROC / pid / "comm").read_text().strip()
    program = os.path.basename(line.partition(" ")[0])
    return line if not line or program.startswith(name) or name.startswith(program) else name


def _namespaces(pid: str) -> dict[str, str]:
    """``{"mnt": "mnt:[4026531841]", …}`` of one process."""
    return {
        kind: os.readlink(PROC / pid / "ns" / kind)
        for kind in NAMESPACES
        if os.path.lexists(PROC / pid / "ns" / kind)
    }


def _links(pid: str) -> list[str]:
    lines = (PROC / pid / "net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]
