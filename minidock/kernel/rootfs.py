"""A root filesystem of its own: chroot, pivot_root, and what a program expects in /proc, /sys and /dev.

Lesson 01. The order in a container's first process: :func:`isolate_mounts`, the container's filesystem
mounted, :func:`mount_system`, :func:`pivot_into`, :func:`make_read_only`, :func:`mask`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.errors import InvalidInput, KernelError
from minidock.kernel import syscalls
from minidock.kernel.mounts import MountPoint as MountPoint
from minidock.kernel.mounts import mountinfo as mountinfo
from minidock.kernel.paths import inside as inside
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
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
)

# What Docker hides and protects: kernel files that are not divided by namespaces.
# Source: moby, daemon/pkg/oci/defaults.go (28.x), and thermal_throttle of each processor.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    *(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(os.cpu_count() or 1)),
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_PROPAGATION = {
    "private": MS_PRIVATE,
    "slave": MS_SLAVE,
    "shared": MS_SHARED,
    "unbindable": MS_UNBINDABLE,
}


# --- the root directory --------------------------------------------------------------------------


@trace.mechanism(lesson=1)
def isolate_mounts(propagation: str = "rprivate") -> None:
    """Keep our mounts to ourselves: a new mount namespace still shares mount events with the host.

    *propagation* is that of the whole tree from now on: private, slave (the host's new mounts still
    arrive here), shared (both ways), each with a leading ``r`` for all mounts below as well.
    Call it in a new mount namespace and nowhere else: on the host it would cut the host's own sharing.
    """
    flag = _PROPAGATION.get(propagation.removeprefix("r"))
    if flag is None:
        raise InvalidInput(f"propagation {propagation!r}: not one of private, slave, shared (or rprivate, …)")
    syscalls.mount(None, "/", flags=flag | (MS_REC if propagation.startswith("r") else 0))


@trace.mechanism(lesson=1)
def enter_chroot(root: Path) -> None:
    """Let path lookups start at another directory: the oldest way, and root can walk out of it again.

    A container uses :func:`pivot_into`. Raises KernelError. Source: chroot(2).
    """
    syscalls.chroot(root)
    syscalls.chdir("/")  # else the working directory stays outside, and "../.." leads to the host


@trace.mechanism(lesson=1)
def pivot_into(new_root: Path) -> None:
    """Make the container's filesystem the root of this mount namespace and drop the host's.

    Unlike after chroot(2), nothing of the old root stays reachable. The caller must be alone in a mount
    namespace of its own, see :func:`isolate_mounts`.

    Raises KernelError: EINVAL when *new_root* lies on a shared mount. Source: pivot_root(2).
    """
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # pivot_root refuses a plain directory: give it a mount point of its own.
        syscalls.mount(new_root, new_root, flags=MS_BIND | MS_REC)
        syscalls.chdir(new_root)
        syscalls.pivot_root(".", ".")  # the host's root now lies stacked on "/", above ours
        os.fchdir(host)
        # Were a mount here still shared with the host, the umount would reach the host as well.
        syscalls.mount(None, ".", flags=MS_SLAVE | MS_REC)
        syscalls.umount(".", MNT_DETACH)  # from here no path leads to the host
    finally:
        os.close(host)
    syscalls.chdir("/")


@trace.mechanism(lesson=1)
def mask(paths: Iterable[str | Path] = MASKED_PATHS) -> None:
    """Hide kernel files that namespaces do not divide, so that a container cannot read the host from them.

    A file is covered by /dev/null, a directory by an empty read-only tmpfs; what does not exist is
    skipped. Call it inside the new root.
    """
    for path in paths:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
        elif os.path.lexists(path):
            syscalls.mount("/dev/null", path, flags=MS_BIND)


@trace.mechanism(lesson=1)
def make_read_only(paths: Iterable[str | Path] = READONLY_PATHS) -> None:
    """Protect kernel settings: writing to /proc/sys in a container would change the host.

    Works for any directory or file, also for ``/`` (``--read-only``); what does not exist is skipped.
    """
    for path in paths:
        if not os.path.lexists(path):
            continue
        if not os.path.ismount(path):
            syscalls.mount(path, path, flags=MS_BIND | MS_REC)
        # The first mount(2) ignores all flags but MS_REC; a remount must repeat those already set.
        kept = os.statvfs(path).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        syscalls.mount(None, path, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


# --- /proc, /sys and /dev ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to make: *path* as the container sees it, *kind* ``c`` or ``b``."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    host_path: str = ""  # where the host has it; empty: at the same path


DEVICES = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/random", "c", 1, 8),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/tty", "c", 5, 0),
)
_DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


def mount_system(
    root: Path,
    *,
    shm_size: int = 64 << 20,
    privileged: bool = False,
    own_ipc: bool = True,
    own_cgroup: bool = True,
    shm: Path | None = None,
    devices: Iterable[Device] = DEVICES,
) -> None:
    """Mount what programs expect below *root*: /proc, /sys, /dev and the filesystems in them.

    *shm_size* in bytes. *privileged* gives a writable /sys and every device of the host. Without
    *own_ipc* the /dev/shm and /dev/mqueue of the caller are shared; *shm* is another container's
    /dev/shm. Without *own_cgroup* (no cgroup namespace of its own) the container's own subtree is bound.
    Call it in the container's namespaces, before :func:`pivot_into`.
    """
    mount_proc(inside(root, "/proc"))
    mount_dev(inside(root, "/dev"))
    make_devices(root, [*devices, *(host_devices() if privileged else ())])
    mount_sys(inside(root, "/sys"), read_only=not privileged)
    mount_cgroups(inside(root, "/sys/fs/cgroup"), read_only=not privileged, own_cgroup=own_cgroup)
    mount_ipc(root, shm_size=shm_size, share=None if own_ipc else shm or Path("/dev/shm"))


@trace.mechanism(lesson=1)
def mount_proc(target: Path) -> None:
    """Show the processes of this pid namespace: without a /proc of its own, ps would list the host's."""
    _mount_or_bind("proc", "/proc", target, MS_NOSUID | MS_NOEXEC | MS_NODEV)


@trace.mechanism(lesson=1)
def mount_sys(target: Path, *, read_only: bool = True) -> None:
    """Show the kernel's view of the hardware, read-only: it is the host's hardware."""
    flags = MS_NOSUID | MS_NOEXEC | MS_NODEV | (MS_RDONLY if read_only else 0)
    _mount_or_bind("sysfs", "/sys", target, flags)


def _mount_or_bind(fstype: str, host_path: str, target: Path, flags: int) -> None:
    """Mount *fstype*, or bind the host's where a user namespace may not."""
    try:
        syscalls.mount(fstype, target, fstype, flags)
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        _bind(host_path, target, flags)


def _bind(source: str, target: Path, flags: int) -> None:
    syscalls.mount(source, target, flags=MS_BIND | MS_REC)
    syscalls.mount(None, target, flags=MS_BIND | MS_REMOUNT | flags)


@trace.mechanism(lesson=1)
def mount_dev(target: Path) -> None:
    """Give the container an empty /dev with terminals of its own: the host's would hand it the disks."""
    syscalls.mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k")
    terminals = target / "pts"
    terminals.mkdir()
    options, flags = "newinstance,ptmxmode=0666,mode=0620", MS_NOSUID | MS_NOEXEC
    try:
        syscalls.mount("devpts", terminals, "devpts", flags, f"{options},gid=5")
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount("devpts", terminals, "devpts", flags, options)  # a user namespace without group 5
    for name, points_to in _DEVICE_LINKS.items():
        syscalls.symlink(points_to, target / name)
    if os.path.exists("/proc/kcore"):  # not every kernel has it
        syscalls.symlink("/proc/kcore", target / "core")


@trace.mechanism(lesson=1)
def make_devices(root: Path, devices: Iterable[Device] = DEVICES) -> None:
    """Make the few devices that any program may use: null, zero, full, random, urandom, tty."""
    for device in devices:
        node = inside(root, os.path.dirname(device.path)) / os.path.basename(device.path)
        kind = stat.S_IFBLK if device.kind == "b" else stat.S_IFCHR
        node.unlink(missing_ok=True)
        try:
            syscalls.mknod(node, kind | device.mode, os.makedev(device.major, device.minor))
            os.chown(node, device.uid, device.gid)
            os.chmod(node, device.mode)  # the umask has cut it
        except KernelError as error:
            if error.errno != errno.EPERM:
                raise
            node.touch()  # a user namespace makes no devices: borrow the host's
            syscalls.mount(device.host_path or device.path, node, flags=MS_BIND)


def host_devices() -> list[Device]:
    """Every device node in the host's /dev, as ``--privileged`` shows them (terminals and consoles aside)."""
    found = []
    for place, directories, names in os.walk("/dev"):
        directories[:] = [each for each in directories if each not in ("pts", "shm", "fd", "mqueue", ".lxc")]
        for name in names:
            path = os.path.join(place, name)
            node = os.lstat(path)
            known = name in _DEVICE_LINKS or name == "console" or any(path == each.path for each in DEVICES)
            if known or not (stat.S_ISCHR(node.st_mode) or stat.S_ISBLK(node.st_mode)):
                continue
            kind = "b" if stat.S_ISBLK(node.st_mode) else "c"
            number, mode = node.st_rdev, stat.S_IMODE(node.st_mode)
            found.append(
                Device(path, kind, os.major(number), os.minor(number), mode, node.st_uid, node.st_gid)
            )
    return found


@trace.mechanism(lesson=1)
def mount_ipc(root: Path, *, shm_size: int = 64 << 20, share: Path | None = None) -> None:
    """Give the container shared memory of a limited size and message queues of its own.

    *share* is a /dev/shm to use together with its owner, whose ipc namespace this process is in.
    """
    flags = MS_NOSUID | MS_NOEXEC | MS_NODEV
    shm = inside(root, "/dev/shm")
    if share is None:
        syscalls.mount("shm", shm, "tmpfs", flags, f"mode=1777,size={shm_size}")
    else:
        syscalls.mount(share, shm, flags=MS_BIND)
    syscalls.mount("mqueue", inside(root, "/dev/mqueue"), "mqueue", flags)


@trace.mechanism(lesson=3)
def mount_cgroups(target: Path, *, read_only: bool = True, own_cgroup: bool = True) -> None:
    """Show the container its own cgroup, read-only: a program reads its limits, and cannot lift them.

    cgroup v2 is one mount; v1 is a tmpfs with one directory for each hierarchy of the host. Without
    *own_cgroup* there is no cgroup namespace: the host's mounts are bound, on v1 the own subtree of each.
    """
    flags = MS_NOSUID | MS_NOEXEC | MS_NODEV | (MS_RDONLY if read_only else 0)
    mounts = [each for each in mountinfo() if each.path.startswith("/sys/fs/cgroup")]
    if any(each.path == "/sys/fs/cgroup" and each.fstype == "cgroup2" for each in mounts):
        if own_cgroup:
            syscalls.mount("cgroup2", target, "cgroup2", flags)
        else:  # mounting it anew outside a cgroup namespace would reset the host's options (nsdelegate)
            _bind("/sys/fs/cgroup", target, flags)
        return
    syscalls.mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=755")
    for line in syscalls.read_file("/proc/self/cgroup").splitlines():
        _, controllers, own_path = line.split(":", 2)
        names = controllers.split(",")
        hierarchy = next((each for each in mounts if set(names) <= set(each.super_options)), None)
        if hierarchy is None or hierarchy.fstype != "cgroup":
            continue  # not mounted on this host, or the v2 hierarchy beside v1
        directory = target / os.path.basename(hierarchy.path)
        directory.mkdir()
        if own_cgroup:  # the root of our cgroup namespace is our own cgroup
            syscalls.mount("cgroup", directory, "cgroup", flags, controllers)
        else:
            _bind(hierarchy.path + own_path.removeprefix(hierarchy.root.rstrip("/")), directory, flags)
        for name in names:
            if name != directory.name and "=" not in name:
                syscalls.symlink(directory.name, target / name)  # cpu -> cpu,cpuacct
    if read_only:
        syscalls.mount(None, target, flags=MS_REMOUNT | flags, data="mode=755")
