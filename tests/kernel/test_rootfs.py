"""rootfs: a root of its own, Docker's /proc, /sys and /dev, what is hidden and protected."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minidock import trace
from minidock.errors import InvalidInput
from minidock.kernel import mounts, rootfs, syscalls
from minidock.kernel.syscalls import CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID

pytestmark = pytest.mark.vm

InChild = Callable[..., Any]
SPACES = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID


def container(
    root: Path, look: Callable[[], Any], spaces: int = SPACES, protect: bool = True, **options: Any
) -> Any:
    """Run *look* as process 1 of a container on *root*; its result travels as JSON."""
    reader, writer = os.pipe()
    child = syscalls.clone(spaces)
    if child == 0:
        try:
            rootfs.isolate_mounts()
            rootfs.mount_system(root, **options)
            rootfs.pivot_into(root)
            if protect:
                rootfs.make_read_only()
                rootfs.mask()
            os.write(writer, json.dumps(look()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(f"failed: {type(error).__name__}: {error}").encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def tree(root: Path, busybox_rootfs: Path) -> Path:
    """A writable copy of the busybox root filesystem."""
    copy = root / "tree"
    shutil.copytree(busybox_rootfs, copy, symlinks=True)
    return copy


def table() -> dict[str, mounts.MountPoint]:
    return {each.path: each for each in rootfs.mountinfo()}


# --- the root directory --------------------------------------------------------------------------


def test_after_pivot_no_path_leads_to_the_host(in_child: InChild, tree: Path) -> None:
    def look() -> list[Any]:
        climbed = os.stat("/" + "../" * 50)
        here = os.stat("/")
        return [
            sorted(os.listdir("/")),
            (climbed.st_dev, climbed.st_ino) == (here.st_dev, here.st_ino),
            os.getcwd(),
            [path for path in table() if path.startswith(str(tree.parent))],
        ]

    names, climbed_to_itself, directory, host_mounts = in_child(container, tree, look)
    assert "work" not in names and {"bin", "proc", "sys", "dev"} <= set(names)
    assert climbed_to_itself
    assert directory == "/"
    assert host_mounts == []


def test_root_walks_out_of_a_chroot_but_not_out_of_pivot_root(in_child: InChild, tree: Path) -> None:
    def escape() -> list[str]:
        """The classic: with the working directory outside a second chroot, `..` meets no root."""
        os.makedirs("/inner", exist_ok=True)
        os.chroot("/inner")
        for _ in range(50):
            os.chdir("..")
        os.chroot(".")
        return sorted(os.listdir("/"))

    def with_chroot() -> list[str]:
        rootfs.enter_chroot(tree)
        assert os.getcwd() == "/"
        return escape()

    assert "inner" not in in_child(with_chroot)
    assert "inner" in in_child(container, tree, escape)


def test_isolate_mounts_cuts_the_events_and_says_what_it_does_not_know(in_child: InChild) -> None:
    def look(propagation: str) -> tuple[str, ...]:
        syscalls.mount(None, "/", flags=syscalls.MS_SHARED)
        rootfs.isolate_mounts(propagation)
        return next(each.propagation for each in mounts.mountinfo() if each.path == "/")

    assert in_child(look, "rprivate") == ()
    assert in_child(look, "private") == ()
    assert in_child(look, "shared")[0].startswith("shared:")
    with pytest.raises(InvalidInput, match="'open'"):
        rootfs.isolate_mounts("open")


def test_a_mount_in_an_isolated_namespace_stays_there(in_child: InChild, tree: Path) -> None:
    def look() -> list[bool]:
        """The outer namespace shares; what the inner one mounts must not come out."""
        syscalls.mount(str(tree), tree, flags=syscalls.MS_BIND)
        syscalls.mount(None, tree, flags=syscalls.MS_SHARED)
        seen = []
        for isolate in (False, True):
            child = os.fork()
            if child == 0:
                syscalls.unshare(syscalls.CLONE_NEWNS)
                if isolate:
                    rootfs.isolate_mounts()
                syscalls.mount("tmpfs", tree / "tmp", "tmpfs")
                os._exit(0)
            os.waitpid(child, 0)
            seen.append(os.path.ismount(tree / "tmp"))
            if seen[-1]:
                syscalls.umount(tree / "tmp")
        return seen

    assert in_child(look) == [True, False]


def test_pivot_does_not_unmount_the_hosts_mounts_even_where_they_are_shared(
    in_child: InChild, tree: Path
) -> None:
    def look() -> list[bool]:
        host = tree.parent / "host"
        host.mkdir()
        syscalls.mount("tmpfs", host, "tmpfs")
        syscalls.mount(None, "/", flags=syscalls.MS_SHARED | syscalls.MS_REC)
        child = os.fork()
        if child == 0:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            rootfs.isolate_mounts("rslave")
            rootfs.pivot_into(tree)
            os._exit(len(rootfs.mountinfo("/proc/self/mountinfo")) if os.path.exists("/proc/self") else 0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return [code == 0, os.path.ismount(host), os.path.ismount("/proc")]

    assert in_child(look) == [True, True, True]


def test_pivot_is_recorded_step_by_step(in_child: InChild, tree: Path) -> None:
    def look() -> list[trace.Step]:
        with trace.recording(trace.Recorder()) as recorder:
            rootfs.pivot_into(tree)
        return recorder.steps

    steps = in_child(look)
    assert [step.operation for step in steps] == [
        "mount",
        "chdir",
        "pivot_root",
        "mount",
        "umount",
        "chdir",
    ]
    assert {step.mechanism for step in steps} == {"rootfs.pivot_into"}
    assert {step.lesson for step in steps} == {1}


# --- /proc, /sys and /dev ------------------------------------------------------------------------


def test_mounts_and_their_flags_are_dockers(in_child: InChild, tree: Path) -> None:
    def look() -> dict[str, list[Any]]:
        return {
            path: [each.fstype, sorted(each.options), sorted(each.super_options)]
            for path, each in table().items()
        }

    found = in_child(partial(container, shm_size=1 << 20), tree, look)
    plain = ["nodev", "noexec", "nosuid", "relatime"]
    assert found["/proc"][:2] == ["proc", [*plain, "rw"]]
    assert found["/dev"][:2] == ["tmpfs", ["nosuid", "rw"]]
    assert {"size=65536k", "mode=755"} <= set(found["/dev"][2])
    assert found["/dev/pts"][:2] == ["devpts", ["noexec", "nosuid", "relatime", "rw"]]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(found["/dev/pts"][2])
    assert found["/dev/shm"][:2] == ["tmpfs", [*plain, "rw"]]
    assert "size=1024k" in found["/dev/shm"][2]
    assert found["/dev/mqueue"][:2] == ["mqueue", [*plain, "rw"]]
    assert found["/sys"][:2] == ["sysfs", [*plain[:3], "relatime", "ro"]]
    assert "ro" in found["/sys/fs/cgroup"][1]


def test_dev_holds_what_dockers_holds_and_it_works(in_child: InChild, tree: Path) -> None:
    def look() -> list[Any]:
        devices = {}
        for name in os.listdir("/dev"):
            found = os.lstat(f"/dev/{name}")
            if stat.S_ISCHR(found.st_mode):
                device = (os.major(found.st_rdev), os.minor(found.st_rdev))
                devices[name] = [*device, oct(stat.S_IMODE(found.st_mode))]
            elif stat.S_ISLNK(found.st_mode):
                devices[name] = os.readlink(f"/dev/{name}")
            else:
                devices[name] = "directory"
        with open("/dev/null", "w") as null:
            null.write("x")
        with open("/dev/urandom", "rb") as random:
            length = len(random.read(8))
        _, secondary = os.openpty()
        return [devices, length, os.ttyname(secondary), os.path.exists("/dev/fd/0")]

    os_umask = os.umask(0o077)  # modes must not depend on who starts us
    try:
        devices, length, terminal, fd = in_child(container, tree, look)
    finally:
        os.umask(os_umask)
    assert devices == {
        "null": [1, 3, "0o666"],
        "zero": [1, 5, "0o666"],
        "full": [1, 7, "0o666"],
        "random": [1, 8, "0o666"],
        "urandom": [1, 9, "0o666"],
        "tty": [5, 0, "0o666"],
        "ptmx": "pts/ptmx",
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        **({"core": "/proc/kcore"} if os.path.exists("/proc/kcore") else {}),
        "pts": "directory",
        "shm": "directory",
        "mqueue": "directory",
    }
    assert (length, terminal, fd) == (8, "/dev/pts/0", True)


def test_proc_shows_only_the_containers_processes(in_child: InChild, tree: Path) -> None:
    def look() -> list[str]:
        return [name for name in os.listdir("/proc") if name.isdigit()]

    assert in_child(container, tree, look) == ["1"]


def write(path: str) -> str:
    try:
        with open(path, "r+") as file:
            file.write("0")
    except OSError as error:
        return error.strerror or ""
    return "written"


def test_kernel_files_are_hidden_and_protected(in_child: InChild, tree: Path) -> None:
    def look() -> list[Any]:
        hidden: dict[str, Any] = {}
        for path in rootfs.MASKED_PATHS:
            if os.path.isdir(path):
                hidden[path] = os.listdir(path)
            elif os.path.exists(path):
                hidden[path] = os.stat(path).st_rdev == os.makedev(1, 3)
        return [hidden, write("/proc/sys/vm/swappiness"), write("/proc/sysrq-trigger"), write("/sys/x")]

    hidden, sysctl, sysrq, sys = in_child(container, tree, look)
    assert hidden["/proc/keys"] is True
    assert hidden["/sys/firmware"] == []
    assert all(content in (True, []) for content in hidden.values())
    assert sysctl == "Read-only file system"
    assert sysrq in ("Read-only file system", "No such file or directory")
    assert sys in ("Read-only file system", "No such file or directory")


def test_the_lists_hold_dockers_paths() -> None:
    assert {
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/proc/interrupts",
    } <= set(rootfs.MASKED_PATHS)
    assert rootfs.READONLY_PATHS == (
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    )


def test_a_privileged_container_sees_the_hardware(in_child: InChild, tree: Path) -> None:
    def look() -> list[Any]:
        return [sorted(os.listdir("/dev")), "rw" in table()["/sys"].options, os.path.exists("/dev/console")]

    names, writable, console = in_child(partial(container, protect=False, privileged=True), tree, look)
    expected = {os.path.basename(each.path) for each in rootfs.host_devices() if each.path.count("/") == 2}
    assert expected and expected <= set(names)
    assert writable
    assert not console


def test_a_read_only_root(in_child: InChild, tree: Path) -> None:
    def look() -> list[str]:
        rootfs.make_read_only(["/"])
        results = []
        for path in ("/new", "/dev/shm/new"):
            try:
                with open(path, "w") as file:
                    file.write("x")
                results.append("written")
            except OSError as error:
                results.append(error.strerror or "")
        return results

    assert in_child(container, tree, look) == ["Read-only file system", "written"]


@pytest.mark.parametrize("own_cgroup", [True, False])
def test_the_container_sees_its_cgroup_read_only(in_child: InChild, tree: Path, own_cgroup: bool) -> None:
    def look() -> list[Any]:
        found = {path: each for path, each in table().items() if path.startswith("/sys/fs/cgroup")}
        return [
            sorted({each.fstype for each in found.values()}),
            all("ro" in e.options for e in found.values()),
        ]

    spaces = SPACES if own_cgroup else SPACES & ~CLONE_NEWCGROUP
    kinds, read_only = in_child(partial(container, own_cgroup=own_cgroup), tree, look, spaces)
    assert kinds in (["cgroup2"], ["cgroup", "tmpfs"])
    assert read_only


@pytest.mark.parametrize("own_cgroup", [True, False])
def test_cgroup_v2_is_one_read_only_mount(in_child: InChild, tree: Path, own_cgroup: bool) -> None:
    """Where the machine has v1, its v2 hierarchy is put at /sys/fs/cgroup of a private mount namespace."""
    unified = [each.path for each in mounts.mountinfo() if each.fstype == "cgroup2"]
    if not unified:
        pytest.skip("no cgroup v2 hierarchy is mounted")

    def look() -> list[Any]:
        shown = table()["/sys/fs/cgroup"]
        below = [path for path in table() if path.startswith("/sys/fs/cgroup/")]
        return [shown.fstype, "ro" in shown.options, below, os.path.exists("/sys/fs/cgroup/cgroup.procs")]

    def on_v2() -> Any:
        syscalls.mount(unified[0], "/sys/fs/cgroup", flags=syscalls.MS_BIND)
        spaces = SPACES if own_cgroup else SPACES & ~CLONE_NEWCGROUP
        return container(tree, look, spaces, own_cgroup=own_cgroup)

    assert in_child(on_v2) == ["cgroup2", True, [], True]


def test_shared_memory_can_be_the_hosts(in_child: InChild, tree: Path) -> None:
    share = tree.parent / "share"
    share.mkdir()
    (share / "segment").write_text("x")

    def look() -> list[str]:
        return os.listdir("/dev/shm")

    assert in_child(partial(container, own_ipc=False, shm=share), tree, look) == ["segment"]


def test_in_a_user_namespace_devices_are_borrowed(in_child: InChild, tree: Path) -> None:
    """mknod is EPERM there: the nodes are bind mounts of the host's."""

    def run() -> Any:
        ready, go = os.pipe()
        reader, writer = os.pipe()
        child = syscalls.clone(SPACES | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUSER)
        if child == 0:
            try:
                os.close(go)
                os.read(ready, 1)
                rootfs.isolate_mounts()
                rootfs.mount_system(tree)
                rootfs.pivot_into(tree)
                with open("/dev/null", "w") as null:
                    null.write("x")
                os.write(writer, json.dumps([table()["/dev/null"].fstype, os.listdir("/proc")[:0]]).encode())
            except BaseException as error:
                os.write(writer, json.dumps(str(error)).encode())
            os._exit(0)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 0 65536")
        os.close(go)
        os.waitpid(child, 0)
        return json.loads(os.read(reader, 10000))

    fstype, _ = in_child(run)
    assert fstype in ("devtmpfs", "tmpfs")


# --- paths of the image --------------------------------------------------------------------------


def test_links_in_the_image_never_lead_to_the_host(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "proc").symlink_to("/etc")
    (root / "up").symlink_to("../../../../outside")
    (root / "dangling").symlink_to("/made/here")
    (root / "loop").symlink_to("loop")
    assert rootfs.inside(root, "/proc") == root / "etc"
    assert rootfs.inside(root, "/up") == root / "outside"
    assert rootfs.inside(root, "/../../x/../etc") == root / "etc"
    assert rootfs.inside(root, "dangling") == root / "made/here"
    assert rootfs.inside(root, "/new/file", directory=False).is_file()
    assert list((tmp_path / "outside").iterdir()) == []
    with pytest.raises(InvalidInput, match="loop"):
        rootfs.inside(root, "/loop/x")
    (root / "file").write_text("x")
    with pytest.raises(InvalidInput, match="Not a directory"):
        rootfs.inside(root, "/file/below")


def test_an_image_whose_proc_is_a_link_does_not_get_the_hosts_covered(
    in_child: InChild, tree: Path, tmp_path: Path
) -> None:
    (tree / "proc").rmdir()
    (tree / "proc").symlink_to(tmp_path)

    def look() -> list[str]:
        return [path for path, each in table().items() if each.fstype == "proc"]

    unprotected = partial(container, protect=False)
    assert in_child(unprotected, tree, look) == [str(tmp_path)]  # the container's own, at that path
    assert list(tmp_path.iterdir()) == []


# --- mountinfo -----------------------------------------------------------------------------------


def test_mountinfo_reads_every_field() -> None:
    line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/ro\\134ot rw,errors=x\n"
    (point,) = mounts.parse(line)
    assert (point.id, point.parent, point.device, point.root) == (36, 35, "98:0", "/mnt1")
    assert point.path == "/mnt 2"
    assert point.options == ("rw", "noatime")
    assert point.propagation == ("shared:7", "master:1")
    assert point.shared
    assert (point.fstype, point.source) == ("ext3", "/dev/ro\\ot")
    assert point.super_options == ("rw", "errors=x")
    assert point.line == 1


def test_mountinfo_agrees_with_findmnt(in_child: InChild, tmp_path: Path) -> None:
    strange = tmp_path / "a b\tc\\d"
    strange.mkdir()

    def look() -> tuple[list[str], list[str]]:
        syscalls.mount("x", strange, "tmpfs")
        shown = subprocess.run(["findmnt", "-J", "-l"], capture_output=True, text=True, check=True).stdout
        theirs = [each["target"] for each in json.loads(shown)["filesystems"]]
        return sorted(each.path for each in mounts.mountinfo()), sorted(theirs)

    ours, theirs = in_child(look)
    assert ours == theirs
    assert str(strange) in ours
