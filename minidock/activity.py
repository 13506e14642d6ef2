"""What goes on in a running container, seen from the host: `top` and `stats`."""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass
from pathlib import Path

from minidock.containers import lifecycle
from minidock.containers.state import Container
from minidock.errors import InvalidInput, MinidockError

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading of a container. Bytes, nanoseconds; *at* in seconds; None where nothing is known.

    Processor use is the difference of two readings' *cpu_usage* over that of *at*.
    """

    id: str
    name: str
    at: float
    cpu_usage: int | None = None
    memory_working: int | None = None
    memory_limit: int | None = None
    pids: int | None = None
    io_read: int | None = None
    io_write: int | None = None
    network_received: int = 0
    network_sent: int = 0


def usage(container: Container) -> Usage:
    """Read what *container* uses now; all zero when it does not run (as `docker stats` shows it)."""
    at = time.time()
    if not container.running():
        return Usage(container.id, container.name, at)
    found = lifecycle.statistics(container)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    received, sent = _network(container.state().pid)
    return Usage(
        container.id,
        container.name,
        at,
        found["cpu_usage"],
        found["memory_working"],
        min(found["memory_limit"] or machine, machine),
        found["pids"],
        found["io_read"],
        found["io_write"],
        received,
        sent,
    )


def _network(pid: int) -> tuple[int, int]:
    """Bytes that came and went over all interfaces but loopback. Source: proc_pid_net(5), dev."""
    received = sent = 0
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return 0, 0
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            fields = numbers.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def top(container: Container, options: list[str]) -> tuple[list[str], list[list[str]]]:
    """The processes of a container: titles and rows, as ``ps -ef`` (or ``ps`` *options*) shows them.

    The pids are the host's. Raises Conflict when it does not run.
    """
    pids = lifecycle.processes(container)
    if options:
        return _by_ps(pids, options)
    rows = [row for pid in pids if (row := _row(pid))]
    return TITLES, sorted(rows, key=lambda row: int(row[1]))


def _by_ps(pids: list[int], options: list[str]) -> tuple[list[str], list[list[str]]]:
    import subprocess

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True)
    except FileNotFoundError:
        raise MinidockError("top: the host has no ps", hint="apt install procps") from None
    if done.returncode != 0:
        raise InvalidInput(f"ps {' '.join(options)}: {done.stderr.strip().splitlines()[0]}")
    first, *rest = done.stdout.splitlines()
    titles = first.split()
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output", hint="Leave the PID column in.")
    at = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in rest]
    return titles, [row for row in rows if row[at].isdigit() and int(row[at]) in pids]


def _row(pid: int) -> list[str] | None:
    """One process from /proc. Source: proc_pid_stat(5). None when it ended meanwhile."""
    try:
        directory = Path(f"/proc/{pid}")
        text = (directory / "stat").read_text()
        words = (
            (directory / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        )
        uid = directory.stat().st_uid
    except OSError:
        return None
    name, _, rest = text.partition(" (")[2].rpartition(") ")
    fields = rest.split()  # from the third field on: state, ppid, …
    ticks = os.sysconf("SC_CLK_TCK")
    spent = (int(fields[11]) + int(fields[12])) // ticks
    started = _boot_time() + int(fields[19]) / ticks
    age = max(time.time() - started, 0.01)
    terminal = int(fields[4])
    return [
        _user(uid),
        str(pid),
        fields[1],
        str(int(100 * spent / age)),
        time.strftime("%H:%M" if age < 86400 else "%b%d", time.localtime(started)),
        f"pts/{terminal & 0xFF | terminal >> 12 & 0xFFF00}" if terminal else "?",
        f"{spent // 3600:02d}:{spent // 60 % 60:02d}:{spent % 60:02d}",
        words or f"[{name}]",
    ]


def _boot_time() -> float:
    return time.time() - float(Path("/proc/uptime").read_text().split()[0])


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
