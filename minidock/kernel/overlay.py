"""The union filesystem: read-only layers below, one writable directory above, seen as one tree.

Lesson 04. Reading goes to the topmost layer that has the file. The first write copies the file up to the
upper directory (copy-on-write). Deleting puts a *whiteout* there: a character device 0/0 that hides what
lies below. A directory made where one was deleted is *opaque*: it hides the whole directory below.
"""

from __future__ import annotations

import os
import stat
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.errors import InvalidInput
from minidock.kernel import syscalls
from minidock.kernel.syscalls import MS_BIND, MS_RDONLY, MS_REMOUNT

MOST_LAYERS = 127  # Docker's limit; the kernel's is 500
OPAQUE = "trusted.overlay.opaque"


@trace.mechanism(lesson=4)
def mount_overlay(
    lower: list[Path], target: Path, upper: Path | None = None, work: Path | None = None
) -> None:
    """Stack the image's layers under one writable directory: containers share the layers and change nothing.

    *lower* lists the layers, top first. *upper* takes all changes; *work* is an empty directory beside
    it, on the same filesystem. Without *upper* the result is read-only. One *upper* must never be in use
    twice: the kernel mounts it without an error and damages it; hold a lock.

    Raises InvalidInput for no or too many layers, KernelError for what the kernel refuses.
    Source: Documentation/filesystems/overlayfs.rst.
    """
    if not 0 < len(lower) <= MOST_LAYERS:
        raise InvalidInput(f"overlay: {len(lower)} layers; an image has between 1 and {MOST_LAYERS}")
    if upper is None and len(lower) == 1:  # the kernel asks for two layers: there is nothing to unite
        syscalls.mount(lower[0], target, flags=MS_BIND)
        syscalls.mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
        return
    if upper is not None and work is None:
        raise InvalidInput("overlay: an upper directory needs a work directory beside it")
    above = [upper, work] if upper is not None and work is not None else []
    options = _options([str(path) for path in lower], [str(path) for path in above])
    if len(os.fsencode(options)) < syscalls.PAGE and not _special("".join(map(str, [*lower, *above]))):
        syscalls.mount("overlay", target, "overlay", 0, options)
        return
    # Too long for the one page that mount(2) takes, or names that would be read as separators:
    # then each directory is named by an open descriptor.
    descriptors = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in [*lower, *above]]
    try:
        names = [f"/proc/self/fd/{descriptor}" for descriptor in descriptors]
        options = _options(names[: len(lower)], names[len(lower) :])
        syscalls.mount("overlay", target, "overlay", 0, options)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _options(lower: list[str], above: list[str]) -> str:
    options = ["lowerdir=" + ":".join(lower)]
    if above:
        options += [f"upperdir={above[0]}", f"workdir={above[1]}"]
        # Both would keep only a reference to the lower file or directory in the upper one: a layer
        # packed from it would lack renamed directories and the contents of files.
        options += [f"{name}=off" for name in ("redirect_dir", "metacopy") if _kernel_knows(name)]
    return ",".join(options)


def _kernel_knows(option: str) -> bool:
    """A module that is not loaded yet shows no parameters; every kernel since 4.19 knows both."""
    module = "/sys/module/overlay"
    return not os.path.exists(module) or os.path.exists(f"{module}/parameters/{option}")


def _special(text: str) -> bool:
    return any(character in text for character in ",:\\")


# --- whiteouts and opaque directories ------------------------------------------------------------


def is_whiteout(path: Path) -> bool:
    """Whether *path* marks a deleted file: a character device with number 0/0."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def make_whiteout(path: Path) -> None:
    """Hide the file of this name in the layers below."""
    syscalls.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def is_opaque(directory: Path) -> bool:
    """Whether *directory* hides the directory of its name in the layers below."""
    try:
        return os.getxattr(directory, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:  # ENODATA: no such attribute
        return False


def make_opaque(directory: Path) -> None:
    """Hide all that the layers below have in the directory of this name."""
    os.setxattr(directory, OPAQUE, b"y", follow_symlinks=False)


# --- what changed --------------------------------------------------------------------------------


class Change(namedtuple("Change", ("kind", "path"))):
    """One line of `docker diff`: *kind* is A (added), C (changed) or D (deleted); *path* is absolute."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


@dataclass(frozen=True, slots=True)
class CopyUp:
    """A file that was copied from a layer to the upper directory, because somebody opened it for writing.

    *size* in bytes is what the copy took. *changed* is ``content`` (size or time of change differ),
    ``metadata`` (mode, owner), or ``nothing``: opened for writing, never written, copied all the same.
    """

    path: str
    layer: Path
    size: int
    changed: str


@dataclass(slots=True)
class _Entry:
    """One name in the upper directory, with what lies below it."""

    path: str
    upper: os.stat_result
    lower: os.stat_result | None
    layer: Path | None  # the directory in which *lower* stands
    below: list[Path]  # lower directories that merge with it
    deleted: bool = False


def diff(upper: Path, lower: list[Path]) -> list[Change]:
    """What a container changed, sorted by path, as `docker diff` shows it.

    *lower* lists the layers of the image, top first. A directory counts as changed when something in it
    is, or its own mode, owner or time. A deleted directory is one line.
    """
    changes: dict[str, str] = {}
    for entry in _walk(upper, lower):
        if entry.deleted:
            kind = "D"
        elif entry.lower is None:
            kind = "A"
        elif stat.S_ISDIR(entry.upper.st_mode) and _same(entry.upper, entry.lower):
            continue  # in the upper directory only for the sake of what is in it
        else:
            kind = "C"
        changes[entry.path] = kind
        parent = os.path.dirname(entry.path)
        while parent != "/" and changes.setdefault(parent, "C"):
            parent = os.path.dirname(parent)
    return [Change(kind, path) for path, kind in sorted(changes.items(), key=lambda each: each[0].split("/"))]


def copy_ups(upper: Path, lower: list[Path]) -> list[CopyUp]:
    """Explain the upper directory: which files were copied up whole, from which layer, and what for."""
    found = []
    for entry in _walk(upper, lower):
        if entry.deleted or entry.lower is None or entry.layer is None:
            continue
        if not stat.S_ISREG(entry.upper.st_mode) or not stat.S_ISREG(entry.lower.st_mode):
            continue
        above, below = entry.upper, entry.lower
        if (above.st_size, above.st_mtime_ns) != (below.st_size, below.st_mtime_ns):
            changed = "content"
        else:
            changed = "nothing" if _same(above, below) else "metadata"
        found.append(CopyUp(entry.path, entry.layer, below.st_size, changed))
    return found


def _same(above: os.stat_result, below: os.stat_result) -> bool:
    """Same type, mode, owner and time; sizes of directories say nothing across filesystems."""
    return (above.st_mode, above.st_uid, above.st_gid, above.st_mtime_ns) == (
        below.st_mode,
        below.st_uid,
        below.st_gid,
        below.st_mtime_ns,
    )


def _walk(upper: Path, below: list[Path], at: str = "") -> Iterator[_Entry]:
    """Every entry of the upper tree beside what the layers have there, parents first.

    What an opaque directory hides comes out as deleted, too.
    """
    names = sorted(os.listdir(upper))
    if is_opaque(upper):
        for name in sorted({name for layer in below for name in os.listdir(layer)} - set(names)):
            hidden, layer, _ = lookup(below, name)
            if hidden is not None:
                yield _Entry(f"{at}/{name}", hidden, hidden, layer, [], deleted=True)
    for name in names:
        found = os.lstat(upper / name)
        lower, layer, directories = lookup(below, name)
        if is_whiteout(upper / name):
            if lower is not None:
                yield _Entry(f"{at}/{name}", found, lower, layer, [], deleted=True)
            continue
        yield _Entry(f"{at}/{name}", found, lower, layer, directories)
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(upper / name, directories, f"{at}/{name}")


def lookup(layers: list[Path], name: str) -> tuple[os.stat_result | None, Path | None, list[Path]]:
    """Look *name* up as the kernel does: the topmost entry, its layer, and the directories that merge.

    *layers* are directories that merge themselves, topmost first. (None, None, []) when nothing shows there.
    """
    top: os.stat_result | None = None
    where: Path | None = None
    directories: list[Path] = []
    for layer in layers:
        try:
            found = os.lstat(layer / name)
        except FileNotFoundError:
            continue
        if is_whiteout(layer / name) or (top is not None and not stat.S_ISDIR(found.st_mode)):
            break
        if top is None:
            top, where = found, layer
        if not stat.S_ISDIR(found.st_mode):
            break
        directories.append(layer / name)
        if is_opaque(layer / name):
            break
    return top, where, directories
