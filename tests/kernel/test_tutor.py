"""The errno tutor: every cause is provoked for real, and silent where the same errno has another.

Conditions that this machine does not have (a distribution's sysctl) are read from a made-up /proc.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import KernelError
from minidock.kernel import overlay, syscalls, tutor
from minidock.kernel.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
)

InChild = Callable[..., Any]
NOBODY = 65534


@pytest.fixture
def refused(in_child: InChild) -> Callable[..., tuple[str, str]]:
    """``refused(call, *arguments)`` → (errno name, cause or "") of the KernelError that *call* raises."""

    def run(call: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
        answer: tuple[str, str] = in_child(provoke, call, *arguments)
        return answer

    return run


def provoke(call: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
    try:
        call(*arguments)
    except KernelError as error:
        if error.cause:
            assert error.hint, f"the cause {error.cause!r} has no hint"
        return error.errno_name, error.cause or ""
    return "", "nothing was refused"


@pytest.fixture
def place(root: Path) -> Path:
    """An empty directory."""
    made = root / "place"
    made.mkdir()
    return made


def mounted(path: Path, fstype: str = "tmpfs") -> Path:
    path.mkdir(exist_ok=True)
    syscalls.mount(fstype, path, fstype)
    return path


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    syscalls.set_dumpable(True)  # else /proc/self belongs to root


def in_user_namespace(call: Callable[[], Any], flags: int = 0) -> tuple[str, str]:
    """Run *call* in a child with a user namespace, as root there; the answer comes through a pipe."""
    ready, go = os.pipe()
    reader, writer = os.pipe()
    child = syscalls.clone(CLONE_NEWUSER | flags)
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        name, cause = provoke(call)
        os.write(writer, f"{name}\n{cause}".encode())
        os._exit(0)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text("0 0 65536")
    os.close(go)
    os.waitpid(child, 0)
    name, _, cause = os.read(reader, 10_000).decode().partition("\n")
    return name, cause


# --- pivot_root ----------------------------------------------------------------------------------


def test_shared_mount(refused: Any, place: Path) -> None:
    def call() -> None:
        syscalls.mount(None, "/", flags=MS_SHARED | MS_REC)
        mounted(place)
        syscalls.pivot_root(place, place)

    name, cause = refused(call)
    assert name == "EINVAL"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    assert "is a shared mount (mountinfo line " in cause and len(lines) > 0


def test_pivot_einval_without_a_shared_mount_is_not_blamed_on_one(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        (place / "plain").mkdir()
        syscalls.pivot_root(place / "plain", place / "plain")

    name, cause = refused(call)
    assert name == "EINVAL"
    assert "shared" not in cause
    assert f"{place}/plain is not a mount point" in cause


def test_pivot_busy_because_the_new_root_is_a_plain_directory(refused: Any) -> None:
    assert refused(syscalls.pivot_root, "/etc", "/etc") == (
        "EBUSY",
        "/etc is not a mount point but a plain directory",
    )


def test_pivot_to_an_old_root_outside(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        other = mounted(place.parent / "other")
        syscalls.pivot_root(place, other)

    assert refused(call) == ("EINVAL", f"{place.parent}/other is not below {place}")


def test_pivot_in_a_chroot(refused: Any, place: Path) -> None:
    def call() -> None:
        (place / "new").mkdir()
        (place / "proc").mkdir()
        syscalls.mount("proc", place / "proc", "proc")
        syscalls.chroot(place)
        os.chdir("/")
        syscalls.mount("tmpfs", "/new", "tmpfs")
        syscalls.pivot_root("/new", "/new")

    name, cause = refused(call)
    assert name == "EINVAL"
    assert "this process is in a chroot" in cause


# --- mount and umount ----------------------------------------------------------------------------


def test_umount_of_no_mount_point(refused: Any, place: Path) -> None:
    assert refused(syscalls.umount, place) == ("EINVAL", f"nothing is mounted at {place}")


def test_umount_einval_on_a_mount_point_is_not_called_no_mount_point(refused: Any, place: Path) -> None:
    """MNT_EXPIRE with MNT_DETACH is invalid wherever it is asked."""

    def call() -> None:
        mounted(place)
        syscalls.umount(place, syscalls.MNT_EXPIRE | MNT_DETACH)

    assert refused(call) == ("EINVAL", "")


def test_change_of_a_plain_directory(refused: Any, place: Path) -> None:
    for flags in (MS_PRIVATE, MS_REMOUNT | MS_BIND | MS_RDONLY):
        name, cause = refused(syscalls.mount, None, place, None, flags)
        assert name == "EINVAL"
        assert f"{place} is not a mount point" in cause


def test_conflicting_propagation_flags_are_not_called_no_mount_point(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        syscalls.mount(None, place, flags=MS_PRIVATE | MS_SHARED)

    assert refused(call) == ("EINVAL", "")


def test_busy_with_an_open_file(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        os.open(place / "file", os.O_CREAT | os.O_RDWR)
        syscalls.umount(place)

    name, cause = refused(call)
    assert name == "EBUSY"
    assert "in use by" in cause and "(pid " in cause


def test_busy_with_another_processs_directory(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.chdir(place)
            Path("/proc/self/comm").write_text("sitting-there")
            os.write(writer, b"x")
            threading.Event().wait()
        os.read(reader, 1)
        syscalls.umount(place)

    name, cause = refused(call)
    assert name == "EBUSY"
    assert "sitting-there (pid " in cause


def test_busy_with_another_mount_names_the_mount_and_no_process(refused: Any, place: Path) -> None:
    def call() -> None:
        mounted(place)
        mounted(place / "above")
        syscalls.umount(place)

    assert refused(call) == ("EBUSY", f"other mounts lie on it: {place}/above")


def test_busy_because_it_is_mounted_already(refused: Any, place: Path) -> None:
    def call(twice: bool) -> None:
        syscalls.mount("sysfs", place, "sysfs")
        if twice:
            syscalls.mount("sysfs", place, "sysfs")
        else:
            os.open(place, os.O_RDONLY)
            syscalls.umount(place)

    name, cause = refused(call, True)
    assert name == "EBUSY"
    assert f"sysfs is already mounted at {place} (mountinfo line" in cause
    assert "already mounted" not in refused(call, False)[1]


def test_no_cap_sys_admin(refused: Any, place: Path) -> None:
    def call() -> None:
        effective, permitted, _ = syscalls.capget()
        without = ~(1 << 21)
        syscalls.capset(effective & without, permitted & without, 0)
        syscalls.mount("tmpfs", place, "tmpfs")

    name, cause = refused(call)
    assert name == "EPERM"
    assert "lacks CAP_SYS_ADMIN (CapEff " in cause


def test_eperm_with_cap_sys_admin_is_not_blamed_on_it(in_child: InChild, place: Path) -> None:
    """In a user namespace root has every capability, yet may not mount a disk's filesystem."""

    def call() -> None:
        syscalls.mount("/dev/loop0", place, "ext4")

    name, cause = in_child(in_user_namespace, call, CLONE_NEWNS)
    assert name == "EPERM"
    assert "lacks" not in cause


@pytest.mark.parametrize(
    ("capability", "number", "call"),
    [
        ("CAP_SYS_CHROOT", 18, lambda: syscalls.chroot("/")),
        ("CAP_MKNOD", 27, lambda: syscalls.mknod("/dev/shm/never", 0o020666, os.makedev(1, 3))),
        ("CAP_SETGID", 6, lambda: syscalls.setgroups([1])),
        ("CAP_SYS_RESOURCE", 24, lambda: syscalls.setrlimit("nofile", 1 << 20, 1 << 30)),
    ],
)
def test_other_capabilities(refused: Any, capability: str, number: int, call: Callable[[], None]) -> None:
    def without() -> None:
        effective, permitted, _ = syscalls.capget()
        syscalls.capset(effective & ~(1 << number), permitted & ~(1 << number), 0)
        call()

    name, cause = refused(without)
    assert name == "EPERM"
    assert f"lacks {capability}" in cause


def test_devices_in_a_user_namespace(in_child: InChild, place: Path) -> None:
    def call() -> None:
        syscalls.mknod(place / "null", 0o020666, os.makedev(1, 3))

    name, cause = in_child(in_user_namespace, call)
    assert (name, cause) == ("EPERM", "device nodes cannot be made in a user namespace")


def test_a_covered_proc_in_a_user_namespace(in_child: InChild, place: Path) -> None:
    def covered() -> tuple[str, str]:
        syscalls.mount("/dev/null", "/proc/kallsyms", flags=MS_BIND)
        return in_user_namespace(lambda: syscalls.mount("proc", place, "proc"), CLONE_NEWNS | CLONE_NEWPID)

    name, cause = in_child(covered)
    assert name == "EPERM"
    assert "/proc/kallsyms" in cause


def test_unknown_filesystem(refused: Any, place: Path) -> None:
    name, cause = refused(syscalls.mount, "x", place, "nosuchfs")
    assert name == "ENODEV"
    assert "no filesystem 'nosuchfs'" in cause
    known = tutor.explain("mount", {"target": str(place), "fstype": "tmpfs"}, errno.ENODEV)
    assert known is None


def test_unknown_mount_option(refused: Any, place: Path) -> None:
    name, cause = refused(syscalls.mount, "tmpfs", place, "tmpfs", 0, "size=1m,colour=blue,mode=755")
    assert name == "EINVAL"
    assert "does not take the option 'colour=blue'" in cause
    assert "Unknown parameter" in cause


def test_a_bad_value_is_quoted_too(refused: Any, place: Path) -> None:
    name, cause = refused(syscalls.mount, "tmpfs", place, "tmpfs", 0, "size=large")
    assert name == "EINVAL"
    assert "'size=large'" in cause


def test_einval_with_good_options_is_not_blamed_on_them(refused: Any, place: Path) -> None:
    name, cause = refused(syscalls.mount, None, place, "tmpfs", MS_REMOUNT, "size=1m")
    assert name == "EINVAL"
    assert "option" not in cause
    assert "is not a mount point" in cause


def test_a_file_bound_on_a_directory(refused: Any, place: Path) -> None:
    name, cause = refused(syscalls.mount, "/etc/passwd", place, None, MS_BIND)
    assert (name, cause) == ("ENOTDIR", f"/etc/passwd is a file and {place} is a directory")


def test_read_only_mount(refused: Any, place: Path) -> None:
    def call() -> None:
        syscalls.mount("tmpfs", place, "tmpfs", MS_RDONLY)
        syscalls.mkdir(place / "new")

    name, cause = refused(call)
    assert name == "EROFS"
    assert f"lies on {place}, which is mounted read-only" in cause


def test_missing_part_of_a_path(refused: Any, place: Path) -> None:
    missing = place / "a/b/c"
    name, cause = refused(syscalls.chdir, missing)
    assert (name, cause) == ("ENOENT", f"{missing} does not exist: {place}/a is missing")
    (place / "dangling").symlink_to("/nowhere")
    assert "is a link to /nowhere" in refused(syscalls.chdir, place / "dangling")[1]
    (place / "file").touch()
    assert refused(syscalls.chdir, place / "file/x")[1] == f"{place}/file is not a directory"


def fake_proc(place: Path, **files: str) -> Path:
    """A /proc with this process's real files, and *files* (``sys__fs__mount_max``) made up."""
    proc = place / "proc"
    proc.mkdir()
    for name in ("self", "thread-self", "filesystems"):
        (proc / name).symlink_to(f"/proc/{name}")
    for name, content in files.items():
        file = proc / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return proc


def test_too_many_mounts(place: Path) -> None:
    (place / "few").mkdir()
    (place / "many").mkdir()
    few = fake_proc(place / "few", **{"sys__fs__mount-max": "3\n"})
    many = fake_proc(place / "many", **{"sys__fs__mount-max": "100000\n"})
    arguments = {"target": "/mnt", "fstype": "tmpfs"}
    answer = tutor.explain("mount", arguments, errno.ENOSPC, proc=few)
    assert answer is not None and "fs.mount-max is 3" in answer[0]
    assert tutor.explain("mount", arguments, errno.ENOSPC, proc=many) is None


# --- overlay -------------------------------------------------------------------------------------


@pytest.fixture
def stage(place: Path) -> Path:
    for name in ("lower", "upper", "work", "merged", "other"):
        (place / name).mkdir()
    return place


def stack(stage: Path, upper: Path, work: Path) -> None:
    overlay.mount_overlay([stage / "lower"], stage / "merged", upper, work)


def test_overlay_on_overlay(refused: Any, stage: Path) -> None:
    def call() -> None:
        stack(stage, stage / "upper", stage / "work")
        for name in ("upper", "work", "merged"):
            (stage / "merged" / name).mkdir()
        inner = stage / "merged"
        overlay.mount_overlay([stage / "lower"], stage / "other", inner / "upper", inner / "work")

    name, cause = refused(call)
    assert name == "EINVAL"
    assert "lies on overlay (mountinfo line" in cause


def test_overlay_with_work_on_another_mount(refused: Any, stage: Path) -> None:
    def call() -> None:
        stack(stage, stage / "upper", mounted(stage / "work"))

    name, cause = refused(call)
    assert name == "EINVAL"
    assert "the work directory lies on another mount" in cause
    assert "cannot hold" not in cause


def test_overlay_with_work_in_upper(refused: Any, stage: Path) -> None:
    (stage / "upper/work").mkdir()
    name, cause = refused(stack, stage, stage / "upper", stage / "upper/work")
    assert (name, cause) == ("EINVAL", "the upper and work directories lie inside each other")


def test_overlay_on_a_read_only_mount(refused: Any, stage: Path) -> None:
    def call() -> None:
        syscalls.mount(stage, stage, flags=MS_BIND)
        syscalls.mount(None, stage, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
        stack(stage, stage / "upper", stage / "work")

    name, cause = refused(call)
    assert name in ("EINVAL", "EROFS")
    assert "read-only" in cause


def test_overlay_einval_from_an_option_is_not_blamed_on_the_upper(refused: Any, stage: Path) -> None:
    data = f"lowerdir={stage}/lower,upperdir={stage}/upper,workdir={stage}/work,colour=blue"
    name, cause = refused(syscalls.mount, "overlay", stage / "merged", "overlay", 0, data)
    assert name == "EINVAL"
    assert "upper" not in cause


# --- namespaces ----------------------------------------------------------------------------------


def test_user_namespaces_switched_off_by_sysctl(in_child: InChild) -> None:
    """The limit belongs to each user namespace: set to 0 inside one, it binds there only."""

    def call() -> None:
        syscalls.write_file("/proc/sys/user/max_user_namespaces", "0")
        syscalls.unshare(CLONE_NEWUSER)

    name, cause = in_child(in_user_namespace, call)
    assert name == "ENOSPC"
    assert "user namespaces are switched off: user.max_user_namespaces is 0" in cause


def test_enospc_of_another_kind_is_not_blamed_on_user_namespaces(in_child: InChild) -> None:
    def call() -> None:
        syscalls.write_file("/proc/sys/user/max_uts_namespaces", "0")
        syscalls.unshare(CLONE_NEWUTS)

    name, cause = in_child(in_user_namespace, call)
    assert name == "ENOSPC"
    assert "uts namespaces are switched off" in cause


def test_user_namespaces_forbidden_by_debians_sysctl(in_child: InChild, place: Path) -> None:
    proc = fake_proc(place, sys__kernel__unprivileged_userns_clone="0\n")

    def ask(as_nobody: bool) -> Any:
        if as_nobody:
            become_nobody()
        return tutor.explain("unshare", {"flags": "CLONE_NEWUSER"}, errno.EPERM, proc=proc)

    answer = in_child(ask, True)
    assert answer and "kernel.unprivileged_userns_clone is 0" in answer[0]
    assert in_child(ask, False) is None, "root is not bound by it"


def test_user_namespace_in_a_chroot(refused: Any, place: Path) -> None:
    """The same EPERM without that sysctl."""

    def call() -> None:
        (place / "proc").mkdir()
        syscalls.mount("proc", place / "proc", "proc")
        syscalls.chroot(place)
        os.chdir("/")
        syscalls.unshare(CLONE_NEWUSER)

    assert refused(call) == ("EPERM", "a process in a chroot may not make a user namespace")


def test_user_namespaces_restricted_by_apparmor(in_child: InChild, place: Path) -> None:
    (place / "on").mkdir()
    (place / "off").mkdir()
    on = fake_proc(place / "on", sys__kernel__apparmor_restrict_unprivileged_userns="1\n")
    off = fake_proc(place / "off", sys__kernel__apparmor_restrict_unprivileged_userns="0\n")

    def ask(proc: Path, operation: str, arguments: dict[str, Any]) -> Any:
        become_nobody()
        return tutor.explain(operation, arguments, errno.EPERM, proc=proc)

    making = ("unshare", {"flags": "CLONE_NEWUSER"})
    answer = in_child(ask, on, *making)
    assert answer and "AppArmor" in answer[0]
    assert in_child(ask, off, *making) is None
    plain = in_child(ask, on, "mount", {"target": "/mnt", "fstype": "tmpfs"})
    assert plain and "lacks CAP_SYS_ADMIN" in plain[0], (
        "outside a user namespace it is a plain lack of rights"
    )


def test_a_pid_namespace_whose_init_is_dead(refused: Any) -> None:
    def call() -> None:
        syscalls.unshare(CLONE_NEWPID)
        first = os.fork()
        if first == 0:
            os._exit(0)
        os.waitpid(first, 0)
        syscalls.clone(0)

    name, cause = refused(call)
    assert name == "ENOMEM"
    assert "process 1 has ended" in cause and "pid:[" in cause


def test_an_unreaped_init_is_dead_too(refused: Any) -> None:
    def call() -> None:
        syscalls.unshare(CLONE_NEWPID)
        first = os.fork()
        if first == 0:
            os._exit(0)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        syscalls.clone(0)

    name, cause = refused(call)
    assert name == "ENOMEM"
    assert "process 1 has ended" in cause


def test_enomem_with_a_living_init_is_not_blamed_on_it(in_child: InChild) -> None:
    def ask() -> Any:
        before = tutor.explain("clone", {"flags": "0"}, errno.ENOMEM)
        syscalls.unshare(CLONE_NEWPID)
        if os.fork() == 0:
            threading.Event().wait()
        return before, tutor.explain("clone", {"flags": "0"}, errno.ENOMEM)

    assert in_child(ask) == (None, None)


def test_several_threads(refused: Any) -> None:
    def call(flags: int) -> None:
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        try:
            syscalls.unshare(flags)
        finally:
            stop.set()

    name, cause = refused(call, CLONE_NEWUSER)
    assert (name, cause) == ("EINVAL", "this process has 2 threads")
    assert refused(call, 0x1) == ("EINVAL", ""), "an unknown flag is another cause"


def test_the_wrong_namespace_file(refused: Any) -> None:
    def call(path: str, kind: int) -> None:
        syscalls.setns(os.open(path, os.O_RDONLY), kind)

    name, cause = refused(call, "/proc/self/ns/uts", CLONE_NEWNS)
    assert (name, cause) == ("EINVAL", "the descriptor is a uts namespace, not mnt")
    assert "in that user namespace already" in refused(call, "/proc/self/ns/user", CLONE_NEWUSER)[1]
    assert "not a namespace" in refused(call, "/etc/passwd", CLONE_NEWNS)[1]


# --- id maps -------------------------------------------------------------------------------------


@pytest.fixture
def map_ids(in_child: InChild) -> Callable[..., tuple[str, str]]:
    """``map_ids("uid_map", text, …)``: write maps of a child in a new user namespace until one is refused."""

    def run(*writes: str, nobody: bool = False) -> tuple[str, str]:
        def act() -> tuple[str, str]:
            if nobody:
                become_nobody()
            child = syscalls.clone(CLONE_NEWUSER)
            if child == 0:
                threading.Event().wait()
            answer = ("", "nothing was refused")
            for name, text in zip(writes[::2], writes[1::2], strict=True):
                answer = provoke(syscalls.write_file, f"/proc/{child}/{name}", text)
            return answer

        answer: tuple[str, str] = in_child(act)
        return answer

    return run


def test_id_map_written_already(map_ids: Any) -> None:
    name, cause = map_ids("uid_map", "0 100000 10", "uid_map", "0 100000 10")
    assert name == "EPERM"
    assert "written already (0 100000 10)" in cause


def test_id_map_overlap(map_ids: Any) -> None:
    assert map_ids("uid_map", "0 1000 10\n5 3000 10") == (
        "EINVAL",
        "the ranges overlap inside: 0..9 and 5..",
    )
    assert "overlap outside: 1000..1009" in map_ids("gid_map", "0 1000 10\n50 1005 10")[1]
    assert "three numbers" in map_ids("uid_map", "0 zero 1")[1]
    assert "empty" in map_ids("uid_map", "0 0 0")[1]


def test_id_map_of_more_than_oneself(map_ids: Any) -> None:
    name, cause = map_ids("uid_map", "0 65534 2", nobody=True)
    assert name == "EPERM"
    assert "only one id, one's own" in cause
    name, cause = map_ids("uid_map", "0 1234 1", nobody=True)
    assert "must be one's own, 65534" in cause


def test_gid_map_before_setgroups_is_given_up(map_ids: Any) -> None:
    name, cause = map_ids("gid_map", "0 65534 1", nobody=True)
    assert name == "EPERM"
    assert "setgroups" in cause
    assert map_ids("setgroups", "deny", "gid_map", "0 65534 1", nobody=True)[0] == ""


def test_ids_that_the_parent_does_not_have(in_child: InChild) -> None:
    def inside() -> None:
        child = syscalls.clone(CLONE_NEWUSER)
        if child == 0:
            threading.Event().wait()
        try:
            syscalls.write_file(f"/proc/{child}/uid_map", "0 100000 10")
        finally:
            os.kill(child, 9)

    name, cause = in_child(in_user_namespace, inside)
    assert name == "EPERM"
    assert "the ids 100000..100009 do not exist in this user namespace" in cause


# --- cgroups -------------------------------------------------------------------------------------


@pytest.fixture
def unified(cgroup_parent: str) -> Iterator[Path]:
    """A group of our own in the cgroup v2 hierarchy, which on a hybrid machine has few controllers."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    tops = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not tops:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    group = Path(tops[0]) / cgroup_parent
    group.mkdir()
    yield group
    for directory in (*(each for each in group.iterdir() if each.is_dir()), group):
        directory.rmdir()


def controllers(group: Path) -> list[str]:
    return (group / "cgroup.controllers").read_text().split()


def test_controller_not_delegated(refused: Any, unified: Path) -> None:
    """A group gets a controller only by the subtree_control of the one above."""
    above, group = unified.parent, unified
    if controllers(group):
        above, group = unified, unified / "child"
        group.mkdir()
    withheld = [each for each in controllers(above) if each not in controllers(group)]
    if not withheld:
        pytest.skip("this hierarchy has no controllers at all")
    name, cause = refused(syscalls.write_file, group / f"{withheld[0]}.max", "1")
    assert name == "ENOENT"
    assert f"{withheld[0]} is not delegated: {above}/cgroup.subtree_control lacks it" in cause
    assert refused(syscalls.write_file, group / "cgroup.subtree_control", f"+{withheld[0]}")[1] == cause


def test_a_controller_that_the_hierarchy_lacks(refused: Any, unified: Path) -> None:
    name, cause = refused(syscalls.write_file, unified / "nonsense.max", "1")
    assert name == "ENOENT"
    assert "does not offer the controller nonsense" in cause


def test_enoent_of_a_missing_group_is_not_blamed_on_delegation(refused: Any, unified: Path) -> None:
    missing = unified / "missing"
    name, cause = refused(syscalls.write_file, missing / "memory.max", "1")
    assert name == "ENOENT"
    assert "delegated" not in cause
    assert f"{missing} is missing" in cause


def membership() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.partition("::")[2] for line in lines if line.startswith("0::"))


def test_a_cgroup_in_use_is_not_removed(in_child: InChild, unified: Path) -> None:
    def call() -> list[tuple[str, str]]:
        home = Path(f"{unified.parent}{membership()}")
        (unified / "cgroup.procs").write_text("0")
        answers = [provoke(syscalls.rmdir, unified)]
        (home / "cgroup.procs").write_text("0")
        (unified / "child").mkdir()
        answers.append(provoke(syscalls.rmdir, unified))
        return answers

    with_process, with_child = in_child(call)
    assert with_process[0] == "EBUSY"
    assert "the cgroup still holds" in with_process[1] and "(pid " in with_process[1]
    assert with_child == ("EBUSY", "the cgroup still holds the groups child")


def test_a_directory_in_use_is_not_called_a_cgroup(refused: Any, place: Path) -> None:
    assert refused(lambda: syscalls.rmdir(mounted(place))) == ("EBUSY", f"{place} is a mount point")


@pytest.mark.vm
def test_inner_processes(in_child: InChild, unified: Path) -> None:
    # Not cpu or pids: a group with processes may pass on controllers that divide threads.
    offered = [name for name in controllers(unified) if name in ("memory", "io")]
    if not offered:
        pytest.skip("needs cgroup v2 with a controller: runs in the VM")

    def call() -> list[tuple[str, str]]:
        home = Path(f"{unified.parent}{membership()}")
        (unified / "cgroup.procs").write_text("0")
        answers = [provoke(syscalls.write_file, unified / "cgroup.subtree_control", f"+{offered[0]}")]
        (home / "cgroup.procs").write_text("0")
        (unified / "cgroup.subtree_control").write_text(f"+{offered[0]}")
        answers.append(provoke(syscalls.write_file, unified / "cgroup.procs", "0"))
        return answers

    enable, attach = in_child(call)
    assert enable[0] == "EBUSY" and "holds processes itself" in enable[1]
    assert attach[0] == "EBUSY" and f"passes controllers on ({offered[0]})" in attach[1]


def test_a_cgroup_of_another_user(refused: Any, unified: Path) -> None:
    def call() -> None:
        become_nobody()
        syscalls.write_file(unified / "cgroup.procs", "0")

    name, cause = refused(call)
    assert name == "EACCES"
    assert f"the cgroup {unified} belongs to user 0 and this is user {NOBODY}" in cause


def test_eacces_on_a_plain_file_is_not_called_delegation(refused: Any, place: Path) -> None:
    def call() -> None:
        os.chmod(place.parent, 0o755)
        (place / "file").touch(mode=0o600)
        become_nobody()
        syscalls.write_file(place / "file", "x")

    assert refused(call) == ("EACCES", "")


def test_an_empty_cpuset(refused: Any, cgroup_parent: str) -> None:
    top = Path("/sys/fs/cgroup/cpuset")
    if not (top / "cpuset.cpus").exists():
        pytest.skip("needs cgroup v1's cpuset")
    group = top / cgroup_parent
    group.mkdir()
    try:
        name, cause = refused(syscalls.write_file, group / "cgroup.procs", "0")
        assert (name, cause) == ("ENOSPC", f"{group}/cpuset.cpus is empty")
    finally:
        group.rmdir()


# --- programs ------------------------------------------------------------------------------------


def run(path: Path) -> None:
    syscalls.execve(str(path), [path.name], [])


def program(path: Path, content: bytes, mode: int = 0o755) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_missing_interpreter_of_a_script(refused: Any, place: Path) -> None:
    script = program(place / "script", b"#!/usr/bin/nosuchinterpreter -x\n")
    name, cause = refused(run, script)
    assert name == "ENOENT"
    assert "exists, but the interpreter of its first line /usr/bin/nosuchinterpreter does not" in cause


def test_windows_line_ends(refused: Any, place: Path) -> None:
    name, cause = refused(run, program(place / "script", b"#!/bin/sh\r\necho\r\n"))
    assert name == "ENOENT"
    assert "Windows line ends" in cause


def test_missing_loader_in_the_image(refused: Any, place: Path) -> None:
    """A dynamically linked program in a root without its C library, seen from inside that root."""

    def call() -> None:
        shutil.copy("/bin/true", place / "true")
        syscalls.chroot(place)
        run(Path("/true"))

    name, cause = refused(call)
    assert name == "ENOENT"
    assert "/true exists, but its loader /lib" in cause


def test_a_missing_program_is_not_blamed_on_an_interpreter(refused: Any, place: Path) -> None:
    name, cause = refused(run, place / "nothing")
    assert name == "ENOENT"
    assert "exists, but" not in cause


def test_wrong_architecture(refused: Any, place: Path) -> None:
    elf = bytearray(Path("/bin/true").read_bytes())
    foreign = 183 if os.uname().machine == "x86_64" else 62
    struct.pack_into("<H", elf, 18, foreign)
    name, cause = refused(run, program(place / "foreign", bytes(elf)))
    assert name == "ENOEXEC"
    assert f"this machine is {os.uname().machine}" in cause


def test_enoexec_of_a_text_is_not_called_architecture(refused: Any, place: Path) -> None:
    name, cause = refused(run, program(place / "text", b"echo hello\n"))
    assert name == "ENOEXEC"
    assert "neither an ELF program nor a script" in cause
    assert "is empty" in refused(run, program(place / "empty", b""))[1]


def test_not_executable(refused: Any, place: Path) -> None:
    assert "no execute permission" in refused(run, program(place / "plain", b"#!/bin/sh\n", 0o644))[1]
    assert refused(run, place) == ("EACCES", f"{place} is a directory")

    def on_noexec() -> None:
        syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_NOEXEC)
        run(program(place / "script", b"#!/bin/sh\n"))

    assert refused(on_noexec) == ("EACCES", f"the mount {place} is noexec")


def test_open_for_writing(refused: Any, place: Path) -> None:
    script = program(place / "true", Path("/bin/true").read_bytes())

    def call() -> None:
        os.open(script, os.O_WRONLY)
        run(script)

    name, cause = refused(call)
    assert name == "ETXTBSY"
    assert f"{script} is open for writing by" in cause


def test_the_cause_is_found_after_a_change_of_root(refused: Any, busybox_rootfs: Path, place: Path) -> None:
    from minidock.kernel import rootfs

    def call() -> None:
        copy = place / "tree"
        shutil.copytree(busybox_rootfs, copy, symlinks=True)
        program(copy / "script", b"#!/usr/bin/python3\n")
        rootfs.pivot_into(copy)
        run(Path("/script"))

    name, cause = refused(call)
    assert name == "ENOENT"
    assert "/usr/bin/python3 does not" in cause


# --- ports ---------------------------------------------------------------------------------------


def bind(port: int, listen: bool = True) -> socket.socket:
    door = socket.socket()
    door.bind(("127.0.0.1", port))
    if listen:
        door.listen()
    return door


@pytest.mark.parametrize("listen", [True, False])
def test_address_in_use(listen: bool) -> None:
    """A socket that is bound but does not listen gives the same errno: nobody can be named."""
    with bind(0, listen) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError) as caught:
            bind(port)
        assert caught.value.errno == errno.EADDRINUSE
        answer = tutor.explain("bind", {"address": f"127.0.0.1:{port}"}, errno.EADDRINUSE)
    if listen:
        assert answer is not None
        assert f"port {port} is taken: " in answer[0] and f"(pid {os.getpid()})" in answer[0]
    else:
        assert answer is None


# --- the tutor itself ----------------------------------------------------------------------------


def test_what_it_does_not_know_it_does_not_explain() -> None:
    assert tutor.explain("mount", {"target": "/mnt", "flags": "MS_BIND"}, errno.EIO) is None
    assert tutor.explain("frobnicate", {}, errno.EINVAL) is None


def test_it_never_raises_where_proc_is_missing(place: Path) -> None:
    operations = {name for operations, _, _ in tutor.CAUSES for name in operations}
    numbers = {number for _, errnos, _ in tutor.CAUSES for number in errnos}
    for operation in operations:
        for number in numbers:
            tutor.explain(operation, {"flags": "CLONE_NEWUSER"}, number, proc=place / "nowhere")


def test_seccomp_without_no_new_privs(refused: Any) -> None:
    def call(with_no_new_privs: bool) -> None:
        effective, permitted, _ = syscalls.capget()
        syscalls.capset(effective & ~(1 << 21), permitted & ~(1 << 21), 0)
        if with_no_new_privs:
            syscalls.set_no_new_privs()
        syscalls.seccomp_install(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))

    name, cause = refused(call, False)
    assert name == "EACCES"
    assert "no_new_privs" in cause
    assert refused(call, True)[0] == ""


def test_nodev_is_a_flag_not_an_option(refused: Any, place: Path) -> None:
    """`nodev` in the options is mount(8)'s; the kernel takes it as a flag."""
    name, cause = refused(syscalls.mount, "tmpfs", place, "tmpfs", MS_NODEV, "nodev")
    assert name == "EINVAL"
    assert "'nodev'" in cause
