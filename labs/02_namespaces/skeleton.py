"""Lab 02: namespaces. Write these functions; minidock then starts containers with them.

Each function stands in for the one of the same name in minidock/kernel/namespaces.py. Use the door to the
kernel, `syscalls`, as the library does: your steps then show up in `minidock run --explain`.

    syscalls.unshare(flags)                 new namespaces for this process
    syscalls.setns(descriptor, flags)       enter namespaces that exist
    syscalls.pidfd_open(pid)                a descriptor that stands for a process
    syscalls.write_file(path, text)         one write(2)
    syscalls.sethostname(name), syscalls.setdomainname(name)
"""

import os
import signal
from pathlib import Path

from minidock.errors import InvalidInput, NotFound
from minidock.kernel import syscalls

KINDS = {
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "net": syscalls.CLONE_NEWNET,
    "user": syscalls.CLONE_NEWUSER,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "time": syscalls.CLONE_NEWTIME,
}


def flags(kinds):
    """Task 1. The flags of several kinds as one number: {"mnt", "pid"} gives CLONE_NEWNS | CLONE_NEWPID.

    0 for no kinds. Raises InvalidInput for a kind that is not in KINDS.
    """
    raise NotImplementedError("task 1")


def create(kinds):
    """Task 1. Put this process into new namespaces of these kinds, and of no others."""
    raise NotImplementedError("task 1")


def set_hostname(name, domain=""):
    """Task 1. Set the host name of this UTS namespace, and its domain name when there is one."""
    raise NotImplementedError("task 1")


def identify(pid="self"):
    """Task 2. The namespaces of process pid: {"mnt": 4026531841, "pid": 4026531836, …}, kind → inode number.

    A kind that this kernel lacks (no file) is left out. Raises NotFound when there is no such process.
    """
    raise NotImplementedError("task 2")


def join(target, kinds):
    """Task 3. Enter namespaces that exist already.

    target is a pid: enter those namespaces of that process that are in kinds, with one setns(2) on a
                     pidfd; leave out those that this process is in already.
    target is a Path: one namespace file; kinds names its one kind.
    No descriptor stays open.
    """
    raise NotImplementedError("task 3")


def write_id_map(pid, uid_map, gid_map, *, deny_setgroups=None):
    """Task 4. Say which users outside the users in the new user namespace of process pid are.

    uid_map, gid_map: lists of ranges; each range is (inside, outside, length), and str(range) is the line
                      that the kernel wants. All lines of a map go into the file in one write.
    deny_setgroups:   write "deny" into /proc/PID/setgroups before the gid_map.
                      None means: only when this process is not root.
    """
    raise NotImplementedError("task 4")


def supervise(main):
    """Task 5. Be process 1 of a container for its program, the child with the pid main.

    Pass the signals HUP, INT, QUIT, TERM, USR1 and USR2 on to it, and bury every other process that ends.
    When main has ended, return its exit code as a shell tells it: 128 + n after signal n.
    """
    raise NotImplementedError("task 5")


_ASKING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)  # signals that ask a program to end
