"""Lab 01: a root of its own. Write these functions; minidock then starts containers with them.

Each function stands in for the one of the same name in minidock/kernel/rootfs.py. Use the door to the
kernel, `syscalls`, as the library does: your steps then show up in `minidock run --explain`.

    syscalls.mount(source, target, fstype, flags, data)     source and fstype may be None
    syscalls.umount(target, flags)
    syscalls.pivot_root(new_root, put_old)
    syscalls.chdir(path)
"""

import os

from minidock.kernel import syscalls
from minidock.kernel.syscalls import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
)


def isolate_mounts(propagation="rprivate"):
    """Task 1. Cut the mounts of this mount namespace off from the host's.

    propagation: "rprivate" (nothing passes in either direction) or
                 "rslave" (new mounts of the host still arrive here).
    The leading "r" means: for all mounts below as well.
    """
    raise NotImplementedError("task 1")


def pivot_into(new_root):
    """Task 2. Make the directory new_root the root of this mount namespace and drop the old root.

    new_root is an ordinary directory, not yet a mount point.
    Afterwards the working directory is "/", and no path leads to the old root.
    """
    raise NotImplementedError("task 2")


def mount_proc(target):
    """Task 3. Mount the proc filesystem at target: no set-uid programs, no programs, no devices."""
    raise NotImplementedError("task 3")


def mount_sys(target, *, read_only=True):
    """Task 3. Mount the sysfs filesystem at target, with the same flags, and read-only if asked for."""
    raise NotImplementedError("task 3")


def make_read_only(paths):
    """Task 4. Make each path (file or directory) read-only. Its other mount flags stay.

    A path that does not exist is skipped.
    """
    raise NotImplementedError("task 4")


def mask(paths):
    """Task 4. Hide each path: a file becomes empty, a directory empty and read-only.

    A path that does not exist is skipped.
    """
    raise NotImplementedError("task 4")
