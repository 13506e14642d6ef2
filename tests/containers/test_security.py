"""What a container must not reach: each line of Docker's defaults, and the known escapes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import pytest

from minidock.containers import launcher, lifecycle
from minidock.containers.spec import Security
from minidock.errors import InvalidInput, MinidockError


def status_of(ran, name: str) -> str:
    return next(line.split()[1] for line in ran.lines if line.startswith(f"{name}:"))


def test_dockers_capabilities_and_filter(box):
    ran = box.run("cat", "/proc/self/status")
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert status_of(ran, name) == "00000000a80425fb"
    for name in ("CapInh", "CapAmb"):
        assert int(status_of(ran, name), 16) == 0
    assert (status_of(ran, "Seccomp"), status_of(ran, "NoNewPrivs")) == ("2", "0")


def test_another_user_has_no_capability(box):
    ran = box.run("cat", "/proc/self/status", user="nobody")
    assert int(status_of(ran, "CapEff"), 16) == 0
    assert status_of(ran, "CapBnd") == "00000000a80425fb"
    assert "Uid:\t65534\t65534\t65534\t65534" in ran.text


def test_cap_add_and_drop(box):
    security = box.spec("x").security
    security.cap_drop, security.cap_add = ["ALL"], ["net_raw"]
    ran = box.run("cat", "/proc/self/status", security=security)
    assert int(status_of(ran, "CapEff"), 16) == 1 << 13


def test_no_new_privileges(box):
    security = box.spec("x").security
    security.no_new_privileges = True
    ran = box.run("cat", "/proc/self/status", security=security)
    assert (status_of(ran, "Seccomp"), status_of(ran, "NoNewPrivs")) == ("2", "1")


def test_seccomp_unconfined_and_privileged(box):
    security = box.spec("x").security
    security.seccomp = "unconfined"
    assert status_of(box.run("cat", "/proc/self/status", security=security), "Seccomp") == "0"
    security = box.spec("x").security
    security.privileged = True
    ran = box.run("cat", "/proc/self/status", security=security)
    own = next(line for line in open("/proc/self/status") if line.startswith("CapBnd"))
    assert status_of(ran, "CapEff") == own.split()[1]
    assert status_of(ran, "Seccomp") == "0"
    assert box.sh("mount -t tmpfs x /tmp && echo mounted", security=security).text == "mounted\n"


def test_seccomp_is_in_force(box):
    ran = box.sh("unshare -U true; mount -t tmpfs x /tmp; hostname other")
    assert ran.err.count(b"ermitted") + ran.err.count(b"denied") == 3


def test_masked_and_read_only_paths(box):
    ran = box.sh(
        "wc -c < /proc/kcore; wc -c < /proc/keys; ls /sys/firmware | wc -l;"
        "echo 1 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger; echo x > /sys/kernel/mm/x; echo after"
    )
    assert [line for line in ran.lines if line.strip("0 ")] == ["after"]
    assert ran.err.count(b"Read-only file system") >= 2


def test_read_only_root(box):
    security = box.spec("x").security
    security.read_only_root = True
    ran = box.sh("echo x > /file; echo y > /dev/shm/file && echo shm", security=security)
    assert b"Read-only file system" in ran.err
    assert ran.text == "shm\n"


def test_only_harmless_devices(box):
    ran = box.sh("ls /dev; mknod /disk b 254 0; dd if=/disk of=/dev/null bs=1 count=1")
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert sorted(set(ran.text.split()) - {"core"}) == names.split()
    assert b"Operation not permitted" in ran.err


def test_devices_asked_for(box):
    security = box.spec("x").security
    security.devices = ["/dev/zero:/dev/mine:rwm"]
    assert box.sh("head -c 3 /dev/mine | wc -c", security=security).text == "3\n"
    security.devices = ["/dev/nothing"]
    with pytest.raises(InvalidInput, match="/dev/nothing"):
        box.sh("true", security=security)


def test_a_rule_for_devices_without_a_node(box):
    """--device-cgroup-rule: what the container makes itself it may open."""
    script = "mknod /key c 1 11; mknod /disk b 254 0; true > /key && echo open; true > /disk"
    security = box.spec("x").security
    assert box.sh(script, security=security).err.count(b"Operation not permitted") == 2
    security.device_rules = ["a 1:* rw"]
    ran = box.sh(script, security=security)
    assert (ran.text, ran.err.count(b"Operation not permitted")) == ("open\n", 1)


def test_no_descriptor_of_the_host_gets_in(box):
    own = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(own, True)
    try:
        ran = box.sh("ls /proc/self/fd")
    finally:
        os.close(own)
    assert ran.lines == ["0", "1", "2", "3"]  # 3 is ls reading the directory
    container = box.service()
    assert box.exec(container, "ls", "/proc/self/fd").lines == ["0", "1", "2", "3"]
    ran = box.exec(container, "sh", "-c", "ls /proc/1/fd; readlink /proc/1/cwd")
    assert ran.lines == ["0", "1", "2", "/"] or ran.lines[:3] == ["0", "1", "2"]


@pytest.mark.parametrize("number", range(3, 16))
def test_no_working_directory_on_the_host(box, number):
    """CVE-2024-21626: a leaked descriptor as working directory led to the host's files."""
    directory = f"/proc/self/fd/{number}"
    container = box.create("cat", "../../../../etc/passwd", working_directory=directory)
    try:
        ran = lifecycle.start(container, box.streams(None, out := [], []))
    except MinidockError:
        return
    assert ran is not None
    assert b"busybox" not in b"".join(out)
    assert open("/etc/passwd", "rb").read() not in b"".join(out)


def test_proc_self_exe_as_entrypoint(box):
    """CVE-2019-5736: the interpreter of this script would be the host's Python."""
    container = box.create("/entry", "-c", "print('host python')")
    entry = container.directory / "upper" / "entry"
    entry.write_text("#!/proc/self/exe\n")
    entry.chmod(0o755)
    out: list[bytes] = []
    err: list[bytes] = []
    with contextlib.suppress(MinidockError):
        lifecycle.start(container, box.streams(None, out, err))
    assert b"python" not in b"".join(out + err).lower()


def test_proc_self_exe_at_exec(box):
    container = box.service()
    entry = container.directory / "upper" / "entry"
    box.exec(container, "sh", "-c", "echo '#!/proc/self/exe' > /entry; chmod +x /entry")
    assert entry.exists()
    try:
        ran = box.exec(container, "/entry", "-c", "print('host python')")
    except MinidockError:
        return
    assert b"python" not in (ran.out + ran.err).lower()


def test_a_hostile_container_cannot_open_what_execs_into_it(box):
    """While `exec` joins, a watcher inside opens every /proc/PID/exe and /proc/PID/fd it can."""
    watch = (
        "while :; do for p in /proc/[0-9]*; do "
        'case $p in /proc/1|/proc/self) ;; *) e=$(readlink $p/exe 2>/dev/null) && echo "$e" >> /seen;'
        'ls -l $p/fd 2>/dev/null | grep -o "> .*" >> /fds;; esac; done; done'
    )
    container = box.start("sh", "-c", watch)
    for _ in range(15):
        box.exec(container, "true")
    lifecycle.kill(container)
    seen = set((container.directory / "upper" / "seen").read_text().split("\n"))
    assert seen <= {"", "/bin/busybox", "/memfd:minidock-launcher (deleted)"}
    fds = (container.directory / "upper" / "fds").read_text()
    assert str(box.root) not in fds
    assert ".py" not in fds


def test_the_launcher_is_sealed(box):
    descriptor = launcher.sealed()
    try:
        for attempt in (
            lambda: os.write(descriptor, b"x"),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_TRUNC),
        ):
            with pytest.raises(OSError):
                attempt()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_launcher_is_a_small_elf(machine):
    program = launcher.program(machine)
    assert program.startswith(b"\x7fELF")
    assert len(program) < 256


def test_unknown_machine_is_said():
    with pytest.raises(MinidockError, match="riscv64"):
        launcher.program("riscv64")


def test_the_shim_is_not_to_be_traced(box):
    container = box.service(user="nobody")
    shim = int(
        subprocess.run(
            ["ps", "-o", "ppid=", "-p", str(container.state().pid)], capture_output=True, text=True
        ).stdout
    )
    assert open(f"/proc/{shim}/comm").read() == "minidock-shim\n"
    assert os.stat(f"/proc/{shim}/environ").st_uid == 0
    script = f"import os; os.setgid(1); os.setuid(1); os.listdir('/proc/{shim}/fd')"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode != 0


def test_files_are_for_root_only(box):
    container = box.sh("echo x").container
    assert container.directory.stat().st_mode & 0o777 == 0o700
    assert (box.root / "containers").stat().st_mode & 0o077 == 0


def test_sysctls(box):
    ran = box.sh(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni",
        sysctls={"net.ipv4.ip_forward": "1", "kernel.shmmni": "4000"},
    )
    assert ran.lines == ["1", "4000"]
    for name in ("kernel.panic", "vm.swappiness", "net/../kernel.panic"):
        with pytest.raises(InvalidInput, match="separate kernel namespace"):
            box.create("true", sysctls={name: "1"})


def test_ulimits(box):
    assert box.sh("ulimit -n; ulimit -Hn", ulimits={"nofile": (100, 200)}).lines == ["100", "200"]


@pytest.mark.parametrize("most", [(0, 0), (3, 3), (4, 100), (10, 10)])
def test_a_program_may_live_with_few_descriptors(box, most):
    """The limit counts from the program on, however it is reached: runc's own steps fail from 10 down."""
    shown = f"{most[0]}\n{most[1]}\n"
    for more in (
        {},
        {"user": "nobody", "tty": True},
        {"security": Security(no_new_privileges=True)},
        {"init": True},
    ):
        ran = box.sh("ulimit -n; ulimit -Hn", ulimits={"nofile": most}, **more)
        assert ran.text.replace("\r", "") == shown, more


def test_raising_a_hard_limit_is_explained(box):
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 1 << 24 & int(next(x for x in open("/proc/self/status") if x.startswith("CapEff")).split()[1], 16):
        pytest.skip("CAP_SYS_RESOURCE is here: nothing is refused")
    with pytest.raises(MinidockError, match="ulimit nofile"):
        box.sh("true", ulimits={"nofile": (hard + 1, hard + 1)})


def test_oom_score(box):
    assert box.sh("cat /proc/self/oom_score_adj", oom_score_adj=500).text == "500\n"


def test_a_container_does_not_see_the_host(box):
    ran = box.sh("ps | wc -l; ip -o link | wc -l; hostname; ipcs -m | wc -l; ls -A / | tr '\\n' ' '")
    processes, links, hostname, _, top = ran.lines
    assert int(processes) < 6
    assert links == "1"
    assert hostname == ran.container.id[:12]
    assert set(top.split()) <= {"bin", "dev", "etc", "proc", "root", "sbin", "sys", "tmp", "usr", "linuxrc"}


def test_keyring_is_its_own(box):
    ran = box.sh("cat /proc/keys | wc -c")
    assert ran.text == "0\n"


def test_nothing_is_left_of_a_start_that_failed(box):
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(MinidockError):
            box.run("nope")
    time.sleep(0.05)
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before) + 1
