"""``RUN --mount``: what a command may use and the image shall not keep. And its heredoc, if it is a script.

Two moments: :func:`plan` finds out what is asked for, and a digest of the files in it, for the cache.
:func:`prepared` makes it ready, on a miss only. Files from the context or from a stage are copied to a
scratch directory, without what .dockerignore names, and that is mounted: so the command may write there
if it asks to, and no one sees it. Afterwards :func:`forget` takes the mount points out of the layer.

Source: Dockerfile reference, "RUN --mount", "Here-documents".
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from minidock import files
from minidock.build import copy
from minidock.build.context import Context
from minidock.build.copy import Plan
from minidock.build.instructions import Copy, Run, RunMount
from minidock.build.view import View
from minidock.containers.spec import Mount
from minidock.errors import InvalidInput
from minidock.kernel import overlay

_SCRIPTS = "/dev/pipes"  # where BuildKit puts a heredoc that begins with #!
# A stage's name, an image's, or "" for the context → its files.
FilesOf = Callable[[str], View | Context]


@dataclass(frozen=True, slots=True)
class Planned:
    """The mounts of one RUN. *content* is a digest of the files that they bring, "" when none does."""

    mounts: tuple[tuple[RunMount, Plan | None], ...]
    script: str = ""
    content: str = ""
    files: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Ready:
    """What the container gets: mounts, variables, and the points that forget() must take away."""

    mounts: list[Mount] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)


def plan(instruction: Run, files_of: FilesOf, script: str) -> Planned:
    """Look at the files that the mounts of *instruction* bring. *script* is a heredoc to be executed.

    Raises InvalidInput for a file that is missing, or a mount without a target.
    """
    planned = []
    digest = hashlib.sha256()
    found: dict[str, str] = {}
    for mount in instruction.mounts:
        if not mount.target and not mount.env:
            raise InvalidInput(f"RUN --mount: {mount.kind} mount target is required")
        each = None
        if mount.kind == "bind" or mount.from_stage:
            node = instruction.node
            wanted = Copy(node, (mount.source or ".",), "/files", mount.from_stage, link=True)
            each = copy.plan(wanted, files_of(mount.from_stage), "/", View([]))
            digest.update(each.digest.encode())
            found |= each.files
        planned.append((mount, each))
    content = f"sha256:{digest.hexdigest()}" if found or any(each for _, each in planned) else ""
    return Planned(tuple(planned), script, content, found)


@contextmanager
def prepared(
    planned: Planned, workdir: str, scratch: Path, caches: Path, secrets: dict[str, bytes]
) -> Iterator[Ready]:
    """Make the mounts ready; when the block ends they are gone, but for the content of caches.

    *scratch* is an empty directory, *caches* where caches live on. Raises NotFound for a secret that was
    not given and is required.
    """
    ready = Ready()
    with ExitStack() as stack:
        stack.callback(files.remove_tree, scratch)
        scratch.mkdir(mode=0o711)
        for number, (mount, files_plan) in enumerate(planned.mounts):
            own = scratch / str(number)
            own.mkdir(mode=0o711)
            if files_plan is not None:
                files_plan.write(own)
            target = posixpath.normpath(posixpath.join("/", workdir, mount.target))
            if mount.kind == "tmpfs":
                size = [f"size={mount.size}"] if mount.size else []
                ready.mounts.append(Mount("tmpfs", "", target, options=["exec", *size]))
            elif mount.kind == "secret":
                if not _secret(mount, target, own, secrets, ready):
                    continue
            elif mount.kind == "cache":
                source = stack.enter_context(_cache(mount, target, caches, own / "files"))
                ready.mounts.append(_bind(source, target, mount.read_only))
            else:
                ready.mounts.append(_bind(own / "files", target, mount.read_only))
            if mount.target:
                ready.points.append(target)
        if planned.script:
            file = scratch / "script"
            file.write_text(planned.script, errors="surrogateescape")
            file.chmod(0o755)
            ready.mounts.append(_bind(file, f"{_SCRIPTS}/script", True))
        yield ready


def script_path() -> str:
    """Where the heredoc that is a script stands in the container."""
    return f"{_SCRIPTS}/script"


def _bind(source: Path, target: str, read_only: bool) -> Mount:
    return Mount("bind", str(source), target, read_only=read_only, mapped=True)


def _secret(mount: RunMount, target: str, own: Path, secrets: dict[str, bytes], ready: Ready) -> bool:
    """Show a secret as a file, a variable, or both; whether there is a file."""
    if mount.identifier not in secrets:
        if mount.required:
            raise InvalidInput(
                f"secret {mount.identifier} was not given, and RUN requires it",
                hint=f"minidock build --secret id={mount.identifier},src=FILE …",
            )
        return False
    value = secrets[mount.identifier]
    if mount.env:
        ready.environment.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
    if not mount.target:
        return False
    path = own / "secret"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(value)
        os.fchown(descriptor, mount.uid or 0, mount.gid or 0)
        os.fchmod(descriptor, 0o400 if mount.mode is None else mount.mode)
    ready.mounts.append(_bind(path, target, True))
    return True


@contextmanager
def _cache(mount: RunMount, target: str, caches: Path, first: Path) -> Iterator[Path]:
    """A directory that outlives the build, found again by its id. *first*: what a new one begins with.

    ``locked`` lets one RUN after the other use it; ``private`` gives each that comes at the same time one
    of its own.
    """
    name = hashlib.sha256((mount.identifier or target).encode(errors="surrogateescape")).hexdigest()
    files.make_private(caches.parent)
    caches.mkdir(exist_ok=True, mode=0o711)
    with ExitStack() as stack:
        for copy_number in range(10_000):
            path = caches / f"{name}-{copy_number}"
            lock = files.lock(
                path.with_suffix(".lock"), shared=mount.sharing == "shared", wait=mount.sharing != "private"
            )
            try:
                stack.enter_context(lock)
                break
            except BlockingIOError:
                continue
        with suppress(FileExistsError):
            path.mkdir()
            if first.is_dir():
                path.rmdir()
                os.rename(first, path)
            os.chown(path, mount.uid or 0, mount.gid or 0)
            path.chmod(0o755 if mount.mode is None else mount.mode)
        yield path


# --- what must not get into the layer ------------------------------------------------------------


def forget(upper: Path, points: Sequence[str], volumes: Sequence[str], below: View) -> None:
    """Take out of a container's changes what is not the image's.

    *points*: mount points that had to be made. *volumes*: what VOLUME names; as in Docker's classic
    builder a container has a volume there, and what it writes goes with it.
    """
    for path in (*points, *volumes):
        name = below.resolve(path)
        here = upper / name
        if not name or not os.path.lexists(here):
            continue
        is_new = below.find(name) is None
        if is_new and path in volumes and here.is_dir() and not here.is_symlink():
            for child in here.iterdir():
                _remove(child)
            continue
        if is_new or path in volumes:
            _remove(here)
            _forget_parents(upper, name, below)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    else:
        path.unlink()


def _forget_parents(upper: Path, name: str, below: View) -> None:
    """Remove the directories that are in *upper* only because something was made or removed in them."""
    while name := posixpath.dirname(name):
        here = upper / name
        if not here.is_dir() or os.listdir(here) or overlay.is_opaque(here):
            return
        there = below.find(name)
        if there is not None and _looks(there.status) != _looks(here.stat()):
            return
        here.rmdir()


def _looks(status: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
