"""How the default profile differs from the two profiles that Debian ships, call by call, and why.

The default follows the profile that Docker 28 publishes. Debian 12 ships two others in Docker's format:

* ``golang-github-docker-docker-dev``: Docker's own of 2022 (20.10). Newer calls are missing in it, and
  it still allows what Docker has refused since.
* ``golang-github-containers-common``: the one of podman and buildah, grown out of Docker's. It allows
  what makes containers inside containers, and answers ENOSYS to what it does not know.

Each entry: (our verdict, theirs): the calls. Verdicts are over all arguments that the tests try and over
three sets of capabilities (none, the default 14, all); a call stands here when any of them differs.
"""

DOCKER_20_10 = {
    # Calls that came to Linux, or to Docker's list, after 2022. EPERM would break new programs.
    ("allow", "EPERM"): """
        cachestat clock_settime64 fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount
        listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack mseal
        name_to_handle_at pkey_alloc pkey_free pkey_mprotect process_vm_readv process_vm_writev
        removexattrat set_mempolicy_home_node setxattrat statmount uretprobe
    """,
    # io_uring: refused since Docker 25, after a series of kernel holes. socket: AF_VSOCK only.
    ("EPERM", "allow"): "io_uring_enter io_uring_register io_uring_setup socket",
}

CONTAINERS_COMMON = {
    # Newer calls, as above.
    ("allow", "ENOSYS"): """
        cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat
        io_pgetevents_time64 listmount listxattrat lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr map_shadow_stack mseal quotactl_fd removexattrat set_mempolicy_home_node
        setxattrat statmount uretprobe
    """,
    # Docker needs the capability for these (and never allows keyctl, pivot_root and the obsolete
    # ones): without it a container could make a user namespace and reach for mounts in there.
    ("EPERM", "allow"): """
        clone fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr move_mount
        open_tree pidfd_getfd pivot_root query_module readdir reboot set_mempolicy setns sigaction
        signal sigpending sigsuspend socket syslog umount umount2 unshare
    """,
    # clone3 hides its flags from filters; libc falls back to clone, which is judged.
    ("ENOSYS", "allow"): "clone3",
    # Allowed by Docker: harmless, or the way io_submit is waited for.
    ("allow", "EPERM"): "io_pgetevents vmsplice",
    # Refused by both; Docker says "not permitted" where podman says "no such call".
    ("EPERM", "ENOSYS"): """
        _sysctl add_key afs_syscall break create_module file_getattr file_setattr ftime get_kernel_syms
        get_tls getpmsg gtty idle io_uring_enter io_uring_register io_uring_setup listns lock
        lsm_get_self_attr lsm_list_modules mpx open_tree_attr personality prof profil putpmsg
        quotactl_fd request_key security lsm_set_self_attr set_mempolicy_home_node stty tuxcall ulimit
        usr26 usr32 vserver
    """,
    # podman refuses NETLINK_AUDIT sockets by the filter, Docker leaves it to the missing capability.
    ("allow", "EINVAL"): "socket",
}
