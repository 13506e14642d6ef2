"""``minidock stats``: what running containers use, once or live."""

from __future__ import annotations

import sys
import time
from typing import Any

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context
from minidock.cli.flags import Command, Values, boolean
from minidock.cli.ps import FORMAT

HEADINGS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_INTERVAL = 1.0  # seconds between two readings: processor use is a difference


def stats(context: Context, values: Values, arguments: list[str]) -> int:
    """Show usage: a table redrawn every second, or with --no-stream once."""
    live = not values["no-stream"]
    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() and live else ""
    before = _readings(context, arguments, values["all"])
    while True:
        time.sleep(_INTERVAL)
        now = _readings(context, arguments, values["all"])
        rows = [
            row_of(reading, before.get(typed), values["no-trunc"], typed) for typed, reading in now.items()
        ]
        sys.stdout.write(clear)
        table.show(rows, HEADINGS, COLUMNS, values["format"])
        sys.stdout.flush()
        if not live:
            return 0
        before = now


def _readings(context: Context, names: list[str], stopped: bool) -> dict[str, Any]:
    """What each container uses, by the name that was typed (else by its short id)."""
    engine = context.engine
    if names:
        return {name: engine.stats(name) for name in names}
    return {each.id[:12]: engine.stats(each.id) for each in engine.containers(all=stopped)}


def row_of(now: Any, before: Any, whole: bool, typed: str) -> dict[str, str]:
    """One line: the difference of two readings for the processor, the newer one for the rest."""
    used, limit = now.memory_working or 0, now.memory_limit or 0
    cpu = 0.0
    if before is not None and now.at > before.at and now.cpu_usage is not None:
        spent = (now.cpu_usage - (before.cpu_usage or 0)) / 1e9
        cpu = max(0.0, 100 * spent / (now.at - before.at))
    return {
        "Container": typed,
        "ID": now.id if whole else now.id[:12],
        "Name": now.name,
        "CPUPerc": f"{cpu:.2f}%",
        "MemUsage": f"{human.binary_size(used)} / {human.binary_size(limit)}",
        "MemPerc": f"{100 * used / limit if limit else 0:.2f}%",
        "NetIO": f"{human.size(now.network_received)} / {human.size(now.network_sent)}",
        "BlockIO": f"{human.size(now.io_read or 0)} / {human.size(now.io_write or 0)}",
        "PIDs": str(now.pids or 0),
    }


COMMANDS = {
    "stats": Command(
        "stats [OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        stats,
        (
            boolean("all", "a", "Show all containers (default shows just running)"),
            FORMAT,
            boolean("no-stream", help="Disable streaming stats and only pull the first result"),
            boolean("no-trunc", help="Do not truncate output"),
        ),
    )
}
