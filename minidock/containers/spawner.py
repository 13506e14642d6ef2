"""Starting shims: by a plain fork where that is safe, else through a warm helper process.

A process with threads must not fork a container (its child would hold locks that no thread will ever
release), and a big one should not (each shim would keep a copy of its memory). A Jupyter kernel is both.
For those a *spawner* runs beside: a small Python process with one thread, everything imported, that forks
a shim whenever it is asked. It ends when its starter does.
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys
from pathlib import Path

from minidock.containers.shim import Order, run
from minidock.containers.state import Container
from minidock.errors import MinidockError
from minidock.kernel import syscalls

_SMALL = 48 << 20  # bytes of memory up to which a plain fork is cheap

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from minidock.containers import spawner
spawner.serve(0)
"""

_forked: list[int] = []
_guard = _thread.allocate_lock()  # what threading.Lock is
_warm: dict[tuple[int, ...], socket.socket] = {}  # one spawner for each set of namespaces we start from


def start_shim(container: Container, order: Order) -> socket.socket:
    """Start the shim of *container*; returns the connection on which it reports and serves its starter."""
    for _ in range(2):
        ours, theirs = socket.socketpair()
        with theirs:
            if _may_fork():
                reap()
                _forked.append(fork(container, order, theirs))
                return ours
            answered = _ask_spawner(container, order, theirs)
        # A spawner that was killed may have forked the shim before it could say so, and a second shim
        # would start the container again when the first is done. Only when nobody holds the other end
        # of our connection any more, there is none.
        if answered or ours.recv(1, socket.MSG_PEEK):
            return ours
        ours.close()
    raise MinidockError("the spawner does not answer", hint="Try again; see minidock doctor.")


def reap() -> None:
    """Bury the processes between us and the shims, those that have ended."""
    for pid in tuple(_forked):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:  # somebody else's wait got it
            pass
        _forked.remove(pid)


def _may_fork() -> bool:
    if len(os.listdir("/proc/self/task")) > 1:
        return False
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident <= _SMALL


def fork(container: Container, order: Order, connection: socket.socket) -> int:
    """Fork twice: the shim belongs to nobody. Returns the pid in between, which ends soon: reap it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                run(container, order, connection)
            _wake_cgroups()
        finally:
            os._exit(0)
    return pid


def _wake_cgroups() -> None:
    """Move ourselves to the cgroup that we are in.

    That changes nothing, but takes a lock for which the kernel first waits 5 to 15 ms, and for the next
    one in line, the shim, hardly at all. It has other things to do in the meantime; we have not.
    """
    with open("/proc/self/cgroup") as file:
        line = next((line for line in file if line.startswith(("1:", "0:"))), "")
    controllers, _, own = line.strip().partition(":")[2].partition(":")
    for directory in (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup"):
        procs = f"{directory}{own}/cgroup.procs"
        if os.path.exists(procs):
            syscalls.write_file(procs, "0")
            return


# --- the asking side -----------------------------------------------------------------------------


def _ask_spawner(container: Container, order: Order, connection: socket.socket) -> bool:
    """Whether the spawner says that it has forked the shim; if not, it was killed."""
    request = {"root": str(container.root), "id": container.id, "attach": order.attach, "size": order.size}
    with _guard:
        spawner = _spawner()
        try:
            socket.send_fds(spawner, [json.dumps(request).encode()], [connection.fileno()])
            if spawner.recv(16) == b"ok":
                return True
        except OSError:
            pass
        _forget(spawner)  # the next one who asks makes another
        return False


def _namespaces_now() -> tuple[int, ...]:
    """Children belong where their starter is now (a test moves to another network namespace)."""
    return (os.getpid(), *(os.stat(f"/proc/thread-self/ns/{kind}").st_ino for kind in ("net", "mnt")))


def _spawner() -> socket.socket:
    key = _namespaces_now()
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


def _forget(spawner: socket.socket) -> None:
    for key, known in list(_warm.items()):
        if known is spawner:
            del _warm[key]
    spawner.close()


# --- the spawner itself --------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Fork a shim for every request that comes in by *descriptor*, until the starter is gone."""
    import gc

    door = socket.socket(fileno=descriptor)
    gc.freeze()  # what is loaded now stays shared with every shim
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, 65536, 1)
        if not message or not descriptors:
            return
        request = json.loads(message)
        connection = socket.socket(fileno=descriptors[0])
        size = tuple(request["size"]) if request["size"] else None
        container = Container(Path(request["root"]), request["id"])
        reap()
        _forked.append(fork(container, Order(request["attach"], size), connection))
        connection.close()
        door.send(b"ok")
