"""Shims that wait at a *door*, a socket, for the request which says whose they are.

Where a process may fork (it has one thread and is small) it forks its next shim itself, early: while the one
process reads the image and writes the container's files, the other imports what a shim needs. For all other
processes see spawner.py.

Imports nothing that takes time: the command begins with this.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidock.containers.protocol import Order
    from minidock.containers.state import Container

_SMALL = 48 << 20  # bytes of memory up to which a fork is cheap
_LONGEST = 65536  # bytes of a request

Namespaces = tuple[int, ...]  # the process and namespaces that a shim would be started from
_prepared: dict[Namespaces, socket.socket] = {}
_forked: list[int] = []


def prepare(*, orphan: bool = True) -> None:
    """Fork the next shim now, if this process may and none waits.

    It ends when its door is closed and nothing was asked. An *orphan* belongs to nobody, so that nobody has
    to wait for it; that costs a second fork. Without, it is a zombie between its end and our own.
    """
    if here() in _prepared or not _may_fork():
        return
    reap()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.setsid()
            theirs.send(b"!")  # see below
            if not orphan or os.fork() == 0:
                wait_at(theirs)
        finally:
            os._exit(0)
    theirs.close()
    # The kernel often leaves a newborn on its parent's processor, where each waits for the other's turn. Who
    # is woken is put on an idle one: so we sleep until the child runs.
    ours.recv(1)
    _prepared[here()] = ours
    _forked.append(pid)


def take() -> socket.socket | None:
    """The door of the shim that waits for this process, if there is one."""
    return _prepared.pop(here(), None)


def here() -> Namespaces:
    """The process and the namespaces whose copies a shim forked now would have."""
    return (os.getpid(), *(os.stat(f"/proc/thread-self/ns/{kind}").st_ino for kind in ("net", "mnt")))


def _may_fork() -> bool:
    """Whether a fork is safe (a second thread's locks would stay locked for ever in the child) and cheap."""
    if len(os.listdir("/proc/self/task")) > 1:
        return False
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident <= _SMALL


def reap() -> None:
    """Bury those that we forked and that have ended."""
    for pid in tuple(_forked):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:  # somebody else's wait got it
            pass
        _forked.remove(pid)


def wait_at(door: socket.socket) -> None:
    """Be the shim of the container that the next request at *door* names."""
    from minidock.containers import shim

    shim.get_ready()
    request = _receive(door)
    if request is not None:
        request[2].send(b"!")
        door.close()
        shim.run(*request)


def _receive(door: socket.socket) -> tuple[Container, Order, socket.socket] | None:
    import json
    from pathlib import Path

    from minidock.containers.protocol import Order
    from minidock.containers.state import Container

    message, descriptors, _, _ = socket.recv_fds(door, _LONGEST, 1)
    if not message or not descriptors:
        return None
    request = json.loads(message)
    size = tuple(request["size"]) if request["size"] else None
    container = Container(Path(request["root"]), request["id"])
    order = Order(request["attach"], size, request["lobby"])
    return container, order, socket.socket(fileno=descriptors[0])
