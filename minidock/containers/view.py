"""A container's files as one tree, seen from outside it: for cp, export and what fills a volume.

What there is to see exists only inside a mount namespace, the container's own while it runs, and else
none. So a helper process (this file, run as a program: the caller may have threads) makes a private one,
in which nothing reaches the host, opens the root of the tree there and hands the descriptor over. The
namespace lasts as long as the helper, and the helper as long as the block of :func:`of`.

From that descriptor a path is looked up with openat2(2) and RESOLVE_IN_ROOT: the kernel itself keeps
links and ".." inside, also when the container changes them at that very moment.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # started by path, with an empty environment: the library stands beside us
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minidock.containers.state import Container
from minidock.errors import Conflict, MinidockError

_LONGEST = 65536  # bytes of a helper's answer
_KERNELS_OWN = ("/dev", "/proc", "/sys")  # not files of the container


@contextmanager
def of(container: Container, lock: int, *, volumes: bool = True) -> Iterator[int]:
    """A descriptor of the container's root directory, with its volumes mounted. Close nothing; write at will.

    The caller holds the container's *lock* (of one that runs a shared one is enough): the writable
    directory must not be mounted twice. The helper keeps it until it ends, should the caller be killed.
    A container that runs is seen as it sees itself, but for /dev, /proc and /sys. Without *volumes* it is
    the image and what the container wrote (only of one that does not run).
    """
    if container.running() and not container.resting():
        with (
            _namespace(container) as descriptor,
            _helped(["join", str(descriptor)], descriptor, lock) as root,
        ):
            yield root
    else:
        what = "mount" if volumes else "bare"
        with _helped([what, str(container.root), container.id], lock) as root:
            yield root


@contextmanager
def layers(container: Container) -> Iterator[int]:
    """As :func:`of` without volumes, for reading only; the container may run and no lock is needed."""
    with _helped(["layers", str(container.root), container.id]) as root:
        yield root


@contextmanager
def _namespace(container: Container) -> Iterator[int]:
    """The mount namespace of a running container. Raises Conflict when it has just ended."""
    from minidock.containers import cgroup

    pid = container.state().pid
    try:
        process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ended(container) from None
    try:
        # The pid may belong to another process by now. One in the container's cgroup is the container's;
        # and the open directory of a process that has ended since answers no more.
        if pid not in cgroup.find(container.root, container.id).processes():
            raise ended(container)
        descriptor = os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    except (FileNotFoundError, ProcessLookupError):
        raise ended(container) from None
    finally:
        os.close(process)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ended(container: Container) -> Conflict:
    """The error for a container that ran a moment ago."""
    return Conflict(f"container {container.id[:12]} has ended just now", hint="Try again.")


@contextmanager
def _helped(arguments: list[str], *descriptors: int) -> Iterator[int]:
    import subprocess

    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            helper = subprocess.Popen(
                [sys.executable, "-IS", __file__, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *descriptors],
                start_new_session=True,  # Jupyter's interrupt goes to the kernel's whole process group
            )
        try:
            answer, passed, _, _ = socket.recv_fds(ours, _LONGEST, 1)
            if not passed:
                told = json.loads(answer or '{"message": "the helper was killed", "hint": null}')
                raise MinidockError(told["message"], hint=told["hint"])
            try:
                yield passed[0]
            finally:
                os.close(passed[0])
        finally:
            ours.shutdown(socket.SHUT_RDWR)  # the helper reads the end, and goes
            helper.wait()


# --- the helper ----------------------------------------------------------------------------------


def main(door: socket.socket, what: str, *arguments: str) -> None:
    """Make the tree, hand its root over, and keep it until the other end is closed."""
    import array  # noqa: F401 (of send_fds; no file can be imported once we are in a container's mounts)

    if what == "join":
        root = _joined(int(arguments[0]))
    else:
        container = Container(Path(arguments[0]), arguments[1])
        root = _stacked(container) if what == "layers" else _mounted(container, with_volumes=what == "mount")
    socket.send_fds(door, [b"{}"], [root])
    door.recv(1)


def _joined(namespace: int) -> int:
    """A copy of a running container's mount namespace, without what the kernel shows in it."""
    from minidock.kernel import rootfs, syscalls

    # The container's processes must not look into ours, with which we are in its mounts for a moment.
    syscalls.set_dumpable(False)
    syscalls.forbid_imports()
    syscalls.setns(namespace, syscalls.CLONE_NEWNS)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    rootfs.isolate_mounts()  # a volume may be rshared: what we unmount must not go anywhere else
    for path in _KERNELS_OWN:
        if os.path.ismount(path) and not os.path.islink(path):
            syscalls.umount(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mounted(container: Container, *, with_volumes: bool) -> int:
    """The filesystem of a container that does not run, as its first process would mount it."""
    from minidock.containers import child, etc, mounts, user_namespace
    from minidock.kernel import namespaces, rootfs, syscalls

    spec = container.spec
    namespaces.create(["mnt"])
    wanted = []
    if with_volumes:
        wanted = [mount for mount in [*etc.mounts(container), *spec.mounts] if mount.kind != "tmpfs"]
        wanted = [mount for mount in wanted if mount.kind != "bind" or os.path.exists(mount.source)]
    user = None
    if spec.namespaces.user == "private":
        with user_namespace.hold(user_namespace.ids_of(spec), []) as held:
            user = held[0][1]
    taken = mounts.take(container.root, wanted, user)
    rootfs.isolate_mounts()
    merged = child.mount_root(container, user)
    mounts.place(merged, taken)
    root = os.open(merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if with_volumes and spec.security.read_only_root:
        syscalls.mount_setattr(root, "", syscalls.AT_EMPTY_PATH, attributes=syscalls.MOUNT_ATTR_RDONLY)
    return root


def _stacked(container: Container) -> int:
    """The writable directory on top of the image's layers, read-only."""
    from minidock.kernel import namespaces, overlay, rootfs

    namespaces.create(["mnt"])
    rootfs.isolate_mounts()
    target = container.directory / "merged"
    overlay.mount_overlay([container.directory / "upper", *container.spec.trees(container.root)], target)
    return os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


if __name__ == "__main__":
    line = socket.socket(fileno=int(sys.argv[1]))
    try:
        main(line, *sys.argv[2:])
    except Exception as failure:  # whatever it is, our starter shall hear of it
        said = {"message": str(failure) or repr(failure), "hint": getattr(failure, "hint", None)}
        line.send(json.dumps(said).encode())
    os._exit(0)
