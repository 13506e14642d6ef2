"""What is mounted into a container beside its image: host directories, volumes, tmpfs, its own /etc files.

Sources are taken as *detached copies* of their mounts before the container's mounts are cut off from
the host's (a copy stays a peer of its source, so that ``rshared`` and ``rslave`` can work). Targets are
opened with RESOLVE_IN_ROOT and mounted upon by descriptor: whatever symbolic links an image or another
container put there, the mount cannot land outside (CVE-2021-30465).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.containers import user_namespace, volume_driver, volumes
from minidock.containers.spec import Mount
from minidock.containers.volume_driver import Filesystem
from minidock.containers.volumes import Volume
from minidock.errors import InvalidInput, KernelError
from minidock.kernel import rootfs, syscalls

_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "sync": syscalls.MS_SYNCHRONOUS,
}
_OPPOSITES = {
    "rw": "ro",
    "suid": "nosuid",
    "dev": "nodev",
    "exec": "noexec",
    "atime": "noatime",
    "async": "sync",
}
_PROPAGATION = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
}


@dataclass(slots=True)
class Taken:
    """A mount that waits for its place: the descriptor of a detached copy, or -1 for one to be made there.

    *filesystem* is that of a volume that names a device (see volume_driver.py).
    """

    mount: Mount
    tree: int = -1
    is_directory: bool = True
    filesystem: Filesystem | None = None
    volume: Volume | None = None


def prepare_sources(root: Path, mounts: list[Mount]) -> None:
    """Make the host directories of ``-v`` that do not exist yet (before the container's life begins).

    Raises NotFound for a volume that was taken away.
    """
    for mount in mounts:
        if mount.kind == "volume":
            volumes.find(root, mount.source)
        elif mount.kind == "bind" and mount.create_source and not os.path.exists(mount.source):
            os.makedirs(mount.source, exist_ok=True)


@trace.mechanism(lesson=10)
def take(root: Path, mounts: list[Mount], user: int | None = None) -> list[Taken]:
    """Take hold of volumes and host directories while the host's mounts are still in sight.

    In the order in which they are to be mounted: parents before what lies inside them. With *user*, a
    user namespace, named volumes belong to the container's root; the host's directories stay the host's.
    """
    taken = []
    for mount in sorted(mounts, key=lambda each: os.path.normpath(each.target).count("/")):
        if mount.kind == "tmpfs":
            taken.append(Taken(mount))
        elif mount.kind == "volume":
            taken.append(_take_volume(root, mount, user))
        else:
            source = os.path.realpath(mount.source)
            _check_propagation(mount, source)
            if mount.mapped and user is not None:
                tree = user_namespace.open_mapped(Path(source), user)
            else:
                tree = _copy(source, recursive=mount.recursive != "disabled")
            taken.append(Taken(mount, tree, os.path.isdir(source)))
    return taken


def _take_volume(root: Path, mount: Mount, user: int | None) -> Taken:
    volume = volumes.find(root, mount.source)
    wanted = volume_driver.filesystem(volume)
    if wanted is not None and not wanted.is_bind:
        if mount.subpath:
            raise InvalidInput(
                f"volume-subpath: the volume {volume.name} is a filesystem of its own ({wanted.fstype})",
                hint="Mount all of it.",
            )
        return Taken(mount, filesystem=wanted, volume=volume)
    if wanted is None:
        path = _below(volume.path, mount.subpath)
        tree = _copy(path, recursive=True) if user is None else user_namespace.open_mapped(path, user)
        return Taken(mount, tree, os.path.isdir(path), volume=volume)
    try:
        path = _below(Path(wanted.device), mount.subpath)
        tree = _copy(path, recursive=bool(wanted.flags & syscalls.MS_REC))
        if wanted.attributes():
            syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attributes=wanted.attributes())
    except KernelError as error:
        raise volume_driver.refused(volume, error) from None
    return Taken(mount, tree, os.path.isdir(path), volume=volume)


def _copy(source: Path | str, *, recursive: bool) -> int:
    """A detached copy of the mount at *source*, with all that is mounted below it when *recursive*."""
    flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
    return syscalls.open_tree(syscalls.AT_FDCWD, source, flags | (syscalls.AT_RECURSIVE if recursive else 0))


def _below(top: Path, subpath: str) -> Path:
    """The part *subpath* of a volume. No link leads out of it: containers write there what they like."""
    if not subpath:
        return top
    directory = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = syscalls.openat2(directory, subpath, os.O_PATH, syscalls.RESOLVE_BENEATH)
    except KernelError as error:
        raise InvalidInput(
            f"cannot access path {top / subpath}: {os.strerror(error.errno).lower()}",
            hint="volume-subpath names a directory or file that is in the volume already.",
        ) from None
    finally:
        os.close(directory)
    return Path(f"/proc/self/fd/{found}")  # held open until this process execs


def take_shared_memory(namespace: int) -> Taken:
    """Take another container's /dev/shm, to go with its ipc namespace.

    *namespace* is its mount namespace: a mount can be copied only from inside the namespace it is in. So
    this process goes there for a moment; it must not import anything there.
    """
    syscalls.forbid_imports()
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        try:
            memory = syscalls.openat2(
                syscalls.AT_FDCWD, "/dev/shm", os.O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_NO_SYMLINKS
            )
            flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_EMPTY_PATH
            tree = syscalls.open_tree(memory, "", flags)
            os.close(memory)
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNS)
    finally:
        os.close(home)
    return Taken(Mount("bind", "shared memory", "/dev/shm"), tree)


def _check_propagation(mount: Mount, source: str) -> None:
    """A source that is not shared itself cannot pass mounts on: say so, as Docker does."""
    wanted = mount.propagation.removeprefix("r")
    if wanted == "private":
        return
    on = max(
        (each for each in rootfs.mountinfo() if f"{source}/".startswith(f"{each.path.rstrip('/')}/")),
        key=lambda each: (len(each.path), each.line),
    )
    if not on.shared and not (wanted == "slave" and any(p.startswith("master:") for p in on.propagation)):
        kind = "a shared mount" if wanted == "shared" else "a shared or slave mount"
        raise InvalidInput(
            f"path {mount.source} is mounted on {on.path} but it is not {kind}",
            hint=f"mount --make-shared {on.path}",
        )


@trace.mechanism(lesson=10)
def place(new_root: Path, taken: list[Taken]) -> None:
    """Put each volume at its target; a link in the image cannot lead the mount outside."""
    top = os.open(new_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in taken:
            rootfs.inside(new_root, each.mount.target, directory=each.is_directory)
            target = syscalls.openat2(top, each.mount.target, os.O_PATH, syscalls.RESOLVE_IN_ROOT)
            try:
                if each.filesystem is not None:
                    _mount_filesystem(target, each)
                elif each.tree < 0:
                    _mount_tmpfs(target, each.mount)
                else:
                    _attach(target, each)
            finally:
                os.close(target)
    finally:
        os.close(top)


def _attach(target: int, taken: Taken) -> None:
    mount = taken.mount
    if taken.is_directory != stat.S_ISDIR(os.fstat(target).st_mode):
        raise InvalidInput(
            f'error mounting "{mount.source}" to rootfs at "{mount.target}": not a directory',
            hint="Are you trying to mount a directory onto a file (or vice-versa)?",
        )
    _set_propagation(taken.tree, mount.propagation)
    if mount.read_only:  # as Docker since 25: what is mounted below becomes read-only as well
        below = 0 if mount.recursive == "writable" else syscalls.AT_RECURSIVE
        syscalls.mount_setattr(
            taken.tree, "", syscalls.AT_EMPTY_PATH | below, attributes=syscalls.MOUNT_ATTR_RDONLY
        )
    empty = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
    syscalls.move_mount(taken.tree, "", target, "", empty)
    os.close(taken.tree)


def _set_propagation(tree: int, wanted: str) -> None:
    """Say which mount events pass between a copied tree and its source. A shared source's copy is shared."""
    kind, whole = _PROPAGATION[wanted.removeprefix("r")], syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
    if kind == syscalls.MS_SHARED:
        return
    if wanted.startswith("r"):
        syscalls.mount_setattr(tree, "", whole, propagation=kind)
        return
    # What is mounted below the source must not pass our mounts on to the host either.
    syscalls.mount_setattr(tree, "", whole, propagation=syscalls.MS_SLAVE)
    syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, propagation=kind)


def _mount_filesystem(target: int, taken: Taken) -> None:
    """Mount a volume's device where the container wants it: here, and nowhere else on the machine."""
    assert taken.filesystem and taken.volume
    wanted = taken.filesystem
    flags = wanted.flags | (syscalls.MS_RDONLY if taken.mount.read_only else 0)
    try:
        syscalls.mount(wanted.device, f"/proc/self/fd/{target}", wanted.fstype, flags, wanted.data)
    except KernelError as error:
        raise volume_driver.refused(taken.volume, error) from None


def _mount_tmpfs(target: int, mount: Mount) -> None:
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    data = {"mode": "1777"}
    for option in [*mount.options, *(["ro"] if mount.read_only else [])]:
        name, equals, value = option.partition("=")
        if name in _FLAGS:
            flags |= _FLAGS[name]
        elif name in _OPPOSITES:
            flags &= ~_FLAGS[_OPPOSITES[name]]
        elif equals and name in ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"):
            data[name] = value
        elif name:
            raise InvalidInput(f"invalid tmpfs option {option!r}")
    options = ",".join(f"{name}={value}" for name, value in data.items())
    syscalls.mount("tmpfs", f"/proc/self/fd/{target}", "tmpfs", flags, options)
