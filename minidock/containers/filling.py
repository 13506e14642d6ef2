"""A new volume begins with what the image has where it is mounted: Docker's copy-up into volumes.

It happens when the container is made, not when it starts: a *data-packed volume container* is never
started, and others take its volumes with ``--volumes-from``. Only an empty volume is filled, with owners,
modes, times and extended attributes, those of the directory itself, too; ``nocopy`` leaves it empty.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from minidock import files, trace
from minidock.containers import archives, user_namespace, view, volume_driver, volumes
from minidock.containers.spec import Mount
from minidock.containers.state import Container
from minidock.errors import InvalidInput, NotFound
from minidock.images.extract import Extractor
from minidock.images.tar import Reader
from minidock.kernel import overlay, syscalls
from minidock.kernel.paths import open_inside

_ENDLESS = 1 << 62  # bytes


@trace.mechanism(lesson=10)
def fill(container: Container, layers: list[Path]) -> None:
    """Copy what the image has into the empty volumes of a new container.

    *layers* are the image's trees, top first. The container must not have been started yet. Raises
    InvalidInput where a volume would hide a file of the image.
    """
    wanted = [mount for mount in container.spec.mounts if _to_fill(container.root, mount)]
    wanted = [mount for mount in wanted if _image_has(layers, mount.target)]
    if not wanted:
        return
    with container.lock() as lock, view.of(container, lock, volumes=False) as root:
        for mount in wanted:
            _fill_one(container, root, mount)


def _to_fill(root: Path, mount: Mount) -> bool:
    if mount.kind != "volume" or mount.no_copy or mount.subpath or mount.origin == "volumes-from":
        return False
    path = _place(root, mount)
    return path is not None and path.is_dir() and volumes.is_empty(path)


def _place(root: Path, mount: Mount) -> Path | None:
    """The directory whose content the volume shows; None when that is a filesystem not mounted here."""
    volume = volumes.find(root, mount.source)
    wanted = volume_driver.filesystem(volume)
    if wanted is None:
        return volume.path
    return Path(wanted.device) if wanted.is_bind else None


def _image_has(layers: list[Path], target: str) -> bool:
    """Whether the image may have something there: a look at its layers, which costs no process."""
    for name in target.strip("/").split("/"):
        found, _, layers = overlay.lookup(layers, name)
        if found is None:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return True  # a link: where it leads, the kernel shall say
    return True


def _fill_one(container: Container, root: int, mount: Mount) -> None:
    try:
        found = open_inside(root, mount.target, os.O_PATH, magic=False)
    except OSError:
        return
    is_directory = stat.S_ISDIR(os.fstat(found).st_mode)
    os.close(found)
    if not is_directory:
        raise InvalidInput(f"cannot mount volume over existing file, file exists {mount.target}")
    place = _place(container.root, mount)
    assert place is not None
    home = volumes.home(container.root) / mount.source
    held = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # two containers that are made at once do not both fill it
        if not volumes.is_empty(place):
            return
        if place != home / "_data" or _in_use(container, mount.source):
            _copy(container, root, mount.target, place)
            return
        filling = home / ".filling"  # complete or not at all: a volume half filled would stay so
        files.remove_tree(filling)
        filling.mkdir(mode=0o755)
        _copy(container, root, mount.target, filling)
        syscalls.syncfs(filling)
        volumes.settle(container.root, mount.source, filling)
    finally:
        os.close(held)


def _in_use(container: Container, name: str) -> bool:
    """Whether a running container has this volume mounted: it would not see another directory."""
    users = volumes.uses(container.root).get(name, [])
    return any(Container(container.root, use.id).alive() for use in users)


def _copy(container: Container, root: int, source: str, target: Path) -> None:
    ids = user_namespace.ids_of(container.spec)
    try:
        with (
            archives.piped(lambda write: archives.read(root, f"{source}/.", write, ids=ids)) as blocks,
            Extractor(target, layer=False, max_size=_ENDLESS) as extractor,
        ):
            extractor.extract(Reader(blocks))
    except NotFound:
        return
