"""The containers of a state root: how they are found, named, put right after a kill, and removed.

Names are symbolic links, ``<root>/names/web`` → ``../containers/<id>``: `ls -l` shows them, and the
kernel makes them unique.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minidock import files
from minidock.containers import timestamps, volumes
from minidock.containers.container import UNKNOWN as UNKNOWN
from minidock.containers.container import Container as Container
from minidock.containers.container import State as State
from minidock.containers.container import no_such_container
from minidock.containers.life import ALIVE as ALIVE
from minidock.containers.spec import Spec
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

MAKING = ".making"  # the directory of a container that has no name yet
_PARTING = ".removing-"  # begins the name of a container's directory while it is being deleted
_ID = r"[0-9a-f]{64}"


# --- finding -------------------------------------------------------------------------------------


def containers(root: Path, on_damage: Callable[[MinidockError], None] | None = None) -> list[Container]:
    """Every container of *root*, the newest first; what was killed half-way is put right.

    One whose config.json is damaged is left out; *on_damage* gets the error.
    """
    try:
        names = os.listdir(root / "containers")
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.startswith(_PARTING):
            _finish_removal(root, root / "containers" / name)
        container = Container(root, name)
        if re.fullmatch(_ID, name) and container.exists():
            with contextlib.suppress(NotFound):  # removed between the listing and now
                reconcile(container)
                try:
                    if abandoned(container.spec) and not container.alive():
                        _remove_abandoned(container)
                        continue
                    found.append((container.spec.created, container))
                except MinidockError as error:
                    if not isinstance(error, NotFound) and on_damage is not None:
                        on_damage(error)
    return [container for _, container in sorted(found, key=lambda pair: pair[0], reverse=True)]


def find(root: Path, text: str) -> Container:
    """The container with this id, name, or unique prefix of an id, in this order.

    Raises NotFound; InvalidInput when a prefix fits several.
    """
    text = text.removeprefix("/")
    container = None
    if re.fullmatch(_ID, text):
        container = Container(root, text)
    elif text and "/" not in text and not text.startswith("."):
        container = named(root, text)
        if container is None and re.fullmatch(r"[0-9a-f]{1,63}", text):
            container = _by_prefix(root, text)
    if container is None or not container.exists():
        raise no_such_container(text)
    reconcile(container)
    if not container.exists():  # it was to remove itself when it ended, and its shim had died
        raise no_such_container(text)
    return container


def named(root: Path, name: str) -> Container | None:
    """The container that has this name now."""
    try:
        identifier = os.path.basename(os.readlink(root / "names" / name))
    except OSError:
        return None
    container = Container(root, identifier)
    return container if container.exists() else None


def _by_prefix(root: Path, prefix: str) -> Container | None:
    try:
        names = os.listdir(root / "containers")
    except FileNotFoundError:
        return None
    fitting = [name for name in names if name.startswith(prefix) and re.fullmatch(_ID, name)]
    if len(fitting) > 1:
        raise InvalidInput(
            f"Multiple IDs found with provided prefix: {prefix}", hint="Give more digits, or the name."
        )
    return Container(root, fitting[0]) if fitting else None


# --- names ---------------------------------------------------------------------------------------


@contextmanager
def names_lock(root: Path) -> Iterator[None]:
    """Be the only one who gives and takes names in *root*."""
    for name in ("containers", "names"):
        files.make_private(root / name)
    with files.lock(root / "containers" / ".lock"):
        yield


def make_room(root: Path) -> Path:
    """An empty directory for the container that is being made; the caller holds :func:`names_lock`.

    It always has the same name, as one is made at a time: what a killed create left is found by the next.
    """
    making = root / "containers" / MAKING
    try:
        making.mkdir(mode=0o700)
    except FileExistsError:
        files.remove_tree(making)
        for link in (root / "names").iterdir():
            if not link.exists():
                link.unlink(missing_ok=True)
        making.mkdir(mode=0o700)
    return making


def claim(root: Path, name: str, identifier: str) -> None:
    """Give *name* to a container; the caller holds :func:`names_lock`. Raises Conflict."""
    holder = named(root, name)
    if holder is not None:
        raise Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{holder.id}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
            hint=f"minidock rm {name}",
        )
    with contextlib.suppress(FileNotFoundError):  # left by a create that was killed
        os.unlink(root / "names" / name)
    os.symlink(f"../containers/{identifier}", root / "names" / name)


def release(root: Path, name: str, identifier: str) -> None:
    """Take *name* away, if it is still this container's."""
    link = root / "names" / name
    with contextlib.suppress(OSError):
        if os.path.basename(os.readlink(link)) == identifier:
            os.unlink(link)


def release_all(root: Path, identifier: str) -> None:
    """Take from a container whatever name it has: what it was called is known no more."""
    for name in os.listdir(root / "names"):
        release(root, name, identifier)


# --- the end -------------------------------------------------------------------------------------


def vanish(container: Container) -> Path:
    """Take a container out of sight: to others it is gone in one step. Returns what is left to delete."""
    parting = container.directory.with_name(f"{_PARTING}{container.id}")
    try:
        name = container.spec.name
    except MinidockError:
        name = ""
    with contextlib.suppress(FileNotFoundError):
        os.rename(container.directory, parting)
    if name:
        release(container.root, name, container.id)
    else:
        release_all(container.root, container.id)
    return parting


def delete(container: Container) -> None:
    """Remove a container's directory and name; the caller holds its lock.

    To others it is gone in one step. Where the disk refuses, it comes back as ``dead``: it cannot start
    again, only be removed. Raises MinidockError then.
    """
    container.note("destroy")
    parting = vanish(container)
    try:
        for child in sorted(parting.iterdir(), key=lambda path: not path.is_dir()):
            if child.is_dir() and not child.is_symlink():
                files.remove_tree(child)  # config.json and state.json last: they say what it was
        files.remove_tree(parting)
    except FileNotFoundError:  # it ended meanwhile, and with --rm its shim was quicker
        return
    except OSError as error:
        os.rename(parting, container.directory)
        with contextlib.suppress(Conflict), names_lock(container.root):
            claim(container.root, container.name, container.id)
        why = f"{error.filename or parting}: {error.strerror}"
        container.write_state(State("dead", error=why))
        raise MinidockError(
            f'container "/{container.name}" is dead: its files cannot be removed: {why}',
            hint="See what holds that file (a mount, chattr +i), then minidock rm again.",
        ) from None


def drop_volumes(container: Container) -> None:
    """Remove the anonymous volumes of a container that has vanished, but for those that others use."""
    with contextlib.suppress(MinidockError):  # its config is damaged: `volume prune` finds them
        for doomed in volumes.retire(container.root, container.spec.mounts):
            files.remove_tree(doomed)


def _finish_removal(root: Path, parting: Path) -> None:
    """Delete what a killed process was deleting; nothing when the process is still at it."""
    try:
        descriptor = os.open(parting, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Container.lock, which moved along
        release_all(root, parting.name.removeprefix(_PARTING))
        container = Container(root, parting.name.removeprefix(_PARTING))
        container.directory = parting
        if _removes_itself(container):
            drop_volumes(container)
        files.remove_tree(parting)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def abandoned(spec: Spec) -> bool:
    """Whether the build that made this container for one of its steps is gone: nobody holds its lock."""
    return bool(spec.owner) and not files.is_locked(Path(spec.owner) / "lock")


def _remove_abandoned(container: Container) -> None:
    with contextlib.suppress(NotFound), container.lock():
        clear(container)
        files.remove_tree(vanish(container))


def reconcile(container: Container) -> None:
    """Put right what a shim that was killed left behind: its container died with it.

    The exit code is 137 then, but 255 where all of the machine went down: nobody saw how it ended.
    """
    if container.state().status not in ALIVE or container.alive():
        return
    with contextlib.suppress(NotFound), container.lock():
        state = container.state()
        if state.status not in ALIVE or container.alive():
            return  # someone else did it while we waited
        bury(container)


def bury(container: Container) -> None:
    """Clean up after a shim that was killed, perhaps before its container ran. The caller holds the lock."""
    clear(container)
    if _removes_itself(container):
        parting = vanish(container)
        drop_volumes(container)
        files.remove_tree(parting)
        return
    state = container.state()
    rebooted = state.boot not in ("", timestamps.boot())
    if state.status in ALIVE:
        code = UNKNOWN if rebooted else 137
        state.status, state.pid, state.exit_code = "exited", 0, state.exit_code or code
        state.finished_at = timestamps.now()
    if not rebooted:
        state.error = state.error or "the shim of this container was killed"
    with contextlib.suppress(OSError):  # a full disk: the lock tells the same
        container.write_state(state)


def clear(container: Container) -> None:
    """Remove what a shim keeps outside the container's files, and its socket. The shim must be gone."""
    from minidock.containers import cgroup, networks

    cgroup.clear(container.root, container.id)
    networks.forget_dead(container.root)
    for name in ("shim.sock", "lobby.sock"):
        (container.directory / name).unlink(missing_ok=True)


def _removes_itself(container: Container) -> bool:
    try:
        return container.spec.auto_remove
    except MinidockError:  # damaged: nobody knows, so it stays
        return False
