"""Lab 03: cgroups. Write these functions; minidock then limits containers with them.

Each function stands in for the one of the same name in minidock/kernel/cgroups.py. Use the door to the
kernel, `syscalls`, as the library does: your steps then show up in `minidock run --explain`.

    syscalls.mkdir(path), syscalls.rmdir(path)       errors are KernelError; error.errno_name is "EBUSY", …
    syscalls.write_file(path, text)                  one write(2)
    syscalls.read_file(path)                         the whole file as text

Everywhere, places is a dictionary: controller → this cgroup's directory in that controller's tree. With
cgroup v2 it is the same directory for all; with v1 each controller has a tree of its own.
A deadline is a time on the clock time.monotonic(), in seconds.
"""

import os
import signal
import time

from minidock.errors import KernelError, MinidockError
from minidock.kernel import syscalls
from minidock.kernel.cgroup_tree import hierarchies, keyed, processes

# hierarchies()     ("v1" or "v2", {controller: the top of its tree})
# processes(path)   the pids in the cgroup at path and below it
# keyed(text)       {"key": number} from a file with lines "key number"


def create(parent, name):
    """Task 1. Make the cgroup parent/name (parent, too, if it is missing); returns its places.

    It may exist already. With v1, leave out the controller cpuset: an empty one takes no process.
    With v2, each level above must hand the controllers down: "+cpu +memory +pids" into its
    cgroup.subtree_control.
    """
    raise NotImplementedError("task 1")


def remove(places, deadline):
    """Task 1. Remove the directories. Gone already is fine.

    A cgroup is busy (EBUSY) while a process is in it: try again until the deadline, then let the
    error out.
    """
    raise NotImplementedError("task 1")


def limit(places, settings):
    """Task 2. Write the settings: a list of (controller, file, text)."""
    raise NotImplementedError("task 2")


def attach(places, pid):
    """Task 2. Move the process pid into every directory of places."""
    raise NotImplementedError("task 2")


def enter(places):
    """Task 2. Move this process itself in. For the kernel, 0 is whoever writes."""
    raise NotImplementedError("task 2")


def freeze(places, deadline):
    """Task 3. Stop all processes, and return when they stand.

    v1: write FROZEN into freezer.state until the file says so itself.
    v2: write 1 into cgroup.freeze; cgroup.events says "frozen 1" when all stand.
    If they do not stand at the deadline, let them run on (thaw) and raise MinidockError.
    """
    raise NotImplementedError("task 3")


def thaw(places):
    """Task 3. Let all processes run on: THAWED into freezer.state (v1), 0 into cgroup.freeze (v2)."""
    raise NotImplementedError("task 3")


def kill_all(places, deadline):
    """Task 4. Kill every process in the cgroup, and return when none is left.

    Also frozen ones, and those that fork while you kill. MinidockError if some live at the deadline.
    """
    raise NotImplementedError("task 4")


def memory_in_use(places):
    """Task 5. The bytes in use without idle page cache, never below 0. None without a memory controller.

    v1: memory.usage_in_bytes, minus total_inactive_file of memory.stat.
    v2: memory.current, minus inactive_file of memory.stat.
    """
    raise NotImplementedError("task 5")


def oom_kills(places):
    """Task 5. How many processes the kernel killed for want of memory. 0 without a memory controller.

    The number oom_kill in memory.oom_control (v1) or memory.events (v2).
    """
    raise NotImplementedError("task 5")
