"""Lab 04, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

Each function stands in for the one of the same name in minidock/kernel/overlay.py. Mount through the door to
the kernel, `syscalls`, as the library does: your steps then show up in `minidock run --explain`.

    syscalls.mount(source, target, fstype, flags, data)     source and fstype may be None
    OPAQUE                                                  "trusted.overlay.opaque", an attribute
    Change(kind, path)                                      a line of `minidock diff`: Change("A", "/etc/new")
"""

import os
import stat

from minidock.kernel import syscalls
from minidock.kernel.overlay import OPAQUE, Change
from minidock.kernel.syscalls import MS_BIND, MS_RDONLY, MS_REMOUNT


def mount_overlay(lower, target, upper=None, work=None):
    """Task 1. Mount a union filesystem at target.

    lower: list of directories, read-only, the topmost first. One to 127 of them; their names are long.
    upper: the directory that takes every change; None makes the result read-only.
    work:  an empty directory beside upper, which the kernel needs.

    The options redirect_dir=off and metacopy=off belong to every mount that has an upper directory: else
    the kernel may keep only a note "this was renamed" there, and a layer made from it would lack the files.
    The kernel refuses an overlay of one layer alone: there is nothing to unite. Find another way to show it
    read-only.
    """
    if upper is None and len(lower) == 1:
        syscalls.mount(lower[0], target, flags=MS_BIND)
        syscalls.mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
        return
    # mount(2) takes one page of options: name each directory by a short path, through an open descriptor.
    directories = [*lower, upper, work] if upper else lower
    opened = [os.open(directory, os.O_PATH | os.O_CLOEXEC) for directory in directories]
    try:
        names = [f"/proc/self/fd/{descriptor}" for descriptor in opened]
        options = "lowerdir=" + ":".join(names[: len(lower)])
        if upper:
            options += f",upperdir={names[-2]},workdir={names[-1]}"
            options += ",redirect_dir=off,metacopy=off"
        syscalls.mount("overlay", target, "overlay", 0, options)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def is_whiteout(path):
    """Task 2. True when path is a whiteout: a character device with the number 0/0. Links are not followed.

    False for anything else, also when there is nothing at path.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(directory):
    """Task 2. True when the attribute OPAQUE of the directory is b"y": it hides what lies below it."""
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError:  # it has no such attribute
        return False


def lookup(layers, name):
    """Task 3. Look up one name as the union filesystem does. Returns (status, layer, directories).

    layers: directories that are stacked, the topmost first. name: one name in them, without a slash.
    status: os.lstat() of what shows there; None when nothing does.
    layer: the one of layers in which it stands; None when nothing shows.
    directories: when it is a directory, all those that are merged, topmost first; else an empty list.
    """
    status, layer, directories = None, None, []
    for each in layers:
        try:
            found = os.lstat(each / name)
        except FileNotFoundError:
            continue
        if is_whiteout(each / name):
            break
        if status is None:
            status, layer = found, each
        if not stat.S_ISDIR(found.st_mode) or not stat.S_ISDIR(status.st_mode):
            break
        directories.append(each / name)
        if is_opaque(each / name):
            break
    return status, layer, directories


def diff(upper, lower):
    """Task 4. What changed: a list of Change(kind, path), sorted, a directory before its content.

    upper: the directory that took the changes. lower: the layers below it, topmost first.
    kind: "A" added, "D" deleted, "C" changed. path begins with "/".

    A file in upper that exists below was changed. A directory was changed when its mode, owner, group or time
    (st_mtime_ns) differ, or when something in it was added, deleted or changed.
    A deleted directory is one line. What an opaque directory hides was deleted.
    """
    changes = {}
    _collect(upper, lower, "", changes)
    for path in list(changes):
        while (path := os.path.dirname(path)) != "/":
            changes.setdefault(path, "C")
    return [Change(changes[path], path) for path in sorted(changes, key=lambda path: path.split("/"))]


def _collect(upper, below, at, changes):
    names = os.listdir(upper)
    if is_opaque(upper):
        hidden = {name for layer in below for name in os.listdir(layer)} - set(names)
        changes.update({f"{at}/{name}": "D" for name in hidden if lookup(below, name)[0]})
    for name in names:
        path, new = f"{at}/{name}", os.lstat(upper / name)
        old, _, directories = lookup(below, name)
        if is_whiteout(upper / name):
            if old:
                changes[path] = "D"
        elif not old:
            changes[path] = "A"
        elif not stat.S_ISDIR(new.st_mode) or _facts(new) != _facts(old):
            changes[path] = "C"
        if stat.S_ISDIR(new.st_mode):
            _collect(upper / name, directories, path, changes)


def _facts(status):
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
