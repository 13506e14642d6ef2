"""Starting shims: by a fork where that is safe, else through a warm helper process.

A process with threads must not fork a container (its child would hold locks that no thread will ever
release), and a big one should not (each shim would keep a copy of its memory). A Jupyter kernel is both.
For those a *spawner* runs beside: a small Python process with one thread, everything imported, that keeps
one shim forked and waiting. It ends when its starter does.

The command is small and has one thread. It forks its shim-to-be early (:func:`prepare`): while the one
process reads the image and writes the container's files, the other imports what a shim needs.

Either way a shim waits at a *door*, a socket, for the request that says which container is its own.
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys
from pathlib import Path

from minidock import files
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
    request = {"root": str(container.root), "id": container.id, **files.fields_of(order)}
    message = json.dumps(request).encode()
    for _ in range(TRIES):
        ours, theirs = socket.socketpair()
        with theirs, _guard:
            _ask(message, theirs)
        # The shim says that it has the request, and only then begins. Nobody holds the other end any more
        # and nothing was said: it was killed before that, and a second one does not start anything twice.
        if ours.recv(1):
            return ours
        ours.close()
    raise MinidockError("the spawner does not answer", hint="Try again; see minidock doctor.")


def _ask(message: bytes, connection: socket.socket) -> None:
    """Hand the request to the next shim that waits, ours or the spawner's."""
    prepare()
    here = _here()
    prepared = _prepared.pop(here, None)
    door = prepared or _spawner(here)
    try:
        socket.send_fds(door, [message], [connection.fileno()])
    except OSError:  # all at this door were killed: the next try makes others
        _warm.pop(here, None)
        door.close()
    if prepared is not None:
        prepared.close()


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
            _wait_at(theirs)
        finally:
            os._exit(0)
    theirs.close()
    _prepared[_here()] = ours
    _forked.append(pid)


def _may_fork() -> bool:
    if len(os.listdir("/proc/self/task")) > 1:
        return False
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident <= _SMALL


def _wait_at(door: socket.socket) -> None:
    """Fork once more, and be the shim of the container that the request at *door* names.

    The shim belongs to nobody, so that nobody has to wait for it.
    """
    os.setsid()
    if os.fork() == 0:
        from minidock.containers import shim

        shim.get_ready()
        request = _receive(door)
        if request is not None:
            request[2].send(b"!")
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


def _spawner(here: Namespaces) -> socket.socket:
    if here not in _warm:
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
        _warm[here] = ours
    return _warm[here]


def serve(descriptor: int) -> None:
    """Be a spawner: keep a shim waiting at the door *descriptor*, until the starter is gone."""
    import gc

    from minidock.containers import cables, shim  # noqa: F401 (many of its shims will have networks)

    shim.get_ready()
    door = socket.socket(fileno=descriptor)
    gc.freeze()  # what is loaded now stays shared with every shim
    while not _deserted(door):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _wait_at(door)
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(pid, 0)
        os.read(ours, 1)  # ends when the shim, going its own way, closes all that it has of ours
        os.close(ours)


def _deserted(door: socket.socket) -> bool:
    try:
        return not door.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _receive(door: socket.socket) -> tuple[Container, Order, socket.socket] | None:
    message, descriptors, _, _ = socket.recv_fds(door, _LONGEST, 1)
    if not message or not descriptors:
        return None
    request = json.loads(message)
    size = tuple(request["size"]) if request["size"] else None
    container = Container(Path(request["root"]), request["id"])
    order = Order(request["attach"], size, request["lobby"])
    return container, order, socket.socket(fileno=descriptors[0])
