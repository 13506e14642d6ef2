"""Lab 01, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

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
    flag = MS_SLAVE if propagation == "rslave" else MS_PRIVATE
    syscalls.mount(None, "/", flags=flag | MS_REC)


def pivot_into(new_root):
    """Task 2. Make the directory new_root the root of this mount namespace and drop the old root.

    new_root is an ordinary directory, not yet a mount point.
    Afterwards the working directory is "/", and no path leads to the old root.
    """
    syscalls.mount(new_root, new_root, flags=MS_BIND | MS_REC)  # pivot_root wants a mount point
    syscalls.chdir(new_root)
    syscalls.pivot_root(".", ".")  # the old root now lies on top of the new one
    syscalls.umount(".", MNT_DETACH)
    syscalls.chdir("/")


def mount_proc(target):
    """Task 3. Mount the proc filesystem at target: no set-uid programs, no programs, no devices."""
    syscalls.mount("proc", target, "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV)


def mount_sys(target, *, read_only=True):
    """Task 3. Mount the sysfs filesystem at target, with the same flags, and read-only if asked for."""
    flags = MS_NOSUID | MS_NOEXEC | MS_NODEV
    if read_only:
        flags |= MS_RDONLY
    syscalls.mount("sysfs", target, "sysfs", flags)


def make_read_only(paths):
    """Task 4. Make each path (file or directory) read-only. Its other mount flags stay.

    A path that does not exist is skipped.
    """
    for path in paths:
        if not os.path.exists(path):
            continue
        kept = os.statvfs(path).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        syscalls.mount(path, path, flags=MS_BIND | MS_REC)
        syscalls.mount(None, path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def mask(paths):
    """Task 4. Hide each path: a file becomes empty, a directory empty and read-only.

    A path that does not exist is skipped.
    """
    for path in paths:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY)
        elif os.path.exists(path):
            syscalls.mount("/dev/null", path, flags=MS_BIND)
