"""The life of a container as one table: which verb leads from which state to which.

    created ──start──▶ running ──pause──▶ paused
                        │ ▲ ▲ ◀──unpause──
                    end │ │ └──start── exited
                        ▼ │
                 exited, or by the restart policy: restarting

A cell holds the state that follows, or a :class:`No`: the answer to who asks for the impossible. Every
verb asks here before it acts, so a wrong move is refused everywhere in the same words (Docker's).
Lesson 09 draws its picture from this table.

Source: Docker Engine API v1.44, ContainerState; moby, container/state.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from minidock.errors import Conflict

CREATED, RUNNING, PAUSED, RESTARTING = "created", "running", "paused", "restarting"
EXITED, DEAD, REMOVED = "exited", "dead", "removed"
STATES = (CREATED, RUNNING, PAUSED, RESTARTING, EXITED, DEAD)
ALIVE = (RUNNING, PAUSED, RESTARTING)  # states in which a shim must be there


@dataclass(frozen=True, slots=True)
class No:
    """A move that does not exist. *reason* may name the container: ``{id}``, ``{name}``."""

    reason: str


_NOT_RUNNING = No("container {id} is not running")
_UNPAUSE = No("cannot start a paused container, try unpause instead")
_FROZEN = No("Container {id} is paused, unpause the container before exec")
_TWICE = No("Container {id} is already paused")
_AWAKE = No("Container {id} is not paused")
_WAIT = No("Container {id} is restarting, wait until the container is running")
_DEAD = No("container {id} is marked for removal and cannot be started")
_CLOSED = No("You cannot attach to a stopped container, start it first")
_SILENT = No("You cannot attach to a paused container, unpause it first")
_AWAY = No("You cannot attach to a restarting container, wait until it is running")
_ALIVE, _ASLEEP, _BETWEEN = (
    No(f'cannot remove container "/{{name}}": container is {status} before removing or force remove')
    for status in (
        "running: stop the container",
        "paused: unpause and then stop the container",
        "restarting: stop the container",
    )
)


def _row(*cells: str | No) -> dict[str, str | No]:
    return dict(zip(STATES, cells, strict=True))


# fmt: off
TABLE: dict[str, dict[str, str | No]] = {
    #                       created       running     paused      restarting  exited        dead
    "start":           _row(RUNNING,      RUNNING,    _UNPAUSE,   RESTARTING, RUNNING,      _DEAD),
    "pause":           _row(_NOT_RUNNING, PAUSED,     _TWICE,     _WAIT,      _NOT_RUNNING, _NOT_RUNNING),
    "unpause":         _row(_AWAKE,       _AWAKE,     RUNNING,    _AWAKE,     _AWAKE,       _AWAKE),
    "stop":            _row(CREATED,      EXITED,     EXITED,     EXITED,     EXITED,       DEAD),
    "kill":            _row(_NOT_RUNNING, EXITED,     EXITED,     EXITED,     _NOT_RUNNING, _NOT_RUNNING),
    "exec":            _row(_NOT_RUNNING, RUNNING,    _FROZEN,    _WAIT,      _NOT_RUNNING, _NOT_RUNNING),
    "attach":          _row(_CLOSED,      RUNNING,    _SILENT,    _AWAY,      _CLOSED,      _CLOSED),
    "rm":              _row(REMOVED,      _ALIVE,     _ASLEEP,    _BETWEEN,   REMOVED,      REMOVED),
    "rm -f":           _row(REMOVED,      REMOVED,    REMOVED,    REMOVED,    REMOVED,      REMOVED),
    # not verbs of a user: the program ends by itself, and what the restart policy then does
    "end":             _row(CREATED,      EXITED,     EXITED,     EXITED,     EXITED,       DEAD),
    "restart policy":  _row(CREATED,      RESTARTING, RESTARTING, RUNNING,    EXITED,       DEAD),
}
# fmt: on


def after(verb: str, status: str, identifier: str, name: str = "") -> str:
    """The state that *verb* leads to from *status*. Raises Conflict where it leads nowhere."""
    cell = TABLE[verb][status]
    if isinstance(cell, No):
        raise Conflict(cell.reason.format(id=identifier, name=name or identifier[:12]))
    return cell
