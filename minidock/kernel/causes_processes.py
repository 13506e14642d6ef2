"""Why calls about privileges, namespaces and cgroups are refused, read from the live machine."""

from __future__ import annotations

import os
import re
from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM, EUSERS
from itertools import pairwise

from minidock.kernel.evidence import Answer, Question, cause, listed

# --- privileges ----------------------------------------------------------------------------------

_NEEDED = {
    "CAP_SYS_ADMIN": "mount umount pivot_root unshare setns clone sethostname setdomainname open_tree "
    "move_mount mount_setattr bpf",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_MKNOD": "mknod",
    "CAP_NET_ADMIN": "nft RTM_NEWLINK RTM_DELLINK RTM_SETLINK RTM_NEWADDR RTM_NEWROUTE",
    "CAP_KILL": "kill pidfd_send_signal",
    "CAP_SETGID": "setgroups setresgid",
    "CAP_SETUID": "setresuid",
    "CAP_SYS_RESOURCE": "setrlimit",
}


@cause(" ".join(_NEEDED.values()), EPERM)
def capability_missing(question: Question) -> Answer:
    """Each of these calls asks for one capability."""
    if "CLONE_NEWUSER" in question.text("flags"):
        return None  # whoever makes a user namespace needs nothing, and has everything in it
    needed = next(name for name, calls in _NEEDED.items() if question.operation in calls.split())
    if not question.lacks(needed):
        return None
    who = "root without it" if os.geteuid() == 0 else f"user {os.geteuid()}"
    return (
        f"this process lacks {needed} (CapEff {question.status('CapEff')}, {who})",
        "Run it with sudo."
        if os.geteuid()
        else f"A container needs --cap-add {needed.removeprefix('CAP_')}.",
    )


@cause("mknod", EPERM)
def devices_in_user_namespace(question: Question) -> Answer:
    """Device nodes are made by the machine's own root only."""
    if not question.in_user_namespace():
        return None
    return (
        "device nodes cannot be made in a user namespace",
        "Bind the host's device onto an empty file instead.",
    )


@cause("seccomp", EACCES)
def filter_without_no_new_privs(question: Question) -> Answer:
    """A filter could confuse a setuid program: so no_new_privs first, or CAP_SYS_ADMIN."""
    if question.status("NoNewPrivs") != "0" or not question.lacks("CAP_SYS_ADMIN"):
        return None
    return (
        "neither no_new_privs is set nor does this process have CAP_SYS_ADMIN",
        "Install the filter before dropping capabilities, or call set_no_new_privs() first.",
    )


# --- user namespaces -----------------------------------------------------------------------------


@cause("unshare clone", ENOSPC)
def namespace_limit(question: Question) -> Answer:
    """Each kind of namespace has a maximum; 0 switches the kind off."""
    for flag in question.text("flags").split("|"):
        kind = {"NEWNS": "mnt"}.get(flag.removeprefix("CLONE_"), flag.removeprefix("CLONE_NEW").lower())
        limit = question.read(f"sys/user/max_{kind}_namespaces").strip()
        if not limit.isdigit():
            continue
        present = len(_namespaces(question, kind))
        if int(limit) == 0:
            return (
                f"{kind} namespaces are switched off: user.max_{kind}_namespaces is 0",
                f"`sysctl user.max_{kind}_namespaces=10000` as root allows them.",
            )
        if present >= int(limit):
            return (
                f"there are {present} {kind} namespaces, and user.max_{kind}_namespaces is {limit}",
                "End some containers, or raise the limit with sysctl.",
            )
    return None


def _namespaces(question: Question, kind: str) -> set[str]:
    found = set()
    for _, directory in question.processes():
        try:
            found.add(os.readlink(directory / "ns" / kind))
        except OSError:
            continue
    return found


@cause("unshare clone", EPERM)
def user_namespaces_forbidden(question: Question) -> Answer:
    """Distributions restrict user namespaces of ordinary users by sysctls of their own."""
    if "CLONE_NEWUSER" not in question.text("flags"):
        return None
    if (
        question.lacks("CAP_SYS_ADMIN")
        and question.read("sys/kernel/unprivileged_userns_clone").strip() == "0"
    ):
        return (
            "user namespaces are for root only here: kernel.unprivileged_userns_clone is 0",
            "`sysctl kernel.unprivileged_userns_clone=1` as root allows them for everyone.",
        )
    if _in_chroot(question):
        return (
            "a process in a chroot may not make a user namespace",
            "Use pivot_root instead of chroot, or make the namespace before the chroot.",
        )
    return None


def _in_chroot(question: Question) -> bool:
    return not any(mount.path == "/" for mount in question.mounts()) and bool(question.read("self/mountinfo"))


@cause("unshare clone mount write sethostname", EPERM, EACCES)
def user_namespaces_by_apparmor(question: Question) -> Answer:
    """Ubuntu lets ordinary users make user namespaces, but without any capability inside."""
    if question.read("sys/kernel/apparmor_restrict_unprivileged_userns").strip() != "1":
        return None
    making = "CLONE_NEWUSER" in question.text("flags")
    inside = question.in_user_namespace() or question.text("path").endswith(("uid_map", "gid_map"))
    if not question.lacks("CAP_SYS_ADMIN") or not (making or inside):
        return None
    profile = (
        question.read("self/attr/apparmor/current").strip() or question.read("self/attr/current").strip()
    )
    return (
        "AppArmor restricts user namespaces of ordinary users: "
        f"kernel.apparmor_restrict_unprivileged_userns is 1 (profile {profile or 'unknown'})",
        "Run as root, give the program an AppArmor profile with `userns,`, or set that sysctl to 0.",
    )


@cause("unshare setns", EINVAL, EUSERS)
def several_threads(question: Question) -> Answer:
    """A user or time namespace belongs to the whole process: no other thread may be there."""
    kinds = question.text("flags") + "|" + question.text("nstype")
    threads = question.status("Threads")
    if not any(f"CLONE_NEW{kind}" in kinds for kind in ("USER", "TIME", "NS")) or threads in ("", "1"):
        return None
    if question.operation == "unshare" and "CLONE_NEWUSER" not in kinds:
        return None
    return (
        f"this process has {threads} threads",
        "Do it in a fresh process with one thread, as minidock's helpers do; a Jupyter kernel has a dozen.",
    )


@cause("setns", EINVAL)
def wrong_namespace(question: Question) -> Answer:
    """The descriptor must be a namespace of the kind that was named, and not the user namespace we are in."""
    wanted = question.text("nstype").removeprefix("CLONE_NEW").lower().replace("ns", "mnt")
    try:
        found = os.readlink(question.proc / f"self/fd/{question.text('descriptor')}")
    except OSError:
        return None
    kind, _, inode = found.partition(":[")
    if not inode:
        if found.startswith("anon_inode:[pidfd]") or "pidfd" in found:
            return None
        return f"the descriptor is {found}, not a namespace", "Open a file of /proc/PID/ns."
    if wanted != "0" and kind != wanted:
        return f"the descriptor is a {kind} namespace, not {wanted}", "Open the file of that kind."
    if kind == "user" and os.readlink(question.proc / "self/ns/user") == found:
        return "this process is in that user namespace already", "Leave `user` out."
    return None


# --- id maps -------------------------------------------------------------------------------------


@cause("write", EPERM, EINVAL)
def id_map_refused(question: Question) -> Answer:
    """uid_map and gid_map are written once, without overlaps, with ids that the writer may give away."""
    match = re.fullmatch(r"/proc/(\w+)/([ug])id_map", question.text("path"))
    if not match:
        return None
    pid, kind = match[1], match[2]
    lines = [line.split() for line in question.text("text").splitlines() if line.strip()]
    if not lines or any(len(line) != 3 or not all(word.isdigit() for word in line) for line in lines):
        return "a line is not three numbers", "Each line is: first id inside, first id outside, count."
    ranges = [(int(inside), int(outside), int(count)) for inside, outside, count in lines]
    if question.errno == EINVAL:
        return _overlap(ranges)
    present = question.read(f"{pid}/{kind}id_map").split()
    if present:
        return (
            f"{kind}id_map is written already ({' '.join(present)}), and it can be written once only",
            "Write all lines in one write.",
        )
    return _not_ours_to_give(question, pid, kind, ranges)


def _overlap(ranges: list[tuple[int, int, int]]) -> Answer:
    for column, side in ((0, "inside"), (1, "outside")):
        ordered = sorted((each[column], each[2]) for each in ranges)
        for (first, count), (second, _) in pairwise(ordered):
            if first + count > second:
                return (
                    f"the ranges overlap {side}: {first}..{first + count - 1} and {second}..",
                    "Each id may stand in one range only.",
                )
    if any(count == 0 for _, _, count in ranges):
        return "a range is empty (count 0)", "Give a count of at least 1."
    return None


def _not_ours_to_give(question: Question, pid: str, kind: str, ranges: list[tuple[int, int, int]]) -> Answer:
    capability = "CAP_SETUID" if kind == "u" else "CAP_SETGID"
    own = os.geteuid() if kind == "u" else os.getegid()
    parent = [tuple(map(int, line.split())) for line in question.read(f"self/{kind}id_map").splitlines()]
    same = os.readlink(question.proc / "self/ns/user") == os.readlink(question.proc / f"{pid}/ns/user")
    for _, outside, count in ranges if parent and not same else ():
        if not any(first <= outside and outside + count <= first + most for first, _, most in parent):
            return (
                f"the ids {outside}..{outside + count - 1} do not exist in this user namespace",
                "Map ids that /proc/self/uid_map lists in its first column.",
            )
    if not same and not question.lacks(capability):
        return None
    if len(ranges) != 1 or ranges[0][2] != 1:
        return (
            f"without {capability} in the parent namespace only one id, one's own, may be mapped",
            "Run it as root, or use newuidmap and newgidmap with /etc/subuid and /etc/subgid.",
        )
    if kind == "g" and question.read(f"{pid}/setgroups").strip() == "allow":
        return (
            "gid_map needs setgroups(2) given up first: /proc/PID/setgroups says allow",
            "Write `deny` to /proc/PID/setgroups before gid_map.",
        )
    if not same and ranges[0][1] != own:
        return f"the outside id must be one's own, {own}", "Map your own id."
    return None


# --- processes -----------------------------------------------------------------------------------


@cause("clone fork", ENOMEM)
def init_is_dead(question: Question) -> Answer:
    """When process 1 of a pid namespace ends, no process can begin there any more."""
    own = os.readlink(question.proc / "self/ns/pid")
    try:
        children = os.readlink(question.proc / "self/ns/pid_for_children")
    except FileNotFoundError:
        return None  # the namespace has had no process yet
    if children == own:
        return None
    for _, directory in question.processes():
        try:
            lives = (directory / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if lives and os.readlink(directory / "ns/pid") == children:
                return None
        except OSError:
            continue
    return (
        f"children of this process begin in the pid namespace {children}, whose process 1 has ended",
        "That namespace is finished: make a new one, in a helper process whose first child stays alive.",
    )


# --- cgroups -------------------------------------------------------------------------------------


@cause("write", ENOENT)
def controller_not_delegated(question: Question) -> Answer:
    """On cgroup v2 a controller's files appear only where every group above passes the controller on."""
    directory, name = os.path.split(question.text("path"))
    offered = question.read_file(os.path.join(directory, "cgroup.controllers"))
    if offered is None or (name != "cgroup.subtree_control" and os.path.exists(question.text("path"))):
        return None
    wanted = (
        re.findall(r"\+(\w+)", question.text("text")) if name.startswith("cgroup.") else [name.split(".")[0]]
    )
    for controller in wanted:
        if controller not in offered.split():
            return _who_withholds(question, directory, controller)
    return None


def _who_withholds(question: Question, directory: str, controller: str) -> Answer:
    above = os.path.dirname(directory)
    while (offered := question.read_file(f"{above}/cgroup.controllers")) is not None:
        if controller in offered.split():
            return (
                f"the controller {controller} is not delegated: {above}/cgroup.subtree_control lacks it",
                f"echo +{controller} > {above}/cgroup.subtree_control (it must hold no processes itself).",
            )
        above = os.path.dirname(above)
    return (
        f"this cgroup v2 hierarchy does not offer the controller {controller}",
        "It is bound to a cgroup v1 hierarchy, or switched off at boot (cgroup_disable=); see /proc/cgroups.",
    )


@cause("write mkdir", EACCES, EPERM)
def cgroup_of_another_user(question: Question) -> Answer:
    """Who owns a cgroup directory may manage it: that is how delegation works."""
    path = question.text("path")
    directory = os.path.dirname(path)
    if not os.path.exists(f"{directory}/cgroup.procs") or os.access(directory, os.W_OK):
        return None
    owner = os.stat(directory).st_uid
    return (
        f"the cgroup {directory} belongs to user {owner} and this is user {os.geteuid()}: not delegated",
        "Run as root, or have systemd delegate a group (Delegate=yes).",
    )


@cause("write", EBUSY)
def no_inner_processes(question: Question) -> Answer:
    """A v2 cgroup holds processes, or passes controllers to groups below it: never both."""
    directory, name = os.path.split(question.text("path"))
    if name == "cgroup.subtree_control":
        pids = (question.read_file(f"{directory}/cgroup.procs") or "").split()
        if pids:
            users = listed([question.name_of(int(pid)) for pid in pids])
            return (
                f"{directory} holds processes itself: {users}",
                "Move them to a group below it first: only leaves hold processes.",
            )
    passed = (question.read_file(f"{directory}/cgroup.subtree_control") or "").strip()
    if name == "cgroup.procs" and passed:
        return (
            f"{directory} passes controllers on ({passed}), so it may hold no processes",
            "Attach the process to a group below it.",
        )
    return None


@cause("write", ENOSPC)
def cpuset_is_empty(question: Question) -> Answer:
    """A v1 cpuset takes processes only after it was given processors and memory nodes."""
    directory, name = os.path.split(question.text("path"))
    if name not in ("cgroup.procs", "tasks"):
        return None
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (question.read_file(f"{directory}/{file}") or "x").strip() == "":
            return f"{directory}/{file} is empty", "Write the parent's value to it first."
    return None
