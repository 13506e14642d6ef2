"""The kernel's numbers: system calls of amd64 and arm64, and flags under the names the kernel gives them.

Source: the kernel's uapi headers (asm/unistd_64.h, asm-generic/unistd.h, linux/{mount,sched,prctl}.h).
"""

# fmt: off
# System call numbers per machine; those from 424 on are the same everywhere.
_COMMON = {"pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
           "pidfd_open": 434, "openat2": 437, "mount_setattr": 442}
NUMBERS = {
    "x86_64": _COMMON | {
        "clone": 56, "bpf": 321, "capget": 125, "capset": 126, "pivot_root": 155, "prctl": 157, "mount": 165,
        "umount2": 166, "sethostname": 170, "setdomainname": 171, "inotify_init1": 294,
        "inotify_add_watch": 254, "keyctl": 250, "ppoll": 271, "unshare": 272,
        "prlimit64": 302, "syncfs": 306, "setns": 308, "seccomp": 317},
    "aarch64": _COMMON | {
        "clone": 220, "bpf": 280, "capget": 90, "capset": 91, "pivot_root": 41, "prctl": 167, "mount": 40,
        "umount2": 39, "sethostname": 161, "setdomainname": 162, "inotify_init1": 26,
        "inotify_add_watch": 27, "keyctl": 219, "ppoll": 73, "unshare": 97,
        "prlimit64": 261, "syncfs": 267, "setns": 268, "seccomp": 277},
}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC = 0x10, 0x20, 0x40, 0x80
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME = 0x100, 0x400, 0x800
MS_BIND, MS_MOVE, MS_REC, MS_SILENT = 0x1000, 0x2000, 0x4000, 0x8000
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25

MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8

CLONE_NEWTIME = 0x80
CLONE_PARENT = 0x8000
CLONE_NEWNS, CLONE_NEWCGROUP = 0x20000, 0x02000000
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x04000000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_SET_MODE_FILTER = 1
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
LINUX_CAPABILITY_VERSION_3 = 0x20080522
KEYCTL_JOIN_SESSION_KEYRING = 1
SIGKILL, SIGCHLD = 9, 17

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = 0x100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 0x1, 0o2000000
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_IDMAP = 0x100000
MFD_CLOEXEC, MFD_ALLOW_SEALING = 0x1, 0x2
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x1, 0x2, 0x4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x8, 0x10

# What `ulimit` and Docker's --ulimit call the resources of setrlimit(2).
RLIMITS = {"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
           "memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14,
           "rttime": 15}
# fmt: on

_FLAGS = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}
_FAMILIES = ("MS_", "MNT_", "CLONE_", "OPEN_TREE_", "MOVE_MOUNT_", "MOUNT_ATTR_", "MFD_", "RESOLVE_")
_NAMES = {
    family: [(value, name) for name, value in _FLAGS.items() if name.startswith(family)]
    for family in _FAMILIES
}
_NAMES["MNT_"].append((UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"))
_NAMES["OPEN_TREE_"] += [(AT_EMPTY_PATH, "AT_EMPTY_PATH"), (AT_RECURSIVE, "AT_RECURSIVE")]


def flag_names(family: str, flags: int) -> str:
    """``flag_names("MS_", 4096 | 16384)`` → ``"MS_BIND|MS_REC"``; bits without a name in hexadecimal."""
    names = []
    for value, name in _NAMES[family]:
        if flags & value:
            names.append(name)
            flags &= ~value
    if flags:
        names.append(hex(flags))
    return "|".join(names) or "0"
