"""The checks of lab 01. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import json
import os
from pathlib import Path

from minidock.kernel import rootfs, syscalls
from minidock.kernel.mounts import mountinfo
from minidock.lab.checks import World, expect, task

PROBE = "tmpfs-of-the-check"


def _mount_probe(directory):
    syscalls.mount(PROBE, directory, "tmpfs")


def _directory_on_the_root_mount():
    """A directory that lies on / itself, not on another mount below it."""
    for name in ("/mnt", "/srv", "/opt", "/home", "/usr", "/etc"):
        if os.path.isdir(name) and not os.path.ismount(name):
            return name
    raise AssertionError("this machine has no ordinary directory below /")


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_a_new_mount_stays_inside(world: World):
    place = _directory_on_the_root_mount()

    def story():
        rootfs.isolate_mounts()
        _mount_probe(place)

    told = world.tell(story, call="isolate_mounts()")
    expect(
        not told.leaks,
        call="isolate_mounts(), then a tmpfs is mounted",
        result=f"the mount shows up outside: {', '.join(told.leaks)}",
        expected="mounts made afterwards are seen inside only",
        next_step="Set the propagation of / to private: mount(2), MS_PRIVATE.",
    )


@task(1, needs=("test_a_new_mount_stays_inside",))
def test_mounts_below_stay_inside_too(world: World):
    def story():
        rootfs.isolate_mounts()
        _mount_probe(world.root / "tmp")  # the world's files are a mount of their own

    told = world.tell(story, call="isolate_mounts()")
    expect(
        not told.leaks,
        call="isolate_mounts(), then a tmpfs is mounted on another mounted filesystem",
        result=f"the mount shows up outside: {', '.join(told.leaks)}",
        expected="all mounts are private, not only the one at /",
        next_step="One more flag makes the change recursive: MS_REC.",
    )


@task(1, needs=("test_mounts_below_stay_inside_too",))
def test_rslave_still_hears_the_host(world: World):
    def story():
        rootfs.isolate_mounts("rslave")
        (root,) = [each for each in mountinfo() if each.path == "/"][-1:]
        return list(root.propagation)

    told = world.tell(story, call='isolate_mounts("rslave")')
    expect(
        any(word.startswith("master:") for word in told.value),
        call='isolate_mounts("rslave")',
        result=f"the mount at / has the propagation {told.value or 'private'}",
        expected="it is a slave (mountinfo says master:N)",
        next_step="Look at the argument: MS_SLAVE for rslave, MS_PRIVATE for rprivate.",
    )


# --- task 2 --------------------------------------------------------------------------------------


def _pivot(world: World):
    syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    rootfs.pivot_into(world.root)


@task(2)
def test_the_new_root_is_the_root(world: World):
    def story():
        _pivot(world)
        return Path("/etc/hostname").read_text()

    told = world.tell(
        story,
        call="pivot_into(root)",
        next_step="pivot_root wants a mount point: bind new_root to itself first.",
    )
    expect(
        told.value == "inside\n",
        call="pivot_into(root), then read /etc/hostname",
        result=repr(told.value),
        expected="'inside\\n', the file of the new root",
        next_step="Call syscalls.pivot_root after going into new_root.",
    )


@task(2, needs=("test_the_new_root_is_the_root",))
def test_the_working_directory_is_inside(world: World):
    def story():
        _pivot(world)
        try:
            return os.getcwd()
        except FileNotFoundError:
            return "(a directory that is not below /)"

    told = world.tell(story, call="pivot_into(root)")
    expect(
        told.value == "/",
        call="pivot_into(root), then os.getcwd()",
        result=told.value,
        expected="/",
        next_step='A working directory outside is an open door. End with chdir("/").',
    )


@task(2, needs=("test_the_new_root_is_the_root",))
def test_the_old_root_is_unmounted(world: World):
    def story():
        _pivot(world)
        syscalls.mount("proc", "/proc", "proc")
        return [f"{each.path} ({each.fstype})" for each in mountinfo("/proc/self/mountinfo")]

    told = world.tell(story, call="pivot_into(root)")
    expect(
        len(told.value) == 2,
        call="pivot_into(root), mount a /proc, then read /proc/self/mountinfo",
        result=f"{len(told.value)} mounts: {', '.join(told.value[:4])} …",
        expected="two: / and /proc",
        next_step="The old root is still mounted, on top of the new one. Unmount it with MNT_DETACH.",
    )


@task(2, needs=("test_the_old_root_is_unmounted", "test_the_working_directory_is_inside"))
def test_no_way_out(world: World):
    def story():
        _pivot(world)
        os.mkdir("/tmp/step")
        os.chroot("/tmp/step")
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return sorted(os.listdir("/"))

    told = world.tell(story, call="pivot_into(root)")
    expect(
        "old" in told.value and "usr" not in told.value,
        call="pivot_into(root), then the chroot escape of lesson 01",
        result=f"the program got out and sees {', '.join(told.value[:5])} …",
        expected="it ends in the new root again",
        next_step="chroot is not a wall. Use pivot_root and drop the old root.",
    )


# --- task 3 --------------------------------------------------------------------------------------


def _options(path):
    return [set(each.options) | {each.fstype} for each in mountinfo() if each.path == str(path)][-1]


@task(3)
def test_proc_shows_its_own_processes(world: World):
    def story():
        syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        rootfs.mount_proc(world.root / "proc")
        return sorted(name for name in os.listdir(world.root / "proc") if name.isdigit())

    told = world.tell(story, call="mount_proc(root/proc)")
    expect(
        told.value == ["1"],
        call="mount_proc(root/proc) in a new pid namespace, then list the processes there",
        result=f"{len(told.value)} processes: {', '.join(told.value[:5])}",
        expected="one process, number 1",
        next_step='Mount a new filesystem of type "proc"; do not bind the old /proc.',
    )


CARE = {"nosuid", "noexec", "nodev"}


@task(3, needs=("test_proc_shows_its_own_processes",))
def test_proc_is_mounted_with_care(world: World):
    def story():
        rootfs.mount_proc(world.root / "proc")
        return sorted(_options(world.root / "proc"))

    told = world.tell(story, call="mount_proc(root/proc)")
    expect(
        set(told.value) >= CARE,
        call="mount_proc(root/proc)",
        result=f"mounted with {', '.join(told.value)}",
        expected="nosuid, noexec and nodev among them",
        next_step="Add the flags MS_NOSUID, MS_NOEXEC and MS_NODEV.",
    )


@task(3)
def test_sys_is_read_only(world: World):
    def story():
        rootfs.mount_sys(world.root / "sys")
        return sorted(_options(world.root / "sys"))

    told = world.tell(story, call="mount_sys(root/sys)")
    expect(
        set(told.value) >= {"ro", "sysfs"} | CARE,
        call="mount_sys(root/sys)",
        result=f"mounted with {', '.join(told.value)}",
        expected="type sysfs; ro, nosuid, noexec and nodev",
        next_step="/sys is the host's hardware: add MS_RDONLY when read_only is true.",
    )


@task(3, needs=("test_sys_is_read_only",))
def test_sys_is_writable_when_asked_for(world: World):
    def story():
        rootfs.mount_sys(world.root / "sys", read_only=False)
        return sorted(_options(world.root / "sys"))

    told = world.tell(story, call="mount_sys(root/sys, read_only=False)")
    expect(
        "rw" in told.value,
        call="mount_sys(root/sys, read_only=False)",
        result=f"mounted with {', '.join(told.value)}",
        expected="rw: a privileged container asks for it",
        next_step="Use MS_RDONLY only when read_only is true.",
    )


# --- task 4 --------------------------------------------------------------------------------------


@task(4)
def test_read_only_paths_refuse_to_be_written(world: World):
    def story():
        rootfs.make_read_only([world.root / "etc", world.root / "bin/busybox"])
        written = []
        for name in ("etc/hostname", "bin/busybox"):
            try:
                with open(world.root / name, "ab"):
                    written.append(name)
            except OSError:
                continue
        return written

    told = world.tell(story, call="make_read_only([etc, bin/busybox])")
    expect(
        told.value == [],
        call="make_read_only([etc, bin/busybox]), then open files there for writing",
        result=f"opened: {', '.join(told.value)}",
        expected="Read-only file system",
        next_step="The first bind mount ignores MS_RDONLY. Remount it: MS_REMOUNT | MS_BIND | MS_RDONLY.",
    )


@task(4, needs=("test_read_only_paths_refuse_to_be_written",))
def test_other_flags_stay(world: World):
    def story():
        syscalls.mount("probe", world.root / "tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
        rootfs.make_read_only([world.root / "tmp"])
        return sorted(_options(world.root / "tmp"))

    told = world.tell(story, call="make_read_only([tmp]), where tmp is mounted nosuid,nodev")
    expect(
        {"ro", "nosuid", "nodev"} <= set(told.value),
        call="make_read_only([tmp]), where tmp is mounted nosuid,nodev",
        result=f"mounted with {', '.join(told.value)}",
        expected="ro, and still nosuid and nodev",
        next_step="A remount sets all flags anew: read those of os.statvfs(path).f_flag and repeat them.",
    )


@task(4)
def test_missing_paths_are_skipped(world: World):
    nowhere = "/proc/no-such-file-in-any-kernel"

    def story():
        rootfs.make_read_only([nowhere])
        rootfs.mask([nowhere])

    told = world.listen(story)
    expect(
        not told.error and not told.ended,
        call="make_read_only and mask with a path that does not exist",
        result=told.error or told.ended,
        expected="nothing happens: not every kernel has every file",
        next_step="Test with os.path.exists first.",
    )


@task(4)
def test_a_masked_file_is_empty(world: World):
    def story():
        rootfs.mask([world.root / "etc/hostname"])
        return (world.root / "etc/hostname").read_text()

    told = world.tell(story, call="mask([etc/hostname])")
    expect(
        told.value == "",
        call="mask([etc/hostname]), then read it",
        result=repr(told.value),
        expected="nothing to read",
        next_step="Bind /dev/null over a file.",
    )


@task(4)
def test_a_masked_directory_is_empty_and_read_only(world: World):
    def story():
        rootfs.mask([world.root / "etc"])
        try:
            (world.root / "etc/new").write_text("")
            writable = True
        except OSError:
            writable = False
        return [sorted(os.listdir(world.root / "etc")), writable]

    told = world.tell(story, call="mask([etc])")
    expect(
        told.value == [[], False],
        call="mask([etc]), then list it and write into it",
        result=f"it holds {told.value[0]}, and writing {'works' if told.value[1] else 'is refused'}",
        expected="an empty directory that refuses to be written",
        next_step="Mount an empty tmpfs over it, with MS_RDONLY.",
    )


# --- task 5 --------------------------------------------------------------------------------------


@task(
    5,
    needs=(
        "test_mounts_below_stay_inside_too",
        "test_no_way_out",
        "test_proc_is_mounted_with_care",
        "test_sys_is_read_only",
        "test_other_flags_stay",
        "test_missing_paths_are_skipped",
        "test_a_masked_file_is_empty",
        "test_a_masked_directory_is_empty_and_read_only",
    ),
)
def test_a_real_image_runs_on_your_layer(minidock):
    command = ("run", "--name", "yours", "busybox", "sh", "-c", "ls / && cat /proc/1/comm")
    said = minidock("--layers", minidock.layers, *command)
    (trace,) = (minidock.root / "containers").glob("*/trace.jsonl")
    sources = {json.loads(line)["source"] for line in trace.read_text().splitlines()}
    minidock("rm", "yours")
    expect(
        "proc" in said and str(minidock.layers / "rootfs.py") in sources,
        call="minidock --layers … run busybox",
        result=f"its record names {sources}",
        expected=f"steps taken by {minidock.layers / 'rootfs.py'}",
        next_step="Use `syscalls` for every step: only then the record names your file.",
    )
