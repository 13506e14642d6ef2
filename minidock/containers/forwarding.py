"""A machine that passes packets on is a router: the setting for it, and what that must not open.

Containers reach the world only when the kernel passes on what is not for itself (``net.ipv4.ip_forward``).
The setting counts for the whole machine: from then on it would also lead from any network that it is in to
any other, from the guests' wireless to the office, say. Docker therefore sets iptables' FORWARD policy to
drop, which breaks whatever else wants to route here. We put up less: where *we* switch it on, nothing could
pass between the interfaces that were there before, so nobody misses it when our table drops just that. What
comes later (another engine's bridge, a tunnel) is whose who makes it.

What was set before stands in ``<root>/networks/.settings.json``; `reset` sets it back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minidock import files
from minidock.containers import timestamps
from minidock.errors import MinidockError
from minidock.kernel import syscalls
from minidock.kernel.net import Link

_FORWARD = "net.ipv4.ip_forward"
_FORWARD6 = "net.ipv6.conf.all.forwarding"


def note(root: Path, links: Iterable[Link], *, ipv6: bool) -> dict[str, str]:
    """Note down how the machine is set, and its interfaces *links*; returns the settings to change.

    Bridges are not kept apart: another engine's, or that of virtual machines, may be in use again tomorrow.
    """
    changes = {_FORWARD: "1"}
    if ipv6:
        changes[_FORWARD6] = "1"
        # A router ignores what other routers announce, and would lose its own way out: 2 says, listen still.
        for name in set(os.listdir("/proc/sys/net/ipv6/conf")) - {"all", "default", "lo"}:
            if _read(f"net.ipv6.conf.{name}.accept_ra") == "1":
                changes[f"net.ipv6.conf.{name}.accept_ra"] = "2"
    changes = {name: value for name, value in changes.items() if _read(name) != value}
    if changes:
        before = {name: _read(name) for name in changes}
        apart = _noted(root, "apart")
        names = [
            link.name for link in links if link.name != "lo" and link.kind != "bridge" and not link.master
        ]
        apart |= {name: names for name in (_FORWARD, _FORWARD6) if name in changes}
        value = {"where": _where(), "before": {**before, **_noted(root, "before")}, "apart": apart}
        files.write_json(_file(root), value, sync=False)
    return changes


def switch_on(changes: dict[str, str]) -> None:
    """Set what :func:`note` returned."""
    for name, value in changes.items():
        syscalls.write_file(_path(name), value)


def apart(root: Path) -> tuple[list[str], list[str]]:
    """The interfaces between which nothing passed before, for IPv4 and for IPv6."""
    noted = _noted(root, "apart")
    return noted.get(_FORWARD, []), noted.get(_FORWARD6, [])


def restore(root: Path) -> list[str]:
    """Set back what :func:`switch_on` changed, where it is still so. Says what was set."""
    done = []
    for name, value in _noted(root, "before").items():
        if _read(name) not in ("", value):
            with contextlib.suppress(MinidockError):
                syscalls.write_file(_path(name), value)
                done.append(f"setting {name} = {value}")
    _file(root).unlink(missing_ok=True)
    return done


def changed(root: Path) -> dict[str, str]:
    """The settings that are not as minidock found them: ``{name: what it was}``."""
    return {name: value for name, value in _noted(root, "before").items() if _read(name) not in ("", value)}


def _file(root: Path) -> Path:
    return root / "networks" / ".settings.json"


def _noted(root: Path, what: str) -> dict[str, Any]:
    """What was noted in this network since this boot; older notes tell nothing any more."""
    try:
        noted = files.read_json(_file(root))
        return dict(noted[what]) if noted["where"] == _where() else {}
    except (MinidockError, KeyError, TypeError, ValueError):
        return {}


def _where() -> str:
    return f"{timestamps.boot()} {os.readlink('/proc/thread-self/ns/net')}"


def _path(name: str) -> str:
    head, _, rest = name.partition(".conf.")
    if not rest:
        return "/proc/sys/" + name.replace(".", "/")
    interface, _, last = rest.rpartition(".")  # an interface may have dots in its name
    return f"/proc/sys/{head.replace('.', '/')}/conf/{interface}/{last}"


def _read(name: str) -> str:
    try:
        with open(_path(name)) as file:
            return file.read().strip()
    except OSError:
        return ""
