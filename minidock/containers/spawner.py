"""Starting shims: by a fork where that is safe (waiting.py), else through a warm helper process.

A process with threads must not fork a container (its child would hold locks that no thread will ever
release), and a big one should not (each shim would keep a copy of its memory). A Jupyter kernel is both.
For those a *spawner* runs beside: a small Python process with one thread, everything imported, that keeps
one shim forked and waiting. It ends when its starter does.
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys

from minidock import files
from minidock.containers import waiting
from minidock.containers.protocol import Order
from minidock.containers.state import Container
from minidock.errors import MinidockError

TRIES = 5  # in a row that a process which is to start a shim may be killed

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from minidock.containers import spawner
spawner.serve(0)
"""

_warm: dict[waiting.Namespaces, socket.socket] = {}
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
    waiting.prepare()
    prepared = waiting.take()
    door = prepared or _spawner()
    try:
        socket.send_fds(door, [message], [connection.fileno()])
    except OSError:  # all at this door were killed: the next try makes others
        _warm.pop(waiting.here(), None)
        door.close()
    if prepared is not None:
        prepared.close()


def _spawner() -> socket.socket:
    here = waiting.here()
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
                os.setsid()
                if os.fork() == 0:
                    waiting.wait_at(door)
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
