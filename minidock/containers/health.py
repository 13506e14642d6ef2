"""Health checks: a command that the shim runs inside the container, again and again.

    starting ──success──▶ healthy ──`Retries` failures in a row──▶ unhealthy ──success──▶ healthy

A process may live and do nothing useful: the web server that answers no more. Only a try from inside
tells. Nothing is restarted because of it (as in Docker): `ps`, `inspect` and `events` show it.

Source: Dockerfile reference, HEALTHCHECK; Docker Engine API v1.44, HealthConfig, Health.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from minidock.containers import exec as exec_
from minidock.containers import timestamps
from minidock.containers.loop import READ
from minidock.containers.running import Running
from minidock.errors import MinidockError

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
SIGKILL = 9
_INTERVAL, _TIMEOUT, _START_INTERVAL = 30.0, 30.0, 5.0  # seconds, Docker's defaults
_RETRIES = 3
_MOST_RECORDS = 5
_LONGEST_OUTPUT = 4096  # bytes kept of what a check printed
_TIMED_OUT = -1  # what Docker shows as the exit code of a check that took too long


def wanted(check: dict[str, Any]) -> bool:
    """Whether an image's or user's health check asks for anything: it may be missing, or ``NONE``."""
    return bool(check.get("Test")) and check["Test"][0] != "NONE"


def command(check: dict[str, Any], shell: list[str]) -> list[str]:
    """The words to execute. *shell* runs the ``CMD-SHELL`` form."""
    kind, *words = check["Test"]
    return [*shell, *words] if kind == "CMD-SHELL" else words


def at_first(check: dict[str, Any]) -> dict[str, Any]:
    """The health of a container that starts now; empty when nobody checks it."""
    return {"Status": STARTING, "FailingStreak": 0, "Log": []} if wanted(check) else {}


class Monitor:
    """Checks one running container until :meth:`stop`."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._check = running.container.spec.health_check
        self._began = time.monotonic()
        self._stopped = False
        self._end_of_check: Callable[[], None] | None = None
        self._plan()

    def stop(self) -> None:
        """The container ends: what is still running of a check ends with it."""
        self._stopped = True
        if self._end_of_check is not None:
            self._end_of_check()

    def _seconds(self, name: str, default: float) -> float:
        return (self._check.get(name) or 0) / 1e9 or default

    @property
    def _still_starting(self) -> bool:
        status = self._running.state.health["Status"]
        return status == STARTING and time.monotonic() - self._began < self._seconds("StartPeriod", 0.0)

    def _plan(self) -> None:
        interval = self._seconds("Interval", _INTERVAL)
        if self._still_starting:
            interval = min(interval, self._seconds("StartInterval", _START_INTERVAL))
        self._running.loop.after(interval, self._begin)

    def _begin(self) -> None:
        if self._stopped or self._running.ended:
            return
        if self._running.state.status == "paused":  # nothing can be said about who is frozen
            self._plan()
            return
        start = timestamps.now()
        words = command(self._check, self._running.container.spec.shell or ["/bin/sh", "-c"])
        try:
            process = exec_.Checked(self._running, words, _LONGEST_OUTPUT)
        except MinidockError as error:
            self._note(start, error.exit_code or 126, error.message)
            self._plan()
            return
        loop = self._running.loop
        done = False

        def end(*, in_time: bool) -> None:
            nonlocal done
            if done:
                return
            done, self._end_of_check = True, None
            if not in_time:
                os.kill(process.pid, SIGKILL)  # not reaped yet: the pid is still its own
            code, text = process.finish()
            if self._stopped:
                return
            if not in_time:
                limit = self._seconds("Timeout", _TIMEOUT)
                code, text = _TIMED_OUT, f"Health check exceeded timeout ({limit:g}s): {text}"
            self._note(start, code, text)
            self._plan()

        self._end_of_check = lambda: end(in_time=False)
        loop.watch(process.pidfd, READ, lambda _: end(in_time=True))
        loop.after(self._seconds("Timeout", _TIMEOUT), lambda: end(in_time=False))

    def _note(self, start: str, code: int, output: str) -> None:
        """Add one result, and settle what it means."""
        health = dict(self._running.state.health)
        record = {"Start": start, "End": timestamps.now(), "ExitCode": code, "Output": output}
        health["Log"] = [*health["Log"], record][-_MOST_RECORDS:]
        before = health["Status"]
        if code == 0:
            health["Status"], health["FailingStreak"] = HEALTHY, 0
        elif not self._still_starting:
            health["FailingStreak"] += 1
            if health["FailingStreak"] >= (self._check.get("Retries") or _RETRIES):
                health["Status"] = UNHEALTHY
        self._running.record(health=health)
        if health["Status"] != before:
            self._running.note(f"health_status: {health['Status']}")
