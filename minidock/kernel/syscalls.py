"""The calls that make containers, each recorded as a step: everything asked of the kernel stands here.

Python's `os` lacks most of these system calls; `door.py` makes them raw. Every function records a step
(see trace.py) and raises KernelError, whose cause the errno tutor looks up on the live machine. Flags
carry the kernel's names. Several threads may use this module: errno is kept per thread.
"""

# ruff: noqa: F405 (names of the kernel come from constants.py)
from __future__ import annotations

import fcntl
import os
import struct
from typing import Any, NoReturn

from minidock import trace
from minidock.errors import InvalidInput, MinidockError
from minidock.kernel.constants import *  # noqa: F403 (callers write syscalls.MS_BIND)
from minidock.kernel.door import Pathname, address, buffer, encode, fork_by_clone, request, syscall
from minidock.kernel.door import forbid_imports as forbid_imports
from minidock.kernel.door import raise_for as raise_for
from minidock.kernel.privileges import *  # noqa: F403 (and syscalls.capset)
from minidock.kernel.privileges import prctl

PAGE = 4096  # bytes of mount options; the kernel silently cuts what is longer


# --- mounts and the root directory ---------------------------------------------------------------


def mount(
    source: Pathname | None, target: Pathname, fstype: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """mount(2): attach a filesystem, bind a directory, or change a mount.

    Raises InvalidInput when *data* exceeds a memory page: the kernel would silently cut it.
    """
    shown: dict[str, Any] = {"source": os.fspath(source)} if source is not None else {}
    shown["target"] = os.fspath(target)
    if fstype:
        shown["fstype"] = fstype
    if flags:
        shown["flags"] = flag_names("MS_", flags)
    if data:
        shown["data"] = data
    if len(os.fsencode(data)) >= PAGE:
        raise InvalidInput(f"mount {os.fspath(target)}: {len(data)} bytes of options exceed a memory page")
    with request("mount", **shown):
        syscall("mount", source, target, fstype, flags, data or None)


def umount(target: Pathname, flags: int = 0) -> None:
    """umount2(2): detach the mount at *target*."""
    shown = {"flags": flag_names("MNT_", flags)} if flags else {}
    with request("umount", target=os.fspath(target), **shown):
        syscall("umount2", target, flags)


def pivot_root(new_root: Pathname, put_old: Pathname) -> None:
    """pivot_root(2): make *new_root* the root of this mount namespace and put the old one at *put_old*."""
    forbid_imports()
    with request("pivot_root", new_root=os.fspath(new_root), put_old=os.fspath(put_old)):
        syscall("pivot_root", new_root, put_old)


def chroot(path: Pathname) -> None:
    """chroot(2): start this process's path lookups at *path*. Not a border: see lesson 01."""
    forbid_imports()
    with request("chroot", path=os.fspath(path)):
        os.chroot(path)


def chdir(path: Pathname) -> None:
    """chdir(2): move the working directory."""
    with request("chdir", path=os.fspath(path)):
        os.chdir(path)


def mknod(path: Pathname, mode: int, device: int = 0) -> None:
    """mknod(2): make a device node, socket or fifo; the umask applies to *mode*."""
    shown = {"path": os.fspath(path), "mode": oct(mode), "device": f"{os.major(device)}:{os.minor(device)}"}
    with request("mknod", **shown):
        os.mknod(path, mode, device)


def symlink(target: Pathname, link: Pathname) -> None:
    """symlink(2): make *link* point to *target*."""
    with request("symlink", target=os.fspath(target), link=os.fspath(link)):
        os.symlink(target, link)


def open_tree(directory: int, path: Pathname, flags: int) -> int:
    """open_tree(2): a descriptor for a mount, with OPEN_TREE_CLONE for a detached copy of it."""
    with request("open_tree", path=os.fspath(path), flags=flag_names("OPEN_TREE_", flags)) as taken:
        descriptor = syscall("open_tree", directory, path, flags)
        taken.result = f"descriptor {descriptor}"
    return descriptor


def move_mount(from_directory: int, from_path: str, to_directory: int, to_path: str, flags: int) -> None:
    """move_mount(2): attach the mount behind a descriptor (MOVE_MOUNT_F_EMPTY_PATH) at a path."""
    shown = {"from_path": from_path, "to_path": to_path, "flags": flag_names("MOVE_MOUNT_", flags)}
    with request("move_mount", **shown):
        syscall("move_mount", from_directory, from_path, to_directory, to_path, flags)


def mount_setattr(
    directory: int,
    path: Pathname,
    flags: int,
    *,
    attributes: int = 0,
    clear: int = 0,
    propagation: int = 0,
    user_namespace: int = 0,
) -> None:
    """mount_setattr(2): change a mount (AT_RECURSIVE: a tree); *user_namespace* is the fd of an id map."""
    wanted = struct.pack("QQQQ", attributes, clear, propagation, user_namespace)
    shown = {"path": os.fspath(path), "attributes": flag_names("MOUNT_ATTR_", attributes)}
    if propagation:
        shown["propagation"] = flag_names("MS_", propagation)
    with request("mount_setattr", **shown):
        syscall("mount_setattr", directory, path, flags, wanted, len(wanted))


# --- namespaces and processes --------------------------------------------------------------------


def unshare(flags: int) -> None:
    """unshare(2): give the calling thread new namespaces (CLONE_NEWPID: its children)."""
    with request("unshare", flags=flag_names("CLONE_", flags)):
        syscall("unshare", flags)


def setns(descriptor: int, nstype: int = 0) -> None:
    """setns(2): join the namespace behind *descriptor* (a /proc/PID/ns file or a pidfd)."""
    with request("setns", descriptor=descriptor, nstype=flag_names("CLONE_", nstype)):
        syscall("setns", descriptor, nstype)


def clone(flags: int) -> int:
    """clone(2) used as a fork that makes namespaces: 0 in the child, the child's pid in the parent.

    One call replaces unshare + fork, and the child *is* process 1 of its new pid namespace. SIGCHLD is
    added to *flags*. Raises MinidockError in a process with several threads: the child would hold only
    one of them, and perhaps locks that the others had taken.
    """
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise MinidockError(f"clone: this process has {threads} threads, a container needs a parent with one")
    recorder = trace.current()
    if recorder is not None:
        recorder.flush()  # else the child would write its copy of our steps, too
    with request("clone", flags=flag_names("CLONE_", flags)) as taken:
        pid = fork_by_clone(flags)
        taken.result = f"process {pid}"
    if pid == 0 and recorder is not None:
        recorder.steps.pop()  # the parent tells this step
    return pid


def execve(path: str | int, argv: list[str], environment: list[str]) -> NoReturn:
    """execve(2): become the program at *path* (or behind a descriptor). Does not return.

    *environment* holds ``"NAME=value"`` entries; the trace gets their names only. The trace is
    written out before the call: afterwards there is no Python left to write it.
    """
    shown = {"path": path, "argv": argv, "environment": trace.redact(environment)}
    with trace.step("execve", **shown) as taken:
        taken.result = "the program takes over"
    recorder = trace.current()
    if recorder is not None:
        recorder.flush()
    with request("execve", **shown):  # a second step is recorded only where this one fails
        os.execve(path, argv, dict(entry.partition("=")[::2] for entry in environment))


def kill(pid: int, signal: int) -> None:
    """kill(2): send *signal* to a process, a group (negative) or everyone (-1)."""
    with request("kill", pid=pid, signal=int(signal)):
        os.kill(pid, signal)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2): a descriptor that means this process and never a later one with its pid."""
    with request("pidfd_open", pid=pid) as taken:
        descriptor = syscall("pidfd_open", pid, 0)
        taken.result = f"descriptor {descriptor}"
    return descriptor


def pidfd_send_signal(descriptor: int, signal: int) -> None:
    """pidfd_send_signal(2): like kill, without the race against a reused pid."""
    with request("pidfd_send_signal", descriptor=descriptor, signal=int(signal)):
        syscall("pidfd_send_signal", descriptor, int(signal), None, 0)


def set_parent_death_signal(signal: int, parent: int | None = None) -> None:
    """Ask for *signal* when the parent thread dies; a change of user ids cancels it, so ask after that.

    A parent that died before this call sends nothing. Pass *parent*, a pidfd of it opened before the
    fork (getppid() answers 0 in a new pid namespace, dead or alive), to close that gap: if the parent
    is gone the signal is sent here, and MinidockError raised in who survives it. Process 1 of a pid
    namespace does: it ignores even SIGKILL from inside.
    """
    prctl("PR_SET_PDEATHSIG", int(signal))
    if parent is not None and _has_ended(parent):
        kill(os.getpid(), signal)
        raise MinidockError("the process that started this one has ended")


def _has_ended(pidfd: int) -> bool:
    """Whether the process behind *pidfd* ended: its descriptor is then readable (pidfd_open(2))."""
    readable = struct.pack("ihh", pidfd, 1, 0)  # struct pollfd with POLLIN
    return syscall("ppoll", buffer(readable), 1, bytes(16), None, 0) > 0


def sethostname(name: str) -> None:
    """sethostname(2): name this UTS namespace."""
    with request("sethostname", name=name):
        syscall("sethostname", name, len(encode(name)))


def setdomainname(name: str) -> None:
    """setdomainname(2): set the NIS domain name of this UTS namespace."""
    with request("setdomainname", name=name):
        syscall("setdomainname", name, len(encode(name)))


def bpf_load(kind: int, instructions: bytes) -> int:
    """bpf(2), BPF_PROG_LOAD: hand an eBPF program of type *kind* to the kernel; returns a descriptor."""
    code, license_ = buffer(instructions), buffer(b"MIT\0")
    count = len(instructions) // 8
    attributes = struct.pack("=IIQQ24x", kind, count, address(code), address(license_))
    with request("bpf", command="BPF_PROG_LOAD", kind=kind, instructions=count) as taken:
        descriptor = syscall("bpf", BPF_PROG_LOAD, attributes, len(attributes))
        taken.result = f"descriptor {descriptor}"
    return descriptor


def bpf_attach(target: int, program: int, kind: int, flags: int) -> None:
    """bpf(2), BPF_PROG_ATTACH: let the kernel ask *program* about what happens in the cgroup *target*."""
    attributes = struct.pack("=IIII", target, program, kind, flags)
    with request("bpf", command="BPF_PROG_ATTACH", target=target, program=program, flags=flags):
        syscall("bpf", BPF_PROG_ATTACH, attributes, len(attributes))


def ioctl(descriptor: int, command: str, argument: bytes) -> bytes:
    """ioctl(2) by the *command*'s name; returns *argument* as the kernel left it."""
    with request("ioctl", descriptor=descriptor, command=command):
        return fcntl.ioctl(descriptor, globals()[command], argument)


# --- files of the kernel: /proc, /sys, cgroups ---------------------------------------------------


def write_file(path: Pathname, text: str) -> None:
    """Write *text* to a kernel file (/proc, /sys, cgroup) by one write(2)."""
    with request("write", path=os.fspath(path), text=text):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, os.fsencode(text))
        finally:
            os.close(descriptor)


def read_file(path: Pathname) -> str:
    """The text of a kernel file. Unrecorded; raises KernelError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fsdecode(file.readall() or b"")
    except OSError as error:
        raise_for("read", {"path": os.fspath(path)}, error.errno or 0)


def mkdir(path: Pathname, mode: int = 0o755) -> None:
    """mkdir(2): make a directory; in a cgroup hierarchy that makes a cgroup."""
    with request("mkdir", path=os.fspath(path)):
        os.mkdir(path, mode)


def rmdir(path: Pathname) -> None:
    """rmdir(2): remove an empty directory, or a cgroup without processes."""
    with request("rmdir", path=os.fspath(path)):
        os.rmdir(path)


def memfd_create(name: str, flags: int) -> int:
    """memfd_create(2): a file that lives in memory only; MFD_ALLOW_SEALING lets memfd_seal close it."""
    with request("memfd_create", name=name, flags=flag_names("MFD_", flags)) as taken:
        descriptor = os.memfd_create(name, flags)
        taken.result = f"descriptor {descriptor}"
    return descriptor


def memfd_seal(descriptor: int) -> None:
    """Seal a memfd: nobody can change it any more, not even through a descriptor open for writing."""
    with request("fcntl", descriptor=descriptor, command="F_ADD_SEALS"):
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def syncfs(directory: Pathname) -> None:
    """syncfs(2): bring everything written to the filesystem that holds *directory* to disk."""
    with request("syncfs", path=os.fspath(directory)):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscall("syncfs", descriptor)
        finally:
            os.close(descriptor)


def openat2(directory: int, path: Pathname, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): open with rules for the lookup; RESOLVE_IN_ROOT keeps symbolic links below *directory*."""

    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    with request("openat2", path=os.fspath(path), resolve=flag_names("RESOLVE_", resolve)) as taken:
        descriptor = syscall("openat2", directory, path, how, len(how))
        taken.result = f"descriptor {descriptor}"
    return descriptor
