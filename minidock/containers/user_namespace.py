"""``--userns private``, and ``userns-remap``: root in the container is nobody on the host.

The users and groups of the container stand for others on the host: those that subordinate.py found, or
:data:`OWN`, a range that no host user has. The image's layers are mounted with the same map (idmapped
mounts), so that a file of root's belongs to the container's root; on disk nothing changes. The
container's own layer holds the host's numbers.

The order is what makes it work. The user namespace must own the network, ipc and uts namespaces (else
its root could not bind a port in its own network), so a *holder* process makes them together. But the
mounts must be made by the host's root, who may mount an overlay with whiteouts. So the container's
first process joins the holder's namespaces, mounts everything, and enters the user namespace last.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.containers.spec import Spec
from minidock.errors import InvalidInput
from minidock.kernel import namespaces, syscalls
from minidock.kernel.namespaces import IdRange

FIRST = 0x70000000  # above what systemd, useradd and subuid hand out
COUNT = 65536
_OWNED = ("net", "ipc", "uts")


@dataclass(frozen=True, slots=True)
class Ids:
    """What the users and groups of a container are called on the host. Without ranges: the same."""

    users: tuple[IdRange, ...] = ()
    groups: tuple[IdRange, ...] = ()

    def outside(self, user: int, group: int) -> tuple[int, int]:
        """The host's numbers of a container's user and group. Raises InvalidInput where it has none."""
        return _outside(self.users, user), _outside(self.groups, group)

    def inside(self, user: int, group: int) -> tuple[int, int]:
        """The container's numbers of the host's; those that are none of its own stay as they are."""
        return _inside(self.users, user), _inside(self.groups, group)


OWN = Ids((IdRange(0, FIRST, COUNT),), (IdRange(0, FIRST, COUNT),))


def ids_of(spec: Spec) -> Ids:
    """The ids of a container; no ranges where it has no user namespace."""
    spaces = spec.namespaces
    if spaces.user != "private":
        return Ids()
    if not spaces.user_ids:
        return OWN
    users, groups = (
        tuple(IdRange(*each) for each in ranges) for ranges in (spaces.user_ids, spaces.group_ids)
    )
    return Ids(users, groups)


def _outside(ranges: tuple[IdRange, ...], number: int) -> int:
    for each in ranges:
        if 0 <= number - each.inside < each.length:
            return number - each.inside + each.outside
    if ranges:
        raise InvalidInput(f"container id {number} cannot be mapped to a host id")
    return number


def _inside(ranges: tuple[IdRange, ...], number: int) -> int:
    for each in ranges:
        if 0 <= number - each.outside < each.length:
            return number - each.outside + each.inside
    return number


@contextmanager
def hold(ids: Ids, kinds: Iterable[str]) -> Iterator[list[tuple[str, int]]]:
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
        namespaces.write_id_map(pid, list(ids.users), list(ids.groups))
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


def give(path: Path | int, ids: Ids) -> None:
    """Make the container's root the owner of a file or descriptor."""
    os.chown(path, *ids.outside(0, 0))
