"""The door to the kernel: recorded, explained, safe to fork through."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock import trace
from minidock.errors import InvalidInput, KernelError, MinidockError
from minidock.kernel import constants, syscalls

InChild = Callable[..., Any]


def test_a_step_tells_flags_by_name_and_the_result(in_child: InChild) -> None:
    def look() -> list[trace.Step]:
        with trace.recording(trace.Recorder()) as recorder:
            syscalls.mount("tmpfs", "/mnt", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=1m")
            syscalls.umount("/mnt", syscalls.MNT_DETACH)
        return recorder.steps

    mount, umount = in_child(look)
    assert mount.operation == "mount"
    assert mount.arguments == {
        "source": "tmpfs",
        "target": "/mnt",
        "fstype": "tmpfs",
        "flags": "MS_NOSUID|MS_NODEV",
        "data": "size=1m",
    }
    assert mount.microseconds > 0
    assert umount.arguments == {"target": "/mnt", "flags": "MNT_DETACH"}


def test_a_refusal_names_the_call_its_arguments_and_the_errno() -> None:
    with trace.recording(trace.Recorder()) as recorder, pytest.raises(KernelError) as caught:
        syscalls.rmdir("/nowhere/at/all")
    assert caught.value.errno_name == "ENOENT"
    assert str(caught.value).startswith("rmdir(path=/nowhere/at/all): ENOENT")
    assert "ENOENT" in recorder.steps[0].error


def test_errno_belongs_to_the_thread_that_asked() -> None:
    wrong: list[str] = []

    def ask(path: str, expected: str) -> None:
        for _ in range(300):
            try:
                syscalls.umount(path)
            except KernelError as error:
                if error.errno_name != expected:
                    wrong.append(error.errno_name)

    threads = [
        threading.Thread(target=ask, args=case) for case in (("/nowhere", "ENOENT"), ("/etc", "EINVAL")) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_mount_options_longer_than_a_page_are_refused_not_cut(in_child: InChild) -> None:
    with pytest.raises(InvalidInput, match="exceed a memory page"):
        syscalls.mount("tmpfs", "/mnt", "tmpfs", 0, "x" * 4096)


def test_a_null_byte_is_refused_because_c_would_stop_there() -> None:
    with pytest.raises(InvalidInput, match="null byte"):
        syscalls.umount("/mnt\0/etc")


# --- clone and exec ------------------------------------------------------------------------------


def test_clone_is_a_fork_whose_child_is_process_1(in_child: InChild) -> None:
    def look() -> tuple[int, int, int]:
        child = syscalls.clone(syscalls.CLONE_NEWPID)
        if child == 0:
            os._exit(os.getpid())
        waited, status = os.waitpid(child, 0)
        return child, waited, os.waitstatus_to_exitcode(status)

    child, waited, code = in_child(look)
    assert child == waited > 1
    assert code == 1


def test_python_works_in_a_cloned_child(in_child: InChild) -> None:
    """Locks, threads, imports, signals and at-fork hooks, as after os.fork."""

    def look() -> bytes:
        reader, writer = os.pipe()
        os.register_at_fork(after_in_child=lambda: os.write(writer, b"hook "))
        child = syscalls.clone(0)
        if child == 0:
            thread = threading.Thread(target=lambda: os.write(writer, b"thread "))
            thread.start()
            thread.join()
            assert threading.current_thread() is threading.main_thread()
            import wave  # noqa: F401 (anything not imported yet)

            signal.signal(signal.SIGUSR1, lambda *_: os.write(writer, b"signal "))
            os.kill(os.getpid(), signal.SIGUSR1)
            subprocess.run(["true"], check=True)
            os.write(writer, b"done")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        return os.read(reader, 100)

    assert in_child(look) == b"hook thread signal done"


def test_clone_refuses_a_process_with_threads(in_child: InChild) -> None:
    def look() -> None:
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        try:
            with pytest.raises(MinidockError, match="2 threads"):
                syscalls.clone(0)
        finally:
            stop.set()
            thread.join()

    in_child(look)


def test_parent_and_child_write_each_step_once(in_child: InChild, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"

    def look() -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with trace.recording(trace.Recorder(descriptor)) as recorder:
            syscalls.chdir("/tmp")
            child = syscalls.clone(syscalls.CLONE_NEWUTS)
            if child == 0:
                syscalls.sethostname("child")
                recorder.flush()
                os._exit(0)
            os.waitpid(child, 0)
            syscalls.chdir("/")

    in_child(look)
    assert [step.operation for step in trace.read(file)] == ["chdir", "sethostname", "clone", "chdir"]


def test_execve_writes_its_trace_first_and_no_secret(in_child: InChild, tmp_path: Path) -> None:
    file, output = tmp_path / "trace.jsonl", tmp_path / "output"

    def look() -> None:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
            with trace.recording(trace.Recorder(os.open(file, os.O_WRONLY | os.O_CREAT))):
                syscalls.execve("/bin/sh", ["sh", "-c", "echo $TOKEN"], ["TOKEN=se=cret", "A=b"])
        assert os.waitpid(child, 0)[1] == 0

    in_child(look)
    assert output.read_text() == "se=cret\n"
    (step,) = trace.read(file)
    assert step.operation == "execve"
    assert step.arguments["environment"] == ["TOKEN=…", "A=…"]
    assert "cret" not in file.read_text()


def test_a_failed_execve_raises_and_is_recorded(tmp_path: Path) -> None:
    with trace.recording(trace.Recorder()) as recorder, pytest.raises(KernelError) as caught:
        syscalls.execve("/nowhere/program", ["program"], [])
    assert caught.value.errno_name == "ENOENT"
    assert recorder.steps[-1].error


def test_after_a_change_of_root_nothing_is_imported_from_it(in_child: InChild, tmp_path: Path) -> None:
    """The new root may hold /work/…/anything.py: importing it would run a stranger's code with our rights."""
    trap = tmp_path / str(Path(__file__).parent).lstrip("/")
    trap.mkdir(parents=True)
    (trap / "trap.py").write_text("raise SystemExit('caught')")

    def look() -> str:
        sys.path.insert(0, str(Path(__file__).parent))
        syscalls.chroot(tmp_path)
        try:
            import trap  # type: ignore[import-not-found]  # noqa: F401
        except ImportError as error:
            return str(error)
        return "imported"

    assert in_child(look) == "No module named 'trap'"


def test_process_1_learns_that_its_parent_died_before_it_asked(in_child: InChild) -> None:
    """It ignores even SIGKILL from inside its own pid namespace, so it must be told by an exception."""

    def look() -> tuple[int, int]:
        def ask(parent: int) -> int:
            child = syscalls.clone(syscalls.CLONE_NEWPID)
            if child == 0:
                try:
                    syscalls.set_parent_death_signal(signal.SIGKILL, parent)
                except MinidockError:
                    os._exit(8)
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        gone = os.fork()
        if gone == 0:
            os._exit(0)
        dead = syscalls.pidfd_open(gone)
        os.waitpid(gone, 0)
        return ask(syscalls.pidfd_open(os.getpid())), ask(dead)

    assert in_child(look) == (7, 8)


def test_the_signal_arrives_when_the_parent_died_first(in_child: InChild) -> None:
    def look() -> int:
        gone = os.fork()
        if gone == 0:
            os._exit(0)
        dead = syscalls.pidfd_open(gone)
        os.waitpid(gone, 0)
        child = os.fork()
        if child == 0:
            syscalls.set_parent_death_signal(signal.SIGTERM, dead)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(look) == -signal.SIGTERM


# --- what a process may do -----------------------------------------------------------------------


def test_capabilities_are_read_and_set(in_child: InChild) -> None:
    def look() -> tuple[int, str, bool, bool]:
        effective, permitted, _ = syscalls.capget()
        wanted = permitted & 0xFF
        syscalls.drop_bounding(21)
        syscalls.ambient_clear()
        syscalls.capset(wanted, wanted, 0)
        line = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
        )
        return effective, line.split()[1], syscalls.bounding_has(21), syscalls.bounding_has(20)

    effective, shown, admin, acct = in_child(look)
    assert effective & 1 << 21
    assert int(shown, 16) == effective & 0xFF
    assert (admin, acct) == (False, True)
    assert not syscalls.bounding_has(200)


def test_seccomp_installs_a_filter(in_child: InChild) -> None:
    def look() -> str:
        getppid = {"x86_64": 110, "aarch64": 173}[os.uname().machine]
        program = struct.pack("HBBI", 0x20, 0, 0, 0)  # load the number of the system call
        program += struct.pack("HBBI", 0x15, 0, 1, getppid)  # is it getppid?
        program += struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 99)  # then: errno 99
        program += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
        syscalls.set_no_new_privs()
        syscalls.seccomp_install(program)
        return Path("/proc/self/status").read_text()

    status = in_child(look)
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_limits_users_and_the_rest(in_child: InChild) -> None:
    def look() -> dict[str, Any]:
        found: dict[str, Any] = {}
        syscalls.setrlimit("nofile", 50, 60)
        found["nofile"] = resource.getrlimit(resource.RLIMIT_NOFILE)
        syscalls.umask(0o077)
        found["umask"] = os.umask(0)
        descriptor = syscalls.memfd_create("sealed", syscalls.MFD_ALLOW_SEALING | syscalls.MFD_CLOEXEC)
        os.write(descriptor, b"x")
        syscalls.memfd_seal(descriptor)
        try:
            os.write(descriptor, b"y")
        except PermissionError:
            found["sealed"] = True
        syscalls.keyctl_join_session_keyring("minidock-test")
        syscalls.setgroups([7, 8])
        syscalls.setresgid(5, 5, 5)
        syscalls.setresuid(6, 6, 6)
        found["ids"] = (os.getresuid(), os.getresgid(), os.getgroups())
        return found

    assert in_child(look) == {
        "nofile": (50, 60),
        "umask": 0o077,
        "sealed": True,
        "ids": ((6, 6, 6), (5, 5, 5), [7, 8]),
    }
    with pytest.raises(InvalidInput, match="'files'"):
        syscalls.setrlimit("files", 1, 1)


def test_openat2_keeps_links_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("inside")
    (tmp_path / "link").symlink_to("/etc/hostname")
    top = os.open(tmp_path, os.O_PATH)
    descriptor = syscalls.openat2(top, "link", os.O_RDONLY, syscalls.RESOLVE_IN_ROOT)
    assert os.read(descriptor, 100) == b"inside"
    os.close(descriptor)
    os.close(top)


def test_a_mount_is_copied_moved_and_changed_by_descriptor(in_child: InChild, tmp_path: Path) -> None:
    def look() -> str:
        flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
        tree = syscalls.open_tree(syscalls.AT_FDCWD, "/etc", flags)
        empty = syscalls.MOVE_MOUNT_F_EMPTY_PATH
        syscalls.move_mount(tree, "", syscalls.AT_FDCWD, str(tmp_path), empty)
        readonly = syscalls.MOUNT_ATTR_RDONLY
        syscalls.mount_setattr(syscalls.AT_FDCWD, tmp_path, 0, attributes=readonly)
        try:
            (tmp_path / "x").touch()
        except OSError as error:
            return error.strerror or ""
        return "writable"

    assert in_child(look) == "Read-only file system"


def test_pidfd_signals(in_child: InChild) -> None:
    def look() -> int:
        child = os.fork()
        if child == 0:
            signal.pause()
        syscalls.pidfd_send_signal(syscalls.pidfd_open(child), signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(look) == -signal.SIGKILL


def test_kernel_files_are_written_at_once_and_read(in_child: InChild) -> None:
    def look() -> str:
        syscalls.write_file("/proc/self/oom_score_adj", "500")
        return syscalls.read_file("/proc/self/oom_score_adj")

    assert in_child(look) == "500\n"
    with pytest.raises(KernelError, match="ENOENT"):
        syscalls.read_file("/proc/self/nothing")


@pytest.mark.parametrize(
    ("machine", "header", "prefix"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "__NR_"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", "__NR(?:3264)?_"),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str, prefix: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed (linux-libc-dev)")
    import re

    text = Path(header).read_text()
    for name, number in constants.NUMBERS[machine].items():
        match = re.search(rf"#define {prefix}{name} (\d+)", text)
        assert match and int(match[1]) == number, name
