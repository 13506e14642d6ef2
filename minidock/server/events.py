"""``/events`` and ``/containers/{id}/stats``: streams of what happens, and of what containers use.

Source: Docker Engine API v1.44, GET /events, GET /containers/{id}/stats.
"""

from __future__ import annotations

import os
import time
from typing import Any

from minidock.engine import shown_time
from minidock.server.request import Json, Request

_INTERVAL = 1.0  # seconds between two readings


def events(request: Request) -> None:
    """One JSON object a line. The headers come at once: nothing that happens from now on is missed."""
    since, until = request.text("since") or None, request.text("until") or None
    found = request.engine.events(
        since=since,
        until=until,
        filters=request.filters(),
        caller=request.connection.fileno(),
        on_ready=lambda: request.begin(),
    )
    for event in found:
        assert request.stream is not None
        request.stream.tell(_with_older_names(event))


def _with_older_names(event: Json) -> Json:
    """Events of containers and images in the form from before 1.22, too, as Docker sends them."""
    if event["Type"] in ("container", "image"):
        older = {"status": event["Action"], "id": event["Actor"]["ID"]}
        if event["Type"] == "container":
            older["from"] = event["Actor"]["Attributes"].get("image", "")
        return {**older, **event}
    return event


# --- stats ---------------------------------------------------------------------------------------


def stats(request: Request) -> None:
    container = request.engine.container(request["id"])
    one_shot = request.flag("one-shot")
    if not request.flag("stream", True):
        before = None if one_shot else _reading(request, container.id)
        if before is not None and container.running():
            time.sleep(_INTERVAL)
        request.begin().tell(_joined(_reading(request, container.id), before))
        return
    stream = request.begin()
    before = None
    while True:
        now = _reading(request, container.id)
        stream.tell(_joined(now, before))
        before = now
        if not container.exists():
            return
        time.sleep(_INTERVAL)


def _joined(now: Json, before: Json | None) -> Json:
    """A reading, and the processor's of the one before: use is their difference."""
    earlier = before or {"read": "0001-01-01T00:00:00Z", "cpu_stats": _cpu(0, None, 0)}
    return {**now, "preread": earlier["read"], "precpu_stats": earlier["cpu_stats"]}


def _reading(request: Request, identifier: str) -> Json:
    found = request.engine.stats(identifier)
    running = found.cpu_usage is not None
    return {
        "read": shown_time(int(found.at * 1e9)),
        "preread": "0001-01-01T00:00:00Z",
        "id": found.id,
        "name": f"/{found.name}",
        "num_procs": 0,
        "pids_stats": {"current": found.pids} if running else {},
        "cpu_stats": _cpu(found.cpu_usage or 0, _machine_time() if running else None, os.cpu_count() or 1),
        "precpu_stats": {},
        "memory_stats": {"usage": found.memory_working, "limit": found.memory_limit, "stats": {}}
        if running
        else {},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 0, "minor": 0, "op": op, "value": value}
                for op, value in (("read", found.io_read), ("write", found.io_write))
                if value is not None
            ]
            or None,
            **dict.fromkeys(
                f"io_{name}_recursive"
                for name in ("serviced", "queue", "service_time", "wait_time", "merged", "time")
            ),
            "sectors_recursive": None,
        },
        "storage_stats": {},
        **({"networks": {"eth0": _network(found)}} if running else {}),
    }


def _cpu(used: int, machine: int | None, count: int) -> Json:
    return {
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": used},
        **({"system_cpu_usage": machine, "online_cpus": count} if machine is not None else {}),
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _machine_time() -> int:
    """What all processors have spent, in nanoseconds. Source: proc_stat(5); the first line without guests."""
    with open("/proc/stat") as file:
        ticks = sum(int(number) for number in file.readline().split()[1:9])
    return ticks * 10**9 // os.sysconf("SC_CLK_TCK")


def _network(found: Any) -> Json:
    zero = dict.fromkeys(f"{way}_{what}" for way in ("rx", "tx") for what in ("packets", "errors", "dropped"))
    return {
        **dict.fromkeys(zero, 0),
        "rx_bytes": found.network_received,
        "tx_bytes": found.network_sent,
    }


ROUTES = [("GET", "/events", events), ("GET", "/containers/{id}/stats", stats)]
