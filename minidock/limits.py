"""The resource limits among the options of `create` and `update`: from ``memory="64m"`` to numbers."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minidock import notation
from minidock.containers import checks
from minidock.containers.spec import Limits
from minidock.errors import InvalidInput

CPU_PERIOD = 100_000  # microseconds, the kernel's default
UNLIMITED = -1

Options = dict[str, Any]


def wanted(options: Options) -> Limits:
    """The resource limits among *options*, checked as Docker's daemon checks them."""
    found = _read(options)
    checks.limits(found)
    return found


def _read(options: Options) -> Limits:
    memory = notation.parsed(options.get("memory"), notation.size) or None
    swap = notation.parsed(options.get("memory_swap"), notation.swap_size) or None
    reservation = notation.parsed(options.get("memory_reservation"), notation.size) or None
    quota, period = options.get("cpu_quota") or None, options.get("cpu_period") or None
    cpus = notation.parsed(options.get("cpus"), notation.processors)
    if cpus:
        available = os.cpu_count() or 1
        if not 0.01 <= cpus <= available:
            raise InvalidInput(
                f"range of CPUs is from 0.01 to {available:.2f}, as there are only {available} CPUs available"
            )
        quota, period = round(cpus * CPU_PERIOD), CPU_PERIOD
    pids = options.get("pids_limit")
    return Limits(
        memory=memory,
        memory_swap=swap or (2 * memory if memory else None),  # Docker: as much swap as memory
        memory_reservation=reservation,
        cpu_quota=quota,
        cpu_period=period,
        cpu_shares=options.get("cpu_shares") or None,
        cpuset_cpus=_cpuset(options, "cpus", "CPUs", "/sys/devices/system/cpu/online"),
        cpuset_mems=_cpuset(options, "mems", "memory nodes", "/sys/devices/system/node/online"),
        pids=int(pids) if pids and int(pids) > 0 else None,
        oom_kill_disable=bool(options.get("oom_kill_disable")),
        memory_swappiness=_swappiness(options.get("memory_swappiness")),
    )


def _swappiness(value: int | None) -> int | None:
    """-1 is how Docker's client says that nobody asked."""
    if value is not None and not -1 <= value <= 100:
        raise InvalidInput(f"Invalid value: {value}, valid memory swappiness range is 0-100")
    return None if value == -1 else value


def changes(options: Options) -> dict[str, Any]:
    """The fields of Limits that the options of `update` change; what is not given stays as it is."""
    changed = {key: value for key, value in asdict(_read(options)).items() if value}
    if not options.get("memory_swap"):
        changed.pop("memory_swap", None)
    if int(options.get("pids_limit") or 0) < 0:
        changed["pids"] = UNLIMITED
    return changed


def _cpuset(options: Options, kind: str, words: str, online: str) -> str | None:
    """``0-2,5`` as it was given, when this machine has all of them."""
    text: str = options.get(f"cpuset_{kind}") or ""
    if not text:
        return None
    try:
        wanted = notation.number_list(text)
    except InvalidInput as error:
        raise InvalidInput(
            f"Invalid value {text} for cpuset {kind}: {error.message}", hint=error.hint
        ) from None
    available = Path(online).read_text().strip() if os.path.exists(online) else "0"  # no nodes: only one
    if not wanted <= notation.number_list(available):
        raise InvalidInput(f"Requested {words} are not available - requested {text}, available: {available}")
    return text
