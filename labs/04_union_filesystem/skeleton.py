"""Lab 04: the union filesystem. Write these functions; minidock then stacks layers with them.

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
    raise NotImplementedError("task 1")


def is_whiteout(path):
    """Task 2. True when path is a whiteout: a character device with the number 0/0. Links are not followed.

    False for anything else, also when there is nothing at path.
    """
    raise NotImplementedError("task 2")


def is_opaque(directory):
    """Task 2. True when the attribute OPAQUE of the directory is b"y": it hides what lies below it."""
    raise NotImplementedError("task 2")


def lookup(layers, name):
    """Task 3. Look up one name as the union filesystem does. Returns (status, layer, directories).

    layers: directories that are stacked, the topmost first. name: one name in them, without a slash.
    status: os.lstat() of what shows there; None when nothing does.
    layer: the one of layers in which it stands; None when nothing shows.
    directories: when it is a directory, all those that are merged, topmost first; else an empty list.
    """
    raise NotImplementedError("task 3")


def diff(upper, lower):
    """Task 4. What changed: a list of Change(kind, path), sorted, a directory before its content.

    upper: the directory that took the changes. lower: the layers below it, topmost first.
    kind: "A" added, "D" deleted, "C" changed. path begins with "/".

    A file in upper that exists below was changed. A directory was changed when its mode, owner, group or time
    (st_mtime_ns) differ, or when something in it was added, deleted or changed.
    A deleted directory is one line. What an opaque directory hides was deleted.
    """
    raise NotImplementedError("task 4")
