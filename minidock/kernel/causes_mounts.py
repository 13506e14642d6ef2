"""Why mount(2), umount(2), pivot_root(2) and calls on paths are refused, read from the live machine."""

from __future__ import annotations

import os
import stat
from errno import EBUSY, EINVAL, ENODEV, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS

from minidock.kernel.evidence import Answer, Question, cause, listed
from minidock.kernel.mounts import MountPoint

# --- pivot_root ----------------------------------------------------------------------------------


@cause("pivot_root", EINVAL)
def shared_mount(question: Question) -> Answer:
    """pivot_root refuses while a mount event could travel: the parents, and the place for the old root."""
    by_id = {mount.id: mount for mount in question.mounts()}
    new, old = question.mount_of(question.text("new_root")), question.mount_of(question.text("put_old"))
    root = question.mount_of("/")
    for mount in (
        old,
        by_id.get(new.parent) if new else None,
        by_id.get(root.parent) if root else None,
    ):
        if mount is not None and mount.shared:
            return (
                f"{mount.path} is a shared mount (mountinfo line {mount.line}), "
                "and pivot_root would change it for others, too",
                "Make the mounts of this namespace private first: rootfs.isolate_mounts(), "
                "or `mount --make-rprivate /` in the new mount namespace.",
            )
    return None


@cause("pivot_root", EBUSY, EINVAL)
def new_root_is_no_mount_point(question: Question) -> Answer:
    """The new root must be a mount of its own, other than the present one."""
    path = question.text("new_root")
    if question.is_mount_point(path):
        return None
    return (
        f"{os.path.realpath(path)} is not a mount point but a plain directory",
        "Bind it on itself first: mount(path, path, flags=MS_BIND | MS_REC).",
    )


@cause("pivot_root", EINVAL, EBUSY)
def old_root_outside_the_new(question: Question) -> Answer:
    """The old root needs a place below the new one."""
    new, old = (os.path.realpath(question.text(name)) for name in ("new_root", "put_old"))
    if (old + "/").startswith(new.rstrip("/") + "/"):
        return None
    return f"{old} is not below {new}", "Put the old root below the new one, or use pivot_root('.', '.')."


@cause("pivot_root", EINVAL)
def present_root_unfit(question: Question) -> Answer:
    """The present root must be a mount point, and not the initial ramdisk."""
    root = question.mount_of("/")
    if root is None or root.path != "/":
        return (
            "the present root is no mount point: this process is in a chroot",
            "pivot_root works from the root of a mount: leave the chroot, or bind its directory first.",
        )
    if root.fstype == "rootfs":
        return "the present root is the initial ramdisk", "Move the new root onto / with MS_MOVE instead."
    return None


# --- umount, remount, busy -----------------------------------------------------------------------


@cause("umount", EINVAL)
def nothing_mounted_there(question: Question) -> Answer:
    """umount takes a mount point of this namespace."""
    path = question.text("target")
    if question.is_mount_point(path):
        return None
    return f"nothing is mounted at {os.path.realpath(path)}", "`findmnt` lists what is mounted, and where."


@cause("mount", EINVAL)
def change_of_no_mount(question: Question) -> Answer:
    """Remounting and changing the propagation need the path of a mount, not of a directory in it."""
    flags = ("MS_REMOUNT", "MS_PRIVATE", "MS_SLAVE", "MS_SHARED", "MS_UNBINDABLE", "MS_MOVE")
    path = question.text("source" if question.has_flag("MS_MOVE") else "target")
    if not question.has_flag(*flags) or question.is_mount_point(path):
        return None
    return (
        f"{os.path.realpath(path)} is not a mount point, and {question.text('flags')} changes a mount",
        "Bind the directory on itself first: mount(path, path, flags=MS_BIND).",
    )


@cause("umount", EBUSY)
def in_use(question: Question) -> Answer:
    """Something still stands on the mount: other mounts, or processes with files open there."""
    path = os.path.realpath(question.text("target"))
    above = [mount.path for mount in question.mounts() if mount.path.startswith(path.rstrip("/") + "/")]
    if above:
        return (
            f"other mounts lie on it: {listed(above)}",
            "Unmount those first, or use MNT_DETACH to detach the whole tree.",
        )
    users = [question.name_of(pid) for pid in _users_of(question, path)]
    if users:
        return (
            f"in use by {listed(users)}",
            "End these or let them leave the directory; MNT_DETACH hides the mount now and frees it later.",
        )
    return None


def _users_of(question: Question, path: str) -> list[int]:
    """Processes of this mount namespace whose directory, root, program or open files lie below *path*."""
    found = []
    own = os.readlink(question.proc / "self/ns/mnt")
    for pid, directory in question.processes():
        try:
            if os.readlink(directory / "ns/mnt") != own:
                continue
            links = [directory / name for name in ("cwd", "root", "exe")]
            links += (directory / "fd").iterdir()
            places = []
            for link in links:
                try:
                    places.append(os.readlink(link))
                except FileNotFoundError:  # kernel threads have no program; descriptors close meanwhile
                    continue
        except OSError:
            continue
        if any(place == path or place.startswith(path + "/") for place in places):
            found.append(pid)
    return found


@cause("mount", EBUSY)
def already_mounted(question: Question) -> Answer:
    """The same filesystem twice at the same place."""
    mount = question.mount_of(question.text("target"))
    if not mount or mount.path != os.path.realpath(question.text("target")):
        return None
    if mount.fstype != question.text("fstype"):
        return None
    return (
        f"{mount.fstype} is already mounted at {mount.path} (mountinfo line {mount.line})",
        "Nothing to do, or unmount it first.",
    )


@cause("rmdir", EBUSY)
def directory_in_use(question: Question) -> Answer:
    """A mount point cannot be removed; a cgroup neither while it has processes or groups below it."""
    path = question.text("path")
    if question.is_mount_point(path):
        return f"{path} is a mount point", "Unmount it first."
    procs = os.path.join(path, "cgroup.procs")
    if not os.path.exists(procs):
        return None
    with open(procs) as file:
        pids = [int(line) for line in file]
    if pids:
        users = listed([question.name_of(pid) for pid in pids])
        return f"the cgroup still holds {users}", "End or move its processes first."
    below = [entry.name for entry in os.scandir(path) if entry.is_dir()]
    if below:
        return f"the cgroup still holds the groups {listed(below)}", "Remove those first."
    return None


# --- overlay -------------------------------------------------------------------------------------

# Filesystems without what an upper directory needs (whiteouts, xattrs, local dentries).
NOT_FOR_UPPER = {"overlay", "vfat", "exfat", "ntfs3", "nfs", "nfs4", "cifs", "9p", "fuse", "fuseblk"}
NOT_FOR_UPPER |= {"iso9660", "squashfs", "erofs", "proc", "sysfs", "cgroup", "cgroup2", "devpts"}


def _overlay_directories(question: Question) -> dict[str, str]:
    if question.text("fstype") != "overlay":
        return {}
    pairs = (option.partition("=") for option in question.text("data").split(","))
    return {key: value for key, _, value in pairs}


@cause("mount", ENOENT)
def overlay_directory_missing(question: Question) -> Answer:
    """One of the directories of an overlay does not exist."""
    options = _overlay_directories(question)
    paths = options.get("lowerdir", "").split(":") if options else []
    paths += [options[name] for name in ("upperdir", "workdir") if name in options]
    for path in paths:
        if path and not os.path.isdir(path):
            return f"the directory {path} does not exist", "Every lower, upper and work directory must exist."
    return None


@cause("mount", EINVAL)
def overlay_upper_unsupported(question: Question) -> Answer:
    """The upper directory's filesystem, its mount, or its place beside the work directory is unfit."""
    options = _overlay_directories(question)
    upper, work = options.get("upperdir", ""), options.get("workdir", "")
    where, beside = question.mount_of(upper), question.mount_of(work)
    if not upper or where is None or beside is None:
        return None
    if where.fstype in NOT_FOR_UPPER:
        return (
            f"{upper} lies on {where.fstype} (mountinfo line {where.line}), "
            "which cannot hold an overlay's upper directory",
            "Use a directory on ext4, xfs, btrfs or tmpfs: minidock's --root, or a volume there.",
        )
    if "ro" in where.options or "ro" in where.super_options:
        return f"{upper} lies on a read-only mount ({where.path})", "The upper directory must be writable."
    if where.id != beside.id:
        return (
            f"the work directory lies on another mount ({beside.path}) than the upper one ({where.path})",
            "Put both beside each other: files move between them by rename.",
        )
    above, below = (os.path.realpath(path) + "/" for path in (upper, work))
    if above.startswith(below) or below.startswith(above):
        return "the upper and work directories lie inside each other", "Put them beside each other."
    return None


# --- what mount takes ----------------------------------------------------------------------------


@cause("mount", ENODEV)
def unknown_filesystem(question: Question) -> Answer:
    """The kernel lists the filesystems it knows."""
    fstype, known = question.text("fstype"), question.read("filesystems").split()
    if not fstype or not known or fstype in known:
        return None
    return (
        f"this kernel has no filesystem {fstype!r} (not in /proc/filesystems)",
        f"Try `modprobe {fstype}`, or a kernel built with it.",
    )


@cause("mount", EINVAL)
def option_refused(question: Question) -> Answer:
    """Which option does the kernel not take? It tells when offered each in a context to be dropped."""
    fstype, data = question.text("fstype"), question.text("data")
    if question.ask is None or not fstype or not data:
        return None
    for option in data.split(","):
        complaint = _complaint(question, fstype, option)
        if complaint:
            return (
                f"{fstype} does not take the option {option!r} (the kernel: {complaint})",
                "Check its spelling and value, and whether this kernel version knows it.",
            )
    return None


def _complaint(question: Question, fstype: str, option: str) -> str:
    """The kernel's message about *option*, empty when it takes it. Source: fsopen(2), fsconfig(2)."""
    assert question.ask is not None
    try:
        context = question.ask("fsopen", fstype, 1)  # FSOPEN_CLOEXEC
    except OSError:
        return ""
    key, equals, value = option.partition("=")
    set_flag, set_string = 0, 1
    try:
        if equals:
            question.ask("fsconfig", context, set_string, key, value, 0)
        else:
            question.ask("fsconfig", context, set_flag, key, None, 0)
    except OSError:
        try:
            return os.read(context, 1000).decode(errors="replace").strip().removeprefix("e ")
        except OSError:
            return "invalid"
    finally:
        os.close(context)
    return ""


@cause("mount", ENOSPC)
def too_many_mounts(question: Question) -> Answer:
    """The number of mounts in a mount namespace is limited by a sysctl."""
    limit, count = question.read("sys/fs/mount-max").strip(), len(question.mounts())
    if not limit.isdigit() or count < int(limit):
        return None
    return (
        f"this mount namespace holds {count} mounts, and fs.mount-max is {limit}",
        "Unmount what is not needed; a recursive bind in a loop makes mounts without end.",
    )


@cause("mount", ENOTDIR)
def file_onto_directory(question: Question) -> Answer:
    """A file is bound on a file, a directory on a directory."""
    source, target = question.text("source"), question.text("target")
    if not question.has_flag("MS_BIND") or not (os.path.exists(source) and os.path.exists(target)):
        return None
    if os.path.isdir(source) == os.path.isdir(target):
        return None
    kinds = ("a directory", "a file") if os.path.isdir(source) else ("a file", "a directory")
    return (
        f"{source} is {kinds[0]} and {target} is {kinds[1]}",
        "Bind a file on a file, a directory on a directory.",
    )


@cause("mount", EPERM)
def covered_proc(question: Question) -> Answer:
    """In a user namespace, a new /proc or /sys may show no more than the one that is visible already."""
    fstype = question.text("fstype")
    if fstype not in ("proc", "sysfs") or not question.in_user_namespace() or question.lacks("CAP_SYS_ADMIN"):
        return None
    visible = [mount for mount in question.mounts() if mount.fstype == fstype and mount.root == "/"]
    covers = [each.path for each in question.mounts() if any(_covers(each, mount) for mount in visible)]
    if visible and not covers:
        return None
    seen = f"parts of it are covered: {listed(covers)}" if covers else "no whole one is visible"
    return (
        f"a new {fstype} would show what is hidden here ({seen}), and this is a user namespace",
        "Bind the existing one instead.",
    )


def _covers(mount: MountPoint, below: MountPoint) -> bool:
    return mount.path.startswith(below.path.rstrip("/") + "/") and mount.fstype not in ("cgroup", "cgroup2")


# --- paths ---------------------------------------------------------------------------------------

_PATHS = "mount umount pivot_root chroot chdir mknod symlink mkdir rmdir write read"


def _paths(question: Question) -> list[str]:
    names = ["path", "new_root", "put_old", "target", "link"]
    if question.has_flag("MS_BIND"):
        names.insert(0, "source")
    if question.operation == "symlink":
        names.remove("target")
    return [question.text(name) for name in names if question.text(name)]


@cause(_PATHS, EROFS)
def read_only_mount(question: Question) -> Answer:
    """A file cannot be made or written on a read-only mount."""
    for path in _paths(question):
        mount = question.mount_of(path)
        if mount and ("ro" in mount.options or "ro" in mount.super_options):
            return (
                f"{path} lies on {mount.path}, which is mounted read-only (mountinfo line {mount.line})",
                "Write elsewhere, or ask for a writable mount.",
            )
    return None


@cause(_PATHS, ENOENT, ENOTDIR)
def missing_component(question: Question) -> Answer:
    """Which part of a path is missing, or is a file where a directory must be?"""
    for path in _paths(question):
        parts, walked = os.path.abspath(path).split("/")[1:], ""
        makes = question.operation in ("mkdir", "mknod", "symlink")
        for part in parts[:-1] if makes else parts:
            walked += f"/{part}"
            try:
                found = os.stat(walked)
            except OSError:
                if os.path.islink(walked):
                    target = os.readlink(walked)
                    return f"{walked} is a link to {target}, which does not exist", "Make its target first."
                if question.errno != ENOENT:
                    continue
                shown = "" if walked == os.path.abspath(path) else f": {walked} is missing"
                return f"{path} does not exist{shown}", "Check the path, or make the directory first."
            if question.errno == ENOTDIR and not stat.S_ISDIR(found.st_mode) and walked != path:
                return f"{walked} is not a directory", "Check the path."
    return None
