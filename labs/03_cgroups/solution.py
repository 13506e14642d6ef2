"""Lab 03, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

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
    version, tops = hierarchies()
    places = {}
    for controller, directory in tops.items():
        if version == "v1" and controller == "cpuset":
            continue
        for step in f"{parent}/{name}".split("/"):
            if version == "v2":
                syscalls.write_file(f"{directory}/cgroup.subtree_control", "+cpu +memory +pids")
            directory = f"{directory}/{step}"
            if not os.path.isdir(directory):
                syscalls.mkdir(directory)
        places[controller] = directory
    return places


def remove(places, deadline):
    """Task 1. Remove the directories. Gone already is fine.

    A cgroup is busy (EBUSY) while a process is in it: try again until the deadline, then let the
    error out.
    """
    for directory in set(places.values()):
        while os.path.isdir(directory):
            try:
                syscalls.rmdir(directory)
            except KernelError as error:
                if error.errno_name != "EBUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.001)


def limit(places, settings):
    """Task 2. Write the settings: a list of (controller, file, text)."""
    for controller, file, text in settings:
        syscalls.write_file(f"{places[controller]}/{file}", text)


def attach(places, pid):
    """Task 2. Move the process pid into every directory of places."""
    for directory in set(places.values()):
        syscalls.write_file(f"{directory}/cgroup.procs", str(pid))


def enter(places):
    """Task 2. Move this process itself in. For the kernel, 0 is whoever writes."""
    for directory in set(places.values()):
        syscalls.write_file(f"{directory}/cgroup.procs", "0")


def freeze(places, deadline):
    """Task 3. Stop all processes, and return when they stand.

    v1: write FROZEN into freezer.state until the file says so itself.
    v2: write 1 into cgroup.freeze; cgroup.events says "frozen 1" when all stand.
    If they do not stand at the deadline, let them run on (thaw) and raise MinidockError.
    """
    while not _stand(places["freezer"]):
        if time.monotonic() > deadline:
            thaw(places)
            raise MinidockError("cgroup: the processes did not freeze in time")
        if hierarchies()[0] == "v1":
            syscalls.write_file(f"{places['freezer']}/freezer.state", "FROZEN")
        else:
            syscalls.write_file(f"{places['freezer']}/cgroup.freeze", "1")


def _stand(directory):
    if hierarchies()[0] == "v1":
        return syscalls.read_file(f"{directory}/freezer.state").strip() == "FROZEN"
    return keyed(syscalls.read_file(f"{directory}/cgroup.events"))["frozen"] == 1


def thaw(places):
    """Task 3. Let all processes run on: THAWED into freezer.state (v1), 0 into cgroup.freeze (v2)."""
    if hierarchies()[0] == "v1":
        syscalls.write_file(f"{places['freezer']}/freezer.state", "THAWED")
    else:
        syscalls.write_file(f"{places['freezer']}/cgroup.freeze", "0")


def kill_all(places, deadline):
    """Task 4. Kill every process in the cgroup, and return when none is left.

    Also frozen ones, and those that fork while you kill. MinidockError if some live at the deadline.
    """
    if not places or not os.path.isdir(places["freezer"]):
        return
    while processes(places["freezer"]):
        freeze(places, deadline)  # what stands still cannot fork
        for pid in processes(places["freezer"]):
            os.kill(pid, signal.SIGKILL)
        thaw(places)  # what is frozen does not die
        if time.monotonic() > deadline:
            raise MinidockError("cgroup: some processes do not die")
        time.sleep(0.001)


def memory_in_use(places):
    """Task 5. The bytes in use without idle page cache, never below 0. None without a memory controller.

    v1: memory.usage_in_bytes, minus total_inactive_file of memory.stat.
    v2: memory.current, minus inactive_file of memory.stat.
    """
    if "memory" not in places:
        return None
    v1 = hierarchies()[0] == "v1"
    usage = syscalls.read_file(f"{places['memory']}/{'memory.usage_in_bytes' if v1 else 'memory.current'}")
    statistics = keyed(syscalls.read_file(f"{places['memory']}/memory.stat"))
    return max(int(usage) - statistics["total_inactive_file" if v1 else "inactive_file"], 0)


def oom_kills(places):
    """Task 5. How many processes the kernel killed for want of memory. 0 without a memory controller.

    The number oom_kill in memory.oom_control (v1) or memory.events (v2).
    """
    if "memory" not in places:
        return 0
    file = "memory.oom_control" if hierarchies()[0] == "v1" else "memory.events"
    return keyed(syscalls.read_file(f"{places['memory']}/{file}")).get("oom_kill", 0)
