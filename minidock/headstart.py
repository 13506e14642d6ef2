"""A head start for commands that will start a container: its keeper gets ready while they prepare."""

from __future__ import annotations

from minidock.containers import spawner


def begin() -> None:
    """Fork the next container's shim now; it waits to be told what to run, or ends with this process."""
    spawner.prepare()
