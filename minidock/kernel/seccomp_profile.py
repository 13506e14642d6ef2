"""The default profile: which system calls a container may make, in our own words.

The verdict for every call of amd64 and arm64 (and of the 32-bit programs they run) is that of the
profile which Docker publishes and Docker 28 uses. The rule of thumb behind it: what every program
needs is allowed; what only reaches the container's own world is allowed with the capability that the
kernel asks for anyway; what is old, dangerous or about the whole machine is refused, so that a hole in
such a call cannot be used from a container. It is an allow list: what it does not name is refused.

Names for other machines (mips, ppc64le, riscv64, s390x) are left out: minidock runs on none of them.

How it differs from the two older profiles that Debian ships is listed, call by call, in
tests/kernel/seccomp_deviations.py, and a test proves the lists complete.
"""

from __future__ import annotations

from typing import Any

ALLOWED = {
    "programs and processes": """
        capget capset execve execveat exit exit_group fork get_robust_list
        get_thread_area getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid
        kill membarrier pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease
        restart_syscall rseq seccomp set_robust_list
        set_thread_area set_tid_address setpgid setpriority setrlimit setsid tgkill times tkill
        ugetrlimit umask uname uretprobe vfork wait4 waitid waitpid
    """,
    "users and groups": """
        getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
        getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32
        setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid
        setresuid32 setreuid setreuid32 setuid setuid32
    """,
    "scheduling": """
        getcpu ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity
        sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield
    """,
    "memory": """
        brk madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
        mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
        pkey_mprotect remap_file_pages
    """,
    "open files": """
        _llseek _newselect cachestat close close_range copy_file_range dup dup2 dup3 epoll_create
        epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
        eventfd eventfd2 fadvise64 fadvise64_64 fallocate fcntl fcntl64 fdatasync flock fsync
        ftruncate ftruncate64 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
        io_setup io_submit ioctl lseek pipe pipe2 poll ppoll ppoll_time64 pread64 preadv preadv2
        pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readv select sendfile
        sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev
    """,
    "the file tree": """
        access chdir chmod chown chown32 creat faccessat faccessat2 fanotify_mark fchdir fchmod
        fchmodat fchmodat2 fchown fchown32 fchownat fgetxattr flistxattr fremovexattr fsetxattr fstat
        fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents getdents64 getxattr getxattrat
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch landlock_add_rule
        landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
        listmount listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 mkdir mkdirat
        mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink readlinkat
        removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat stat64
        statfs statfs64 statmount statx symlink symlinkat truncate truncate64 unlink unlinkat utime
        utimensat utimensat_time64 utimes
    """,
    "signals": """
        pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4
        sigprocmask sigreturn
    """,
    "time": """
        adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
        clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday
        nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime
        timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64
    """,
    "the network": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
        recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall
        socketpair
    """,
    "asking the kernel": "getrandom sysinfo",
    "talking between processes": """
        futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake ipc mq_getsetattr
        mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
        mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat
        shmctl shmdt shmget
    """,
}

# Only where programs of that machine run: {Go's name of the machine: names}.
ONLY_ON = {
    "amd64": "arch_prctl modify_ldt",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
}

# The kernel asks for the capability anyway; without it even the attempt is refused.
WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open
        quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# Tracing was a way round seccomp until Linux 4.8.
SINCE_KERNEL = {"4.8": "process_vm_readv process_vm_writev ptrace"}

# personality(2): plain Linux, UNAME26, both 32-bit address-space marks, and "just tell me".
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
AF_VSOCK = 40  # reaches the host through its hypervisor's sockets, past every network namespace
NAMESPACES = 0x7E020000  # the CLONE_NEW* flags of clone(2): a new user namespace would give new powers
ENOSYS = 38


def default() -> dict[str, Any]:
    """The default profile in Docker's JSON format (``--security-opt seccomp=FILE`` takes the same)."""
    rules: list[dict[str, Any]] = [_allow(names) for names in ALLOWED.values()]
    rules += [_allow(names, includes={"arches": [arch]}) for arch, names in ONLY_ON.items()]
    rules += [_allow(names, includes={"minKernel": kernel}) for kernel, names in SINCE_KERNEL.items()]
    rules += [_allow(names, includes={"caps": [cap]}) for cap, names in WITH_CAPABILITY.items()]
    rules += [_allow("personality", [_compare("EQ", value)]) for value in PERSONALITIES]
    rules.append(_allow("socket", [_compare("NE", AF_VSOCK)]))
    without_admin = {"caps": ["CAP_SYS_ADMIN"]}
    rules.append(_allow("clone", [_compare("MASKED_EQ", NAMESPACES)], excludes=without_admin))
    # clone3's flags lie in memory, out of a filter's sight. "No such call" makes libc use clone.
    rules.append(
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS, "excludes": without_admin}
    )
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,  # EPERM
        "archMap": [
            {
                "architecture": "SCMP_ARCH_X86_64",
                "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            },
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": rules,
    }


def _allow(names: str, arguments: list[dict[str, Any]] | None = None, **conditions: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW", "args": arguments or [], **conditions}


def _compare(operator: str, value: int) -> dict[str, Any]:
    """A condition on the call's first argument; MASKED_EQ: none of the bits in *value* is set."""
    return {"index": 0, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": 0}
