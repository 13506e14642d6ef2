"""``--userns private``: root in the container is nobody on the host.

The ids 0…65535 of the container stand for :data:`FIRST`… on the host, a range that no host user has.
The image's layers are mounted with the same map (idmapped mounts), so that a file of root's belongs to
the container's root; on disk nothing changes. The container's own layer holds the host's numbers.

The order is what makes it work. The user namespace must own the network, ipc and uts namespaces (else
its root could not bind a port in its own network), so a *holder* process makes them together. But the
mounts must be made by the host's root, who may mount an overlay with whiteouts. So the container's
first process joins the holder's namespaces, mounts everything, and enters the user namespace last.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minidock import trace
from minidock.kernel import namespaces, syscalls
from minidock.kernel.namespaces import IdRange

FIRST = 0x70000000  # above what systemd, useradd and subuid hand out
COUNT = 65536
_OWNED = ("net", "ipc", "uts")


@contextmanager
def hold(kinds: Iterable[str]) -> Iterator[list[tuple[str, int]]]:
    """A user namespace and, owned by it, those of *kinds* that it can own; as (kind, descriptor).

    The holder lives as long as the block runs; afterwards the descriptors keep the namespaces.
    """
    owned = [kind for kind in kinds if kind in _OWNED]
    reading, writing = os.pipe()
    pid = syscalls.clone(namespaces.flags(["user", *owned]))
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)  # until the other end is closed
        os._exit(0)
    try:
        ids = [IdRange(0, FIRST, COUNT)]
        namespaces.write_id_map(pid, ids, ids)
        yield [
            (kind, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in ["user", *owned]
        ]
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(pid, 0)


@trace.mechanism(lesson=2)
def map_layers(layers: list[Path], below: Path, namespace: int) -> list[Path]:
    """Mount each layer anew below *below*, its files owned as the container sees users."""
    syscalls.mount("layers", below, "tmpfs", 0, "mode=700")
    mapped = []
    for number, layer in enumerate(layers):
        tree = open_mapped(layer, namespace)
        target = below / str(number)
        target.mkdir()
        syscalls.move_mount(tree, "", syscalls.AT_FDCWD, str(target), syscalls.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)
        mapped.append(target)
    return mapped


def open_mapped(directory: Path, namespace: int) -> int:
    """A detached copy of *directory*'s mount whose owners are shifted by the map of *namespace*."""
    tree = syscalls.open_tree(
        syscalls.AT_FDCWD, directory, syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
    )
    syscalls.mount_setattr(
        tree,
        "",
        syscalls.AT_EMPTY_PATH,
        attributes=syscalls.MOUNT_ATTR_IDMAP,
        user_namespace=namespace,
    )
    return tree


def give(path: Path | int) -> None:
    """Make the container's root the owner of a file or descriptor."""
    os.chown(path, FIRST, FIRST)
