"""Known ways out of a container, tried from inside a real one: each fails. SECURITY.md lists them all.

Those that tests elsewhere try already (descriptors of the host, /proc/self/exe, links in `cp`, …) are not
tried again here; the table names them.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli

PYTHON = os.path.realpath(sys.executable)
BINDS = [f"--volume={each}:{each}:ro" for each in ("/usr", "/lib", "/lib64") if os.path.isdir(each)]


@pytest.fixture(autouse=True)
def cleared(busybox: Path, minidock: Cli) -> Iterator[None]:
    yield
    minidock("reset", "--yes")


@pytest.fixture
def inside(minidock: Cli) -> Callable[..., str]:
    """inside(script, "--cap-add=…"): what a Python script prints in a container; no traceback may end it."""

    def run(script: str, *options: str) -> str:
        words = ["run", "--rm", *BINDS, *options, "busybox", PYTHON, "-ISc", PRELUDE + script]
        return str(minidock(*words).stdout)

    return run


PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    ctypes.set_errno(0)
    return "done" if function(*arguments) != -1 else errno.errorcode[ctypes.get_errno()]
def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def written(path, text="0"):
    def write():
        with open(path, "w") as file: file.write(text)
    return tried(write)
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret-of-the-host"
    file.write_text("secret")
    return file


# ── the root directory ───────────────────────────────────────────────────────────────────────────────


def test_out_of_a_chroot_is_into_the_container(inside: Callable[..., str], secret: Path) -> None:
    script = """
before = sorted(os.listdir("/"))
os.mkdir("/cell")
os.chroot("/cell")
for _ in range(64): os.chdir("..")
os.chroot(".")
print(sorted(set(os.listdir("/")) - set(before)), os.path.exists(sys.argv[0] + SECRET))
"""
    assert inside(f"SECRET = {str(secret)!r}\n{script}") == "['cell'] False\n"


def test_a_file_handle_does_not_open_the_hosts_files(inside: Callable[..., str]) -> None:
    """The "shocker" of 2014: open_by_handle_at(2) takes any inode, so it needs a capability."""
    script = """
handle = ctypes.create_string_buffer(b"\\x08\\0\\0\\0\\x01\\0\\0\\0" + (2).to_bytes(8, sys.byteorder))
print(call(libc.open_by_handle_at, os.open("/usr", os.O_RDONLY), handle, 0))
"""
    assert inside(script) == "EPERM\n"


# ── programs that the kernel starts on the host ──────────────────────────────────────────────────────


def test_core_pattern_and_its_kind(inside: Callable[..., str]) -> None:
    """The kernel runs what stands in these files, as root, outside: a container must not write there."""
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    script = """
names = ("kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "vm/overcommit_memory")
print({written(f"/proc/sys/{name}", "|/tmp/evil") for name in names if os.path.exists(f"/proc/sys/{name}")})
print(call(libc.mount, None, b"/proc/sys", None, 0x1020, None), call(libc.umount2, b"/proc/sys", 2))
os.mkdir("/tmp/proc")
print(call(libc.mount, b"proc", b"/tmp/proc", b"proc", 0, None))
"""
    assert inside(script).split() == ["{'EROFS'}", "EPERM", "EPERM", "EPERM"]
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before


def test_release_agent(inside: Callable[..., str]) -> None:
    """cgroup v1 starts this program when a cgroup gets empty. CVE-2022-0492 came by a user namespace."""
    script = """
os.mkdir("/tmp/cg")
print(call(libc.mount, b"cgroup", b"/tmp/cg", b"cgroup", 0, b"memory"))
print(call(libc.mount, b"cgroup2", b"/tmp/cg", b"cgroup2", 0, None))
print(call(libc.unshare, 0x10000000), call(libc.unshare, 0x02000000))
agents = [os.path.join(top, "release_agent") for top, _, names in os.walk("/sys/fs/cgroup")
          if "release_agent" in names]
print({written(path, "/tmp/evil") for path in agents} or {"EROFS"})
"""
    assert inside(script).split() == ["EPERM", "EPERM", "EPERM", "EPERM", "{'EROFS'}"]


# ── the walls: cgroup, processes, keys, sockets ──────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [[], ["--cgroupns=host"]], ids=["own", "host"])
def test_out_of_the_cgroup(inside: Callable[..., str], options: list[str]) -> None:
    """Neither does it leave its cgroup, nor does it change its limits, nor make cgroups of its own."""
    script = """
found = set()
for top, directories, names in os.walk("/sys/fs/cgroup"):
    for name in names:
        if name in ("cgroup.procs", "tasks", "memory.limit_in_bytes", "memory.max", "pids.max"):
            found.add(written(os.path.join(top, name), str(os.getpid())))
    found.add(tried(os.mkdir, os.path.join(top, "mine")))
print(found)
"""
    assert inside(script, "--memory=64m", *options) == "{'EROFS'}\n"


def test_the_shim_and_the_hosts_processes_with_pid_host(inside: Callable[..., str]) -> None:
    """--pid host shows every process. Over those with more capabilities it gives no power."""
    victim = subprocess.Popen(["sleep", "1000"], env={"SECRET": "of-the-host"})
    script = """
def look(pid):
    found = {tried(os.readlink, f"/proc/{pid}/fd/0"), tried(open, f"/proc/{pid}/environ"),
             tried(open, f"/proc/{pid}/mem", "r+b"), tried(os.listdir, f"/proc/{pid}/root/"),
             tried(os.readlink, f"/proc/{pid}/cwd"), tried(os.readlink, f"/proc/{pid}/exe")}
    found.add(call(libc.ptrace, 16, pid, 0, 0))
    local = ctypes.create_string_buffer(16)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(local), 8)
    found.add(call(libc.process_vm_readv, pid, vector, 1, vector, 1, 0))
    return found
status = open("/proc/self/status").read()
shim = int(status.split("PPid:")[1].split()[0])
print(open(f"/proc/{shim}/comm").read().strip(), look(shim) <= {"EACCES", "EPERM"}, look(shim))
print(open(f"/proc/{VICTIM}/comm").read().strip(), look(VICTIM) <= {"EACCES", "EPERM"}, look(VICTIM))
"""
    try:
        lines = inside(f"VICTIM = {victim.pid}\n{script}", "--pid=host").splitlines()
    finally:
        victim.kill()
        victim.wait()
    assert lines[0].startswith("minidock-shim True"), lines
    assert lines[1].startswith("sleep True"), lines


def test_keys_of_the_host(inside: Callable[..., str]) -> None:
    """No namespace divides keyrings: the calls are refused, and the session's keyring is a new one."""
    libc = ctypes.CDLL(None, use_errno=True)
    add_key, keyctl, session = _KEY_CALLS[os.uname().machine]
    script = f"""
print(call(libc.syscall, {keyctl}, 0, -3, 0), call(libc.syscall, {add_key}, b"user", b"k", b"v", 1, -3))
"""
    assert inside(script).split() == ["EPERM", "EPERM"]
    key = libc.syscall(add_key, b"user", b"minidock-test", b"secret", 6, session)
    if key < 0:
        pytest.skip(f"no key can be made here: {os.strerror(ctypes.get_errno())}")
    try:
        script = f"""
print(call(libc.syscall, {keyctl}, 10, -3, b"user", b"minidock-test", 0), libc.syscall({keyctl}, 0, -3, 0))
"""
        answer, ring = inside(script, "--security-opt=seccomp=unconfined").split()
        assert answer == "ENOKEY" and int(ring) != libc.syscall(keyctl, 0, -3, 0)
    finally:
        libc.syscall(keyctl, 9, key, session)  # unlink


# add_key, keyctl, and the thread's own keyring, which ends with it
_KEY_CALLS = {"x86_64": (248, 250, -1), "aarch64": (217, 219, -1)}


def test_raw_sockets_see_only_the_containers_network(inside: Callable[..., str]) -> None:
    script = """
import socket
raw = [(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), (socket.AF_PACKET, socket.SOCK_RAW, 3)]
print(*(tried(socket.socket, *each) for each in raw), sorted(os.listdir("/sys/class/net")))
"""
    assert inside(script, "--network=none") == "done done ['lo']\n"
    assert inside(script, "--network=none", "--cap-drop=NET_RAW") == "EPERM EPERM ['lo']\n"
    assert inside(script, "--network=none", "--user=1000").startswith("EPERM EPERM")


def test_device_nodes_of_disks_and_memory(inside: Callable[..., str]) -> None:
    """A node can be made (as in Docker), and the device cgroup keeps it shut."""
    script = """
kinds = {"disk": (0o060600, 8, 0), "virtual disk": (0o060600, 254, 0), "mem": (0o020600, 1, 1),
         "kmsg": (0o020600, 1, 11), "fuse": (0o020600, 10, 229)}
found = set()
for name, (mode, major, minor) in kinds.items():
    os.mknod(f"/tmp/{name}", mode, os.makedev(major, minor))
    found |= {tried(open, f"/tmp/{name}", "rb"), tried(open, f"/tmp/{name}", "r+b")}
print(found)
"""
    assert inside(script) == "{'EPERM'}\n"


def test_the_kernel_itself(inside: Callable[..., str]) -> None:
    """Modules, clock, another kernel, BPF, tracing the machine: nothing of it for a container."""
    script = """
import time
events = ctypes.create_string_buffer(128)
print(call(libc.syscall, FINIT, os.open("/bin/busybox", os.O_RDONLY), b"", 0), call(libc.swapon, b"/tmp", 0),
      tried(time.clock_settime, time.CLOCK_REALTIME, time.time()), call(libc.reboot, 0),
      call(libc.syscall, BPF, 0, events, 128), call(libc.syscall, PERF, events, 0, -1, -1, 0),
      call(libc.sethostname, b"evil", 4), call(libc.setns, os.open("/proc/self/ns/net", 0), 0))
"""
    numbers = {"x86_64": (313, 321, 298), "aarch64": (273, 280, 241)}[os.uname().machine]
    script = "FINIT, BPF, PERF = {}, {}, {}\n".format(*numbers) + script
    assert inside(script).split() == ["EPERM"] * 8


# ── links that change while somebody follows them ────────────────────────────────────────────────────


def test_a_mount_point_that_turns_into_a_link(minidock: Cli, root: Path, tmp_path: Path) -> None:
    """CVE-2021-30465: a directory of a shared volume becomes a link to / while another mounts there."""
    swap = (
        "mkdir /v/real; ln -s / /v/away; echo up;"
        " while :; do mv -T /v/real /v/was; mv -T /v/away /v/real;"
        " mv -T /v/real /v/away; mv -T /v/was /v/real; done"
    )
    minidock("run", "-d", "--name", "evil", "-v", "shared:/v", "busybox", "sh", "-c", swap)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "marker").write_text("mine")
    before = sorted(os.listdir("/"))
    ended = 0
    for _ in range(12):
        done = minidock(
            *("run", "--rm", "-v", "shared:/v", "-v", f"{mine}:/v/real/deep", "busybox"),
            *("sh", "-c", "find / -xdev -name 'secret-of-*' ; find /v -name marker | wc -l; ls /"),
            check=False,
        )
        assert done.returncode in (0, 125), done
        if done.returncode == 0:
            ended += 1
            assert not set(done.stdout.split()) & {"work", "boot", "lost+found", "srv", "opt"}, done.stdout
    assert sorted(os.listdir("/")) == before and not Path("/deep").exists()
    assert ended, "no container ever started: the race was not run"


# ── what other users of the machine see ──────────────────────────────────────────────────────────────


def test_another_user_reads_nothing_of_a_container(
    minidock: Cli, root: Path, in_child: Callable[..., Any]
) -> None:
    """Logs, environment, files: hidden also where the state root's own directory was made for everybody."""
    assert root.stat().st_mode & 0o077
    minidock("run", "-d", "--name", "web", "-e", "PASSWORD=x", "-v", "data:/data", "busybox", "sleep", "1000")
    minidock("run", "busybox", "sh", "-c", "echo a secret; chmod 4755 /bin/busybox; echo x > /file")
    minidock("create", "--name", "tagged", "-v", "data:/data", "busybox")
    pid = minidock("inspect", "--format", "{{.State.Pid}}", "web").stdout.strip()

    def look() -> list[str]:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        paths = [f"/proc/{pid}/environ", f"/proc/{pid}/root/etc/passwd"]
        paths += [os.path.join(top, name) for top, _, names in os.walk(root) for name in names]
        return [path for path in paths if _opens(path)]

    assert in_child(look) == []


@pytest.mark.parametrize(
    "words",
    ["volume create data", "network create --internal web", "events --until 1s", "load -i {}", "build -"],
)
def test_whoever_makes_the_state_root_makes_it_for_root_only(minidock: Cli, root: Path, words: str) -> None:
    minidock("save", "-o", str(root / "busybox.tar"), "busybox")
    made = root / "own"
    text = words.format(root / "busybox.tar").split()
    minidock("--root", str(made), *text, input="FROM scratch\nLABEL a=b\n")
    assert made.stat().st_mode & 0o777 == 0o700
    others = {each.name for each in made.iterdir() if each.is_dir() and each.stat().st_mode & 0o077}
    assert others <= {"volumes"}  # 0701, as Docker's
    minidock("--root", str(made), "reset", "--yes")


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


# ── what is asked for is given, and said ─────────────────────────────────────────────────────────────


def test_privileged_is_honest_about_itself(inside: Callable[..., str], minidock: Cli) -> None:
    """It is no container any more where security is concerned, and says so wherever one looks."""
    script = """
status = open("/proc/self/status").read()
os.mkdir("/tmp/here")
print(status.split("CapEff:")[1].split()[0], status.split("Seccomp:")[1].split()[0],
      call(libc.mount, b"none", b"/tmp/here", b"tmpfs", 0, None), len(os.listdir("/dev")) > 20,
      tried(open, "/proc/sys/kernel/core_pattern", "r+"), len(open("/proc/keys").read()) > 0)
"""
    own = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd"))
    assert inside(script, "--privileged").split() == [own, "0", "done", "True", "done", "True"]
    for name, options in (("open", ["--privileged"]), ("shut", [])):
        minidock("create", "--name", name, *options, "busybox", "true")
    shown = {
        each["Name"]: each["HostConfig"] for each in json.loads(minidock("inspect", "open", "shut").stdout)
    }
    assert (shown["/open"]["Privileged"], shown["/shut"]["Privileged"]) == (True, False)
    for key in ("MaskedPaths", "ReadonlyPaths"):
        assert shown["/open"][key] is None and len(shown["/shut"][key]) >= 5
