"""A container is a directory and, while it runs, a process that holds a lock.

``<root>/containers/<id>/`` has config.json (what it is asked to be: spec.py) and state.json (what
became of it). Who is alive is known by flock alone: the shim holds shim.lock as long as it lives. A pid
would lie after a reboot, a lock cannot. Names are symbolic links, ``<root>/names/web`` →
``../containers/<id>``: `ls -l` shows them, and the kernel makes them unique.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from minidock import events, files
from minidock.containers import timestamps, volumes
from minidock.containers.life import ALIVE as ALIVE
from minidock.containers.spec import Spec
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

UNKNOWN = 255  # the exit code of a container whose end nobody recorded; Docker's choice
MAKING = ".making"  # the directory of a container that has no name yet
_PARTING = ".removing-"  # begins the name of a container's directory while it is being deleted
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class State:
    """What became of a container; only its shim writes it (and `reconcile`, when the shim died)."""

    status: str = "created"  # one of life.STATES
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = timestamps.NEVER
    finished_at: str = timestamps.NEVER
    restart_count: int = 0  # starts that the restart policy made since the user's last one
    stopped_by_user: bool = False
    health: dict[str, Any] = field(default_factory=dict)  # see health.py; empty without a health check


class Container:
    """One container of a state root. Cheap to make: nothing is read before it is asked for."""

    def __init__(self, root: Path, identifier: str, spec: Spec | None = None) -> None:
        self.root = root
        self.id = identifier
        self.directory = root / "containers" / identifier
        self._spec = spec

    def __repr__(self) -> str:
        return f"Container({self.id[:12]})"

    @property
    def spec(self) -> Spec:
        """The specification in config.json, read once.

        Raises NotFound when the container is gone, MinidockError when the file is damaged.
        """
        if self._spec is None:
            path = self.directory / "config.json"
            try:
                self._spec = Spec.from_json(files.read_json(path))
            except NotFound:
                raise no_such_container(self.id) from None
            except (MinidockError, AttributeError, KeyError, TypeError, ValueError) as error:
                why = str(error).removeprefix(f"{path}: ")
                raise MinidockError(
                    f"{path}: what this container is made of cannot be read: {why}",
                    hint=f"It cannot start any more: minidock rm -f {self.id[:12]}",
                ) from None
        return self._spec

    def forget_spec(self) -> None:
        """Read config.json again when it is next asked for: another process changed it."""
        self._spec = None

    @property
    def name(self) -> str:
        return self.spec.name

    def state(self) -> State:
        """What state.json says; a container never started has none.

        A damaged file costs no more than the memory of the last run: whether it lives, the lock tells.
        """
        try:
            value = files.read_json(self.directory / "state.json")
            if not isinstance(value.get("status"), str):
                raise MinidockError(f"{self.directory}/state.json: holds no state")
            found = State()
            for each in fields(State):
                if type(value.get(each.name)) is type(getattr(found, each.name)):
                    setattr(found, each.name, value[each.name])
            return found
        except NotFound:
            return State()
        except (MinidockError, AttributeError) as error:
            return State("running", exit_code=UNKNOWN, error=str(error))  # if not, `reconcile` says so

    def write_state(self, state: State) -> None:
        """Replace state.json. Not synced: after a power cut every container has ended anyway."""
        files.write_json(self.directory / "state.json", asdict(state), sync=False, squeeze=True)

    def alive(self) -> bool:
        """Whether its shim lives."""
        return files.is_locked(self.directory / "shim.lock")

    def status(self) -> str:
        """One of life.STATES, as the truth is now."""
        status = self.state().status
        return "exited" if status in ALIVE and not self.alive() else status

    def running(self) -> bool:
        """Whether its processes exist (a paused container's do)."""
        return self.status() in ALIVE

    def note(self, action: str, **attributes: str) -> None:
        """Add a line to what `events` shows, with the container's image, name and labels."""
        spec = self.spec
        about = {**spec.labels, "image": spec.image, "name": spec.name, **attributes}
        events.record(self.root, "container", action, self.id, **about)

    def exists(self) -> bool:
        return (self.directory / "config.json").exists()

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[int]:
        """Be the only one who starts, removes, copies into or commits this container.

        *shared* is for those who look at one that runs: they only keep it from being started anew.
        A flock on the directory itself: no file to make, none to leave behind. Yields its descriptor: who
        inherits that holds the lock, too. Raises NotFound when the container was removed while we waited.
        """
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise no_such_container(self.id) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if not self.exists():
                raise no_such_container(self.id)
            yield descriptor
        finally:
            os.close(descriptor)


def no_such_container(text: str) -> NotFound:
    return NotFound(f"No such container: {text}")


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
        if _ID.fullmatch(name) and container.exists():
            with contextlib.suppress(NotFound):  # removed between the listing and now
                reconcile(container)
                try:
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
    if _ID.fullmatch(text):
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
    fitting = [name for name in names if name.startswith(prefix) and _ID.fullmatch(name)]
    if len(fitting) > 1:
        raise InvalidInput(
            f"Multiple IDs found with provided prefix: {prefix}", hint="Give more digits, or the name."
        )
    return Container(root, fitting[0]) if fitting else None


# --- names ---------------------------------------------------------------------------------------


@contextmanager
def names_lock(root: Path) -> Iterator[None]:
    """Be the only one who gives and takes names in *root*."""
    (root / "containers").mkdir(parents=True, exist_ok=True, mode=0o700)
    (root / "names").mkdir(exist_ok=True, mode=0o700)
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
            f'Conflict. The container name "/{name}" is already in use by container "{holder.id}".',
            hint="Remove (or rename) that container to be able to reuse that name.",
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


def reconcile(container: Container) -> None:
    """Put right what a shim that was killed left behind: its container died with it (137)."""
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
    if state.status in ALIVE:
        state.status, state.pid, state.exit_code = "exited", 0, state.exit_code or 137
        state.finished_at = timestamps.now()
    state.error = state.error or "the shim of this container was killed"
    with contextlib.suppress(OSError):  # a full disk: the lock tells the same
        container.write_state(state)


def clear(container: Container) -> None:
    """Remove what a shim keeps outside the container's files, and its socket. The shim must be gone."""
    from minidock.containers import cgroup

    cgroup.clear(container.root, container.id)
    (container.directory / "shim.sock").unlink(missing_ok=True)


def _removes_itself(container: Container) -> bool:
    try:
        return container.spec.auto_remove
    except MinidockError:  # damaged: nobody knows, so it stays
        return False
