"""Managed volumes: directories that outlive the containers that use them.

``<root>/volumes/<name>/`` holds the files (``_data``) and what is known of the volume (``volume.json``).
Who uses a volume stands in the configs of the containers and nowhere else: no count that a crash could
falsify. One lock serialises making, claiming by a new container, and removing; the lock is a flock, so
that a killed process holds nothing. Containers mount a volume in their own mount namespace only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minidock import events, files
from minidock.containers import timestamps
from minidock.containers.spec import Mount
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound
from minidock.mount_notation import check_volume_name

ANONYMOUS = "com.docker.volume.anonymous"  # Docker's label of volumes that got their name by chance
_MAKING = ".making"  # the directory of a volume that has no name yet
_PARTING = ".removing-"  # begins the name of a volume's directory while it is being deleted
_OPTIONS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}  # option: what it needs


@dataclass(slots=True)
class Volume:
    """One volume. *options* are those of Docker's local driver: type, device, o."""

    name: str
    path: Path  # of its files, as the host sees them
    created: str = ""  # RFC 3339
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS in self.labels


@dataclass(frozen=True, slots=True)
class Use:
    """A container (its id and name) that has a volume mounted, or will have when it starts."""

    id: str
    name: str
    mount: Mount


def home(root: Path) -> Path:
    """The directory of all volumes."""
    return root / "volumes"


def data_path(root: Path, name: str) -> Path:
    """Where a volume keeps its files."""
    return home(root) / name / "_data"


# --- finding -------------------------------------------------------------------------------------


def find(root: Path, name: str) -> Volume:
    """The volume *name*. Raises NotFound, MinidockError when its file is damaged."""
    if name in (".", "..") or "/" in name or "\0" in name or not data_path(root, name).is_dir():
        raise NotFound(f"get {name}: no such volume")
    return _read(root, name)


def listed(root: Path, on_damage: Callable[[MinidockError], None] | None = None) -> list[Volume]:
    """Every volume, sorted by name. One whose file is damaged is listed bare; *on_damage* gets the error."""
    try:
        names = sorted(os.listdir(home(root)))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.startswith(".") or not data_path(root, name).is_dir():
            continue
        try:
            found.append(_read(root, name))
        except MinidockError as error:
            if on_damage is not None:
                on_damage(error)
            found.append(Volume(name, data_path(root, name)))
    return found


def _read(root: Path, name: str) -> Volume:
    path = data_path(root, name)
    file = home(root) / name / "volume.json"
    try:
        value = files.read_json(file)
        return Volume(name, path, str(value["created"]), dict(value["labels"]), dict(value["options"]))
    except NotFound:  # made by hand
        with contextlib.suppress(FileNotFoundError):
            return Volume(name, path, timestamps.from_nanoseconds(path.stat().st_mtime_ns))
        raise NotFound(f"get {name}: no such volume") from None
    except (MinidockError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise MinidockError(
            f"{file}: what is known of this volume cannot be read: {error}",
            hint=f"Its files are whole: {path}. Remove {file} to go on without its labels and options.",
        ) from None


def uses(root: Path) -> dict[str, list[Use]]:
    """Which containers use which volumes: by the volume's name, read from the containers' configs."""
    found: dict[str, list[Use]] = {}
    try:
        identifiers = os.listdir(root / "containers")
    except FileNotFoundError:
        return found
    for identifier in identifiers:
        if identifier.startswith("."):
            continue
        try:
            config = json.loads((root / "containers" / identifier / "config.json").read_bytes())
            mounts = [Mount(**item) for item in config.get("mounts", [])]
        except (OSError, ValueError, TypeError, AttributeError):  # gone meanwhile, or damaged
            continue
        for mount in mounts:
            if mount.kind == "volume":
                found.setdefault(mount.source, []).append(Use(identifier, config.get("name", ""), mount))
    return found


def note(root: Path, name: str, action: str, **attributes: str) -> None:
    """Add a line to what `events` shows."""
    events.record(root, "volume", action, name, driver="local", **attributes)


# --- making --------------------------------------------------------------------------------------


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Be the only one who makes, claims and removes volumes in *root*."""
    files.make_private(home(root), 0o701)
    with files.lock(home(root) / ".lock"):
        yield


def create(
    root: Path,
    name: str = "",
    *,
    driver: str = "",
    labels: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Volume:
    """Make a volume, on disk when this returns; one of this name that is there already is left as it is.

    Without *name* it is anonymous. Raises InvalidInput for a name, driver or option that Docker refuses.
    """
    wanted = _wanted(root, name, driver, labels or {}, options or {})
    with lock(root):
        return _make(root, wanted)


def _wanted(root: Path, name: str, driver: str, labels: dict[str, str], options: dict[str, str]) -> Volume:
    if not name:
        name, labels = os.urandom(32).hex(), {ANONYMOUS: "", **labels}
    try:
        check_volume_name(name)
        if driver not in ("", "local"):
            raise NotFound(
                f'error looking up volume plugin {driver}: plugin "{driver}" not found',
                hint="minidock has the driver local.",
            )
        _check_options(options)
    except MinidockError as error:
        error.message = f"create {name}: {error.message}"
        raise
    return Volume(name, data_path(root, name), timestamps.now(), labels, options)


def _check_options(options: dict[str, str]) -> None:
    for name in options:
        if name == "size":
            raise InvalidInput(
                "quota size requested but no quota support", hint="A tmpfs has a size: -o o=size=64m."
            )
        if name not in _OPTIONS:
            raise InvalidInput(f'invalid option: "{name}"', hint=f"Options: {', '.join(_OPTIONS)}.")
        for needed in _OPTIONS[name]:
            if needed not in options:
                raise InvalidInput(f'missing required option: "{needed}"')


def _make(root: Path, wanted: Volume, *, sync: bool = True) -> Volume:
    """Make *wanted* in one step, unless it is there; the caller holds the lock."""
    if wanted.path.is_dir():
        return _read(root, wanted.name)
    making = home(root) / _MAKING
    files.remove_tree(making)  # what a killed create has left
    (making / "_data").mkdir(parents=True, mode=0o755)
    os.chmod(making / "_data", 0o755)
    value = asdict(wanted)
    del value["path"]
    files.write_json(making / "volume.json", value, sync=sync)
    target = home(root) / wanted.name
    if target.exists():  # a directory without _data: nothing of a volume
        raise Conflict(f"create {wanted.name}: {target} is there and is no volume")
    os.rename(making, target)
    if sync:
        files.sync_directory(home(root))
    note(root, wanted.name, "create")
    return wanted


@contextmanager
def claimed(root: Path, mounts: Iterable[Mount], *, sync: bool = True) -> Iterator[None]:
    """Make the volumes that a new container asks for; the block writes its config, which claims them.

    An anonymous volume gets its name here. When the block fails, what was made for it goes again.
    """
    wanted = [mount for mount in mounts if mount.kind == "volume"]
    if not wanted:
        yield
        return
    with lock(root):
        made: list[Volume] = []
        try:
            for mount in wanted:
                mount.anonymous = mount.anonymous or not mount.source
                volume = _wanted(root, mount.source, mount.driver, mount.labels, mount.driver_options)
                mount.source = volume.name
                if not volume.path.is_dir():
                    made.append(_make(root, volume, sync=sync or not mount.anonymous))
            yield
        except BaseException:
            for volume in made:
                files.remove_tree(_vanish(root, volume.name))
            raise


# --- removing ------------------------------------------------------------------------------------


def remove(root: Path, name: str) -> None:
    """Remove a volume and its files. Raises NotFound; Conflict while a container uses it."""
    with lock(root):
        if not name or name.startswith(".") or "/" in name or not (home(root) / name).is_dir():
            raise NotFound(f"get {name}: no such volume")
        users = uses(root).get(name)
        if users:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(use.id for use in users)}]",
                hint=f"minidock rm {' '.join(use.name or use.id[:12] for use in users)}",
            )
        parting = _vanish(root, name)
    files.remove_tree(parting)


def retire(root: Path, mounts: Iterable[Mount]) -> list[Path]:
    """Take the anonymous volumes of a container that is gone out of sight, but for those others use.

    Returns what is left to delete (files.remove_tree).
    """
    names = [mount.source for mount in mounts if mount.kind == "volume" and mount.anonymous]
    if not names:
        return []
    with lock(root):
        used = uses(root)
        return [_vanish(root, name) for name in names if name not in used and (home(root) / name).is_dir()]


def _vanish(root: Path, name: str) -> Path:
    """To others the volume is gone in one step; the caller holds the lock and deletes what is returned."""
    parting = home(root) / f"{_PARTING}{name[:80]}-{os.urandom(4).hex()}"
    os.rename(home(root) / name, parting)
    files.sync_directory(home(root))
    note(root, name, "destroy")
    return parting


def sweep(root: Path) -> None:
    """Delete what killed processes were making or removing."""
    if not home(root).is_dir():
        return
    with lock(root):
        for path in unfinished(root):
            with contextlib.suppress(FileNotFoundError):  # its own process is still at it
                files.remove_tree(path)


def unfinished(root: Path) -> list[Path]:
    """What is neither a volume yet nor one any more. Without the lock some of it may be in good hands."""
    try:
        names = sorted(os.listdir(home(root)))
    except FileNotFoundError:
        return []
    return [home(root) / name for name in names if name == _MAKING or name.startswith(_PARTING)]


# --- what the image brings -----------------------------------------------------------------------


def is_empty(path: Path) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None


def settle(root: Path, name: str, filled: Path) -> None:
    """Put the files in *filled* into the volume *name*, in one step, if it is still empty."""
    try:
        os.rename(filled, data_path(root, name))
        files.sync_directory(home(root) / name)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        files.remove_tree(filled)  # somebody was quicker


def to_json(volume: Volume) -> dict[str, Any]:
    """A volume in the shape of Docker's API (definition Volume)."""
    return {
        "CreatedAt": volume.created[:19] + "Z" if volume.created else "",
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": str(volume.path),
        "Name": volume.name,
        "Options": volume.options or None,
        "Scope": "local",
    }
