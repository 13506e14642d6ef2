"""`doctor`, second half, and `reset`: what minidock left on this machine, and how to take it away.

A killed shim or pull may leave things that the next command would clean up. Here they are named; `reset`
removes them, and everything else that minidock made below one state root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minidock import diagnosis, files, network_leftovers, sandbox
from minidock.config import LESSONS
from minidock.containers import state, volumes
from minidock.containers.state import ALIVE, Container
from minidock.errors import MinidockError
from minidock.images import transaction
from minidock.kernel import cgroup_tree, cgroups, mounts, syscalls

# What minidock makes in a state root. Anything else there is not ours, and stays.
OURS = (
    *("containers", "names", "images", "layers", "tmp", "cache", "images.lock", "volumes", "networks"),
    *("events.jsonl", "events.jsonl.1"),
)


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that should not be there any more."""

    kind: str  # container, volume, cgroup, mount, file, bridge, …
    what: str
    path: str = ""


def find(root: Path) -> Iterator[Leftover]:
    """What was left behind under *root*. Looks only; nothing is repaired."""
    living: set[str] = set()
    for container in _directories(root):
        if container.alive():
            living.add(container.id)
        elif container.state().status in ALIVE:
            yield Leftover("container", f"{container.id[:12]}: its shim was killed", str(container.directory))
        try:
            if state.abandoned(container.spec) and not container.alive():
                yield Leftover(
                    "container", f"{container.id[:12]}: its build was killed", str(container.directory)
                )
        except MinidockError as error:
            yield Leftover("container", error.message, str(container.directory))
        if not container.alive() and (container.directory / "shim.sock").exists():
            yield Leftover("file", "socket of a shim that is gone", str(container.directory / "shim.sock"))
    if (making := root / "containers" / state.MAKING).exists() and not files.is_locked(
        making.parent / ".lock"
    ):
        yield Leftover("file", "container half made", str(making))
    for path in sorted((root / "containers").glob(".removing-*")):
        yield Leftover("file", "container half removed", str(path))
    for path in sorted((root / "names").glob("*")):
        if not path.exists():
            yield Leftover("file", "name of a container that is gone", str(path))
    if not files.is_locked(volumes.home(root) / ".lock"):
        for path in volumes.unfinished(root):
            yield Leftover("file", "volume half made or half removed", str(path))
    damaged: list[MinidockError] = []
    volumes.listed(root, damaged.append)
    for each in damaged:
        yield Leftover("volume", each.message, str(volumes.home(root)))
    for path in transaction.dead(root / "tmp"):
        yield Leftover("file", "pull, load or build that was killed", str(path))
    containers = (container.directory for container in _directories(root))
    for place in (root / "images", root / "networks", root / "cache", *containers):
        for path in files.unfinished(place):
            yield Leftover("file", "not finished by who wrote it", str(path))
    for path in files.abandoned(root / "tmp", sandbox.SCRATCH):
        yield Leftover("file", "check of a lab that was killed", str(path))
    for path in files.abandoned(root, diagnosis.SCRATCH):
        yield Leftover("file", "trial of a doctor that was killed", str(path))
    for path in sorted((root / "tmp").glob("garbage-*")):
        yield Leftover("file", "removed content, not yet deleted", str(path))
    for directory in _cgroup_directories(root):
        if os.path.basename(directory) not in living and not _is_trial(directory):
            yield Leftover("cgroup", "cgroup without a living container", directory)
    for mount in _mounts(root):
        yield Leftover("mount", "mounted on the host", mount)
    for kind, what, where in network_leftovers.find(root):
        yield Leftover(kind, what, where)
    for lesson in _lessons(root):
        yield from find(lesson)


def _lessons(root: Path) -> list[Path]:
    """The roots of lessons that want one of their own (lab/lesson.py)."""
    return sorted((root / LESSONS).glob("*"))


def _directories(root: Path) -> list[Container]:
    """The containers as they stand on disk; unlike state.containers this reconciles nothing."""
    found = (Container(root, path.name) for path in sorted((root / "containers").glob("*")))
    return [container for container in found if not container.id.startswith(".") and container.exists()]


def _cgroup_directories(root: Path) -> list[str]:
    try:
        trees = dict.fromkeys(cgroup_tree.hierarchies()[1].values())
    except MinidockError:
        return []
    parent = cgroups.parent_for(root)
    return [
        f"{tree}/{parent}/{child}" for tree in trees for child in cgroup_tree.children(f"{tree}/{parent}")
    ]


def _is_trial(directory: str) -> bool:
    """Whether a doctor or the check of a lab still uses this cgroup, which is named for its process."""
    kind, _, pid = os.path.basename(directory).partition("-")
    return kind in ("doctor", "lab") and pid.isdigit() and files.lives(int(pid))


def _mounts(root: Path) -> list[str]:
    """Mounts below the state root that this process sees, the innermost first."""
    inside = f"{root}/"
    targets = [mount.path for mount in mounts.mountinfo()]
    return [target for target in reversed(targets) if target.startswith(inside)]


def reset(root: Path, *, keep_images: bool = False) -> list[str]:
    """Remove all that minidock made below *root*: containers first, their cgroups and mounts, the files.

    Returns one line for each kind of thing removed.
    """
    done = [line for lesson in _lessons(root) for line in reset(lesson, keep_images=keep_images)]
    with contextlib.suppress(OSError):  # there is none, or not all of it is ours
        (root / LESSONS).rmdir()
    containers = _directories(root)
    for container in containers:
        _end(container)
    for identifier in {os.path.basename(path) for path in _cgroup_directories(root)}:
        cgroup = cgroups.Cgroup.open(identifier, cgroups.parent_for(root))
        cgroup.kill()
        cgroup.remove()
        done.append(f"cgroup {cgroup.name}")
    cgroups.remove_parent(cgroups.parent_for(root))
    for target in _mounts(root):
        syscalls.umount(target, syscalls.MNT_DETACH)
        done.append(f"mount {target}")
    done += network_leftovers.clear(root)
    if containers:
        done.insert(0, f"{len(containers)} container{'s' if len(containers) != 1 else ''}")
    if kept := len(volumes.listed(root, lambda error: None)):
        done.insert(0, f"{kept} volume{'s' if kept != 1 else ''}")
    images = ("images", "layers", "images.lock")
    for name in (*OURS, *(path.name for path in files.abandoned(root, diagnosis.SCRATCH))):
        path = root / name
        if not (keep_images and name in images) and os.path.lexists(path):
            files.remove_tree(path) if path.is_dir() else path.unlink()
            done.append(str(path))
    with contextlib.suppress(OSError):  # not empty: somebody else keeps things there, or images stay
        root.rmdir()
    return done


def _end(container: Container) -> None:
    """Kill a container, and the shim that watches it."""
    from minidock.containers import lifecycle

    with contextlib.suppress(MinidockError):  # half made or half removed: its files go below
        lifecycle.remove(state.find(container.root, container.id), force=True)
