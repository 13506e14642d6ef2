"""Starting shims: by a fork where that is safe, else through a warm helper process.

A process with threads must not fork a container (its child would hold locks that no thread will ever
release), and a big one should not (each shim would keep a copy of its memory). A Jupyter kernel is both.
For those a *spawner* runs beside: a small Python process with one thread, everything imported, that forks
a shim whenever it is asked. It ends when its starter does.

The command is small and has one thread. It forks its shim-to-be early (:func:`prepare`): while the one
process reads the image and writes the container's files, the other imports what a shim needs.
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from minidock.containers.protocol import Order
from minidock.containers.state import Container
from minidock.errors import MinidockError

TRIES = 5  # in a row that a process which is to start a shim may be killed
_SMALL = 48 << 20  # bytes of memory up to which a fork is cheap
_LONGEST = 65536  # bytes of a request

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from minidock.containers import spawner
spawner.serve(0)
"""

Namespaces = tuple[int, ...]  # the process and namespaces that a shim would be started from
_prepared: dict[Namespaces, socket.socket] = {}
_warm: dict[Namespaces, socket.socket] = {}
_forked: list[int] = []
_guard = _thread.allocate_lock()  # what threading.Lock is


def start_shim(container: Container, order: Order) -> socket.socket:
    """Start the shim of *container*; returns the connection on which it reports and serves its starter."""
    request = {"root": str(container.root), "id": container.id, **asdict(order)}
    message = json.dumps(request).encode()
    for _ in range(TRIES):
        ours, theirs = socket.socketpair()
        with theirs, _guard:
            prepare()
            one = _prepared.pop(_here(), None)
            taken = _hand_over(one, message, theirs) if one is not None else _ask_warm(message, theirs)
        # A spawner that was killed may have forked the shim before it could say so, and a second shim
        # would start the container again when the first is done. Only when nobody holds the other end
        # of our connection any more, there is none.
        if taken or ours.recv(1, socket.MSG_PEEK):
            return ours
        ours.close()
    raise MinidockError("the spawner does not answer", hint="Try again; see minidock doctor.")


def _here() -> Namespaces:
    return (os.getpid(), *(os.stat(f"/proc/thread-self/ns/{kind}").st_ino for kind in ("net", "mnt")))


# --- by a fork -----------------------------------------------------------------------------------


def prepare() -> None:
    """Fork the next shim now, if this process may: it gets ready while we find out what it is to run."""
    if _here() in _prepared or not _may_fork():
        return
    reap()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _get_ready(theirs)
        finally:
            os._exit(0)
    theirs.close()
    _prepared[_here()] = ours
    _forked.append(pid)


def _hand_over(one: socket.socket, message: bytes, connection: socket.socket) -> bool:
    with one:
        try:
            socket.send_fds(one, [message], [connection.fileno()])
        except OSError:  # it was killed while it waited
            return False
    return True


def _may_fork() -> bool:
    if len(os.listdir("/proc/self/task")) > 1:
        return False
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident <= _SMALL


def _get_ready(door: socket.socket) -> None:
    """Fork once more: the shim belongs to nobody, so that nobody has to wait for it."""
    os.setsid()
    if os.fork() == 0:
        from minidock.containers import shim

        shim.get_ready()
        request = _receive(door)
        if request is not None:
            door.close()
            shim.run(*request)


def reap() -> None:
    """Bury the processes between us and the shims, those that have ended."""
    for pid in tuple(_forked):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:  # somebody else's wait got it
            pass
        _forked.remove(pid)


# --- through a warm spawner ----------------------------------------------------------------------


def _ask_warm(message: bytes, connection: socket.socket) -> bool:
    """Whether the spawner says that it has forked the shim; if not, it was killed."""
    spawner = _spawner()
    try:
        socket.send_fds(spawner, [message], [connection.fileno()])
        if spawner.recv(16) == b"ok":
            return True
    except OSError:
        pass
    for key, known in list(_warm.items()):
        if known is spawner:
            del _warm[key]  # the next one who asks makes another
    spawner.close()
    return False


def _spawner() -> socket.socket:
    key = _here()
    if key not in _warm:
        import subprocess

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own: Jupyter's Stop button signals the kernel's whole process group.
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(sys.path)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        _warm[key] = ours
    return _warm[key]


def serve(descriptor: int) -> None:
    """Be a spawner: fork a shim for every request on *descriptor*, until the starter is gone."""
    import gc

    from minidock.containers import shim

    shim.get_ready()
    door = socket.socket(fileno=descriptor)
    gc.freeze()  # what is loaded now stays shared with every shim
    while (request := _receive(door)) is not None:
        reap()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    shim.run(*request)
            finally:
                os._exit(0)
        _forked.append(pid)
        request[2].close()
        door.send(b"ok")


def _receive(door: socket.socket) -> tuple[Container, Order, socket.socket] | None:
    message, descriptors, _, _ = socket.recv_fds(door, _LONGEST, 1)
    if not message or not descriptors:
        return None
    request = json.loads(message)
    size = tuple(request["size"]) if request["size"] else None
    container = Container(Path(request["root"]), request["id"])
    order = Order(request["attach"], size, request["lobby"])
    return container, order, socket.socket(fileno=descriptors[0])
