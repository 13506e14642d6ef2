"""Fit a layer onto the layers below it: two things that its archive alone does not tell.

A layer may hold ``usr/bin/tool`` and no entry for ``usr`` or ``usr/bin``. Unpacked alone, its ``usr`` is
root's with mode 0755, and stacked it would hide the mode, owner and attributes of the real one. And a
layer may say that *everything* below is gone (``.wh..wh..opq`` at its top), which overlayfs does not
obey at the root of a layer. Both need to see the layers below, so they are done when those are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from minidock import trace
from minidock.images.directories import FLAGS, Directories
from minidock.images.extract import IMPLIED, IMPLIED_BELOW, OVERLAY_OPAQUE, RESERVED_XATTRS


@trace.mechanism(lesson=5)
def settle(layer: Path, parents: Sequence[Path]) -> None:
    """Make a layer's unlisted directories look as in the layers below, and its root hide what it deletes.

    *parents* are the trees of those layers, topmost first, each settled before; none for an image's first
    layer. Costs one system call where there is nothing to do; doing it twice changes nothing.
    """
    directories = Directories(layer)
    try:
        root = directories.root
        if parents and is_opaque(root):
            _hide_everything(directories, parents)
        mark = _attribute(root, IMPLIED)
        if mark is None:
            return
        for path, hidden in _walk(directories) if mark == IMPLIED_BELOW else [(b"", is_opaque(root))]:
            directory = directories.get(path)
            if _attribute(directory, IMPLIED) is None:
                continue
            if not hidden:
                _inherit(directory, parents, path)
            os.removexattr(directory, IMPLIED)
    finally:
        directories.close()


def is_opaque(directory: int) -> bool:
    """Whether overlayfs shows nothing of the layers below in this directory."""
    return _attribute(directory, OVERLAY_OPAQUE) == b"y"


def _inherit(directory: int, parents: Sequence[Path], path: bytes) -> None:
    origin = _find(parents, path)
    if origin is None:
        return
    try:
        status = os.fstat(origin)
        os.fchown(directory, status.st_uid, status.st_gid)
        os.fchmod(directory, stat.S_IMODE(status.st_mode))
        for key in os.listxattr(origin):
            if not os.fsencode(key).startswith(RESERVED_XATTRS):
                os.setxattr(directory, key, os.getxattr(origin, key))
        os.utime(directory, ns=(status.st_mtime_ns, status.st_mtime_ns))
    finally:
        os.close(origin)


def _find(parents: Sequence[Path], path: bytes) -> int | None:
    """Open the directory that *path* shows below: the topmost one, unless something hides it."""
    for parent in parents:
        at = os.open(parent, FLAGS)
        hides = False
        for name in path.split(b"/") if path else ():
            try:
                below = os.open(name, FLAGS, dir_fd=at)
            except FileNotFoundError:
                os.close(at)
                at = -1
                break
            except NotADirectoryError:  # a file, a link or a whiteout
                os.close(at)
                return None
            os.close(at)
            at = below
            hides = hides or is_opaque(at)
        if at >= 0:
            return at
        if hides:
            return None
    return None


def _walk(directories: Directories) -> Iterator[tuple[bytes, bool]]:
    """Every directory of a layer, parents first, and whether the layer hides what is below it there.

    Not recursive: an archive nests deeper than Python does.
    """
    todo = [(b"", is_opaque(directories.root))]
    while todo:
        path, hidden = todo.pop()
        with os.scandir(directories.get(path)) as children:
            names = [os.fsencode(child.name) for child in children if child.is_dir(follow_symlinks=False)]
        for name in names:
            below = path + b"/" + name if path else name
            todo.append((below, hidden or is_opaque(directories.get(below))))
            directories.trim()
        yield path, hidden
        directories.trim()


def _hide_everything(directories: Directories, parents: Sequence[Path]) -> None:
    """Spell out an opaque root: a whiteout for each name below, opaque directories where both have one."""
    for name in {name for parent in parents for name in os.listdir(os.fsencode(parent))}:
        try:
            mode = os.lstat(name, dir_fd=directories.root).st_mode
        except FileNotFoundError:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=directories.root)
            continue
        if stat.S_ISDIR(mode):
            os.setxattr(directories.get(name), OVERLAY_OPAQUE, b"y")


def _attribute(directory: int, name: str) -> bytes | None:
    try:
        return os.getxattr(directory, name)
    except OSError:  # ENODATA: it has none
        return None
