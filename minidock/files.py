"""Files that survive: atomic writes, locks, and the removal of trees."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minidock.errors import MinidockError, NotFound

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk is full, or what we may take of it


def make_private(directory: Path, mode: int = 0o700) -> None:
    """Make *directory*, one below a state root, and the root itself (always 0700), where they are missing.

    Whoever comes first makes the root: volumes, networks, events, images or containers.
    """
    # mkdir's own `parents` would give the root everybody's mode.
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.mkdir(exist_ok=True, mode=mode)


def write_bytes(
    path: Path, data: bytes, *, mode: int = 0o600, sync: bool = True, squeeze: bool = False
) -> None:
    """Replace *path* by *data* in one step: readers see the old content or the new, never a part.

    With *sync* the file and its directory are on disk when this returns. With *squeeze* a small file is
    written where it stands when the disk is full: what follows must not fail for the want of a block.
    """
    try:
        _replace(path, data, mode, sync)
    except OSError as error:
        if not squeeze or error.errno not in FULL or not path.exists():
            raise
        _squeeze(path, data)


def _replace(path: Path, data: bytes, mode: int, sync: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def unfinished(directory: Path) -> list[Path]:
    """Files in *directory* that never got their name: who wrote them was killed (see :func:`_replace`)."""
    found = []
    for path in sorted(directory.glob(".*.*.*")):
        _, pid, random = path.name.rsplit(".", 2)
        if pid.isdigit() and len(random) == 8 and not lives(int(pid)):
            found.append(path)
    return found


def lives(pid: int) -> bool:
    """Whether there is such a process. After a while the number may be another's: a yes proves nothing."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:  # also of a dead one that nobody has buried
        return False
    return True


def _squeeze(path: Path, data: bytes) -> None:
    """Overwrite *path* inside the block that it has: one write(2), padded so that nothing old shows."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size), 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def write_json(
    path: Path, value: Any, *, mode: int = 0o600, sync: bool = True, squeeze: bool = False
) -> None:
    """Write *value* as JSON, atomically (see :func:`write_bytes`). It may be or hold dataclasses."""
    data = json.dumps(value, indent=1, ensure_ascii=False, default=fields_of).encode() + b"\n"
    write_bytes(path, data, mode=mode, sync=sync, squeeze=squeeze)


def fields_of(record: Any) -> dict[str, Any]:
    """A dataclass's fields by name. (`asdict` copies all that is in them, at ten times the price.)"""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def read_json(path: Path) -> Any:
    """The JSON value in *path*. Raises NotFound when there is no such file, MinidockError when damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except ValueError as error:
        raise MinidockError(f"{path}: not valid JSON: {error}") from None


def sync_directory(path: Path) -> None:
    """Make renames and unlinks inside *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
    """Hold flock(2) on *path* (created when missing) while the block runs; yields the descriptor.

    With ``wait=False`` raises BlockingIOError when another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on *path*: how minidock knows who is alive (never by pid)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who ask at the same time must not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def scratch(place: Path, prefix: str) -> Iterator[Path]:
    """A fresh directory in *place*, removed when the block ends; :func:`abandoned` if its maker is killed."""
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        with lock(directory / "lock"):
            yield directory
    finally:
        remove_tree(directory)


def abandoned(place: Path, prefix: str) -> list[Path]:
    """The directories of :func:`scratch` in *place* whose makers were killed."""
    found = []
    for directory in sorted(place.glob(f"{prefix}*")):
        with suppress(OSError):  # it goes just now
            new = time.time() - directory.stat().st_mtime < 1  # its maker takes the lock in a moment
            if not new and not is_locked(directory / "lock"):
                found.append(directory)
    return found


def remove_tree(path: Path) -> None:
    """Remove *path* and what is below it; nothing happens when it is already gone.

    Never follows a symbolic link and never leaves the tree. Several processes may do it at once.
    """
    try:
        while True:
            try:
                shutil.rmtree(path)
                return
            except FileNotFoundError:
                if not path.exists():
                    return  # else something below vanished while we walked: go on with the rest
    except RecursionError:  # deeper than Python goes: a hostile archive, or mkdir in a loop
        _flatten(path)
        shutil.rmtree(path)


def _flatten(path: Path) -> None:
    """Move every directory below *path* to its top: afterwards nothing in it is deep."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(path, flags)
    try:
        moved = 0
        todo = [child.name for child in os.scandir(top) if child.is_dir(follow_symlinks=False)]
        while todo:
            directory = os.open(todo.pop(), flags, dir_fd=top)
            try:
                for child in [
                    child.name for child in os.scandir(directory) if child.is_dir(follow_symlinks=False)
                ]:
                    name = f".{os.urandom(8).hex()}.{moved}"
                    os.rename(child, name, src_dir_fd=directory, dst_dir_fd=top)
                    todo.append(name)
                    moved += 1
            finally:
                os.close(directory)
    finally:
        os.close(top)


def disk_use(tree: Path) -> int:
    """Bytes in the files below *tree*; hard links count once, links are not followed."""
    total, seen = 0, set()
    stack = [str(tree)]
    while stack:
        try:
            entries = list(os.scandir(stack.pop()))
        except OSError:
            continue
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            elif status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_size
    return total
