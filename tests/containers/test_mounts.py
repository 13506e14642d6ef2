"""Volumes, binds and tmpfs: at the right place, never outside, with the propagation asked for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from minidock.containers.spec import Mount
from minidock.errors import InvalidInput


@pytest.fixture
def host(overlay_dir):
    directory = overlay_dir / "host"
    directory.mkdir()
    (directory / "file").write_text("from the host\n")
    return directory


def test_bind_is_the_same_directory(box, host):
    ran = box.sh("cat /data/file; echo back > /data/new", mounts=[Mount("bind", str(host), "/data")])
    assert ran.text == "from the host\n"
    assert (host / "new").read_text() == "back\n"


def test_bind_read_only(box, host):
    ran = box.sh("echo x > /data/file", mounts=[Mount("bind", str(host), "/data", read_only=True)])
    assert b"Read-only file system" in ran.err
    assert (host / "file").read_text() == "from the host\n"


@pytest.mark.parametrize("create_source", [False, True], ids=["--mount", "-v"])
def test_bind_of_one_file(box, host, create_source):
    mount = Mount("bind", str(host / "file"), "/etc/motd", create_source=create_source)
    assert box.sh("cat /etc/motd", mounts=[mount]).text == "from the host\n"


def test_a_missing_source(box, host):
    with pytest.raises(InvalidInput, match="bind source path does not exist: /no/such"):
        box.create("true", mounts=[Mount("bind", "/no/such", "/data")])
    ran = box.sh("ls /data", mounts=[Mount("bind", str(host / "made"), "/data", create_source=True)])
    assert (ran.code, (host / "made").is_dir()) == (0, True)


def test_directory_onto_file(box, host):
    with pytest.raises(InvalidInput, match="not a directory"):
        box.sh("true", mounts=[Mount("bind", str(host), "/etc/passwd")])


def test_named_volume_is_shared_and_stays(box):
    volume = Mount("volume", "data", "/data")
    box.sh("echo kept > /data/x", mounts=[volume], auto_remove=True)
    assert box.sh("cat /other/x", mounts=[Mount("volume", "data", "/other")]).text == "kept\n"
    assert (box.root / "volumes/data/_data/x").read_text() == "kept\n"


def test_tmpfs(box):
    options = Mount("tmpfs", "", "/scratch", options=["size=1m", "mode=700"])
    script = (
        "mount | grep /scratch; head -c 2000000 /dev/zero > /scratch/x; stat -c '%a %s' /scratch /scratch/x"
    )
    ran = box.sh(script, mounts=[options])
    assert "nosuid,nodev,noexec" in ran.text
    assert "size=1024k" in ran.text
    assert ran.lines[1].startswith("700 ")
    assert ran.lines[2].endswith(" 1048576")


def test_tmpfs_options(box):
    ran = box.sh("mount | grep /t", mounts=[Mount("tmpfs", "", "/t", options=["exec", "ro"])])
    assert "noexec" not in ran.text
    assert "(ro," in ran.text
    with pytest.raises(InvalidInput, match="invalid tmpfs option"):
        box.sh("true", mounts=[Mount("tmpfs", "", "/t", options=["magic"])])


def test_nested_mounts_in_any_order(box, host):
    ran = box.sh(
        "cat /a/b/file; touch /a/top; ls /a",
        mounts=[Mount("bind", str(host), "/a/b"), Mount("tmpfs", "", "/a")],
    )
    assert ran.lines == ["from the host", "b", "top"]


@pytest.mark.parametrize("target", ["relative", "/", "/x/..", "/proc", "/proc/sys"])
def test_targets_that_are_refused(box, host, target):
    with pytest.raises(InvalidInput):
        box.create("true", mounts=[Mount("bind", str(host), target)])


def test_one_target_twice(box, host):
    with pytest.raises(InvalidInput, match="Duplicate mount point: /a"):
        box.create("true", mounts=[Mount("bind", str(host), "/a"), Mount("tmpfs", "", "/a/")])


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "/proc/1/root/etc", "/etc/../../etc"])
def test_a_link_in_the_image_does_not_lead_out(box, host, link):
    before = os.stat("/etc/hostname") if os.path.exists("/etc/hostname") else None
    container = box.create("sh", "-c", "ls /etc/sub", mounts=[Mount("bind", str(host), "/trap/sub")])
    (container.directory / "upper" / "trap").symlink_to(link)
    from minidock.containers import lifecycle

    out: list[bytes] = []
    with contextlib.nullcontext() if "proc" not in link else pytest.raises(InvalidInput):
        lifecycle.start(container, box.streams(None, out, []))
    assert not os.path.exists("/etc/sub")
    if before is not None:
        assert os.stat("/etc/hostname").st_ino == before.st_ino
    if "proc" not in link:
        assert b"".join(out) == b"file\n"  # it landed in the container's own /etc


def test_nothing_stays_mounted_on_the_host(box, host):
    container = box.service(mounts=[Mount("bind", str(host), "/data"), Mount("tmpfs", "", "/t")])
    assert str(container.directory) not in open("/proc/self/mountinfo").read()


def test_host_names(box):
    ran = box.sh("hostname; cat /etc/hostname /etc/hosts", hostname="web", domain_name="example.org")
    assert ran.lines[:2] == ["web", "web.example.org"]
    assert "127.0.0.1\tlocalhost" in ran.text


def test_edits_of_etc_hosts_stay_outside_the_image(box):
    ran = box.sh("echo '10.0.0.1 db' >> /etc/hosts; grep db /etc/hosts")
    assert ran.text == "10.0.0.1 db\n"
    assert not (ran.container.directory / "upper/etc").exists()


def test_a_start_changes_nothing_in_the_containers_layer(box):
    assert os.listdir(box.run("true").container.directory / "upper") == []


def test_shm_size(box):
    assert "size=1024k" in box.sh("mount | grep /dev/shm", shm_size=1 << 20).text


_PROPAGATION = """
import ctypes, os, sys
sys.path.insert(0, {repository!r})
sys.path.insert(0, {tests!r})
libc = ctypes.CDLL(None)
libc.unshare(0x20000)
libc.mount(None, b"/", None, 0x44000, None)
host = {host!r}.encode()
libc.mount(b"t", host, b"tmpfs", 0, None)
libc.mount(None, host, None, 1 << 20, None)   # a shared mount
os.mkdir(host + b"/sub")
from pathlib import Path
from conftest import Box
from minidock.containers import lifecycle
from minidock.containers.spec import Mount
box = Box.__new__(Box)
box.root = Path({root!r})
privileged = box.spec("x").security
privileged.privileged = True
script = "read go; test -e /v/sub/there && echo arrived; mount -t tmpfs x /v/sub2; echo done"
os.mkdir(host + b"/sub2")
container = lifecycle.create(box.root, box.spec("sh", "-c", script, open_stdin=True, security=privileged,
    mounts=[Mount("bind", host.decode(), "/v", propagation={propagation!r})]))
lifecycle.start(container)
libc.mount(b"t", host + b"/sub", b"tmpfs", 0, None)
open(host + b"/sub/there", "w").close()
out = []
go = os.open({root!r} + "/go", os.O_RDWR | os.O_CREAT)
os.write(go, b"x\\n"); os.lseek(go, 0, 0)
from minidock.containers.streams import Streams
lifecycle.attach_to(container, Streams(go, out.append, None, forward_signals=False))
print(b"".join(out).decode().split(), os.path.ismount(host + b"/sub2"))
"""


@pytest.mark.parametrize(
    ("propagation", "expected"),
    [
        ("rprivate", "['done'] False"),
        ("rslave", "['arrived', 'done'] False"),
        ("rshared", "['arrived', 'done'] True"),
    ],
)
def test_propagation(box, host, propagation, expected):
    from pathlib import Path

    tests = Path(__file__).resolve().parent
    program = _PROPAGATION.format(
        repository=str(tests.parent.parent),
        tests=str(tests),
        host=str(host),
        root=str(box.root),
        propagation=propagation,
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr


def test_propagation_needs_a_shared_source(box, host):
    with pytest.raises(InvalidInput, match="but it is not a shared mount"):
        box.sh("true", mounts=[Mount("bind", str(host), "/v", propagation="rshared")])


@pytest.mark.parametrize("kind", ["tini", "our own"])
def test_init_reaps_and_passes_signals(box, tmp_path, kind):
    """Our own process 1 serves where tini is missing, and with a student's layers."""
    if kind == "tini" and not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("tini is not installed")
    wanted = {"init": True, "student_layers": "" if kind == "tini" else str(tmp_path)}
    script = "(sleep 0.1 &) ; sleep 0.5; ps -o pid,stat,comm; echo me $$; exit 7"
    ran = box.run("sh", "-c", script, **wanted)
    assert ("docker-init" in ran.text) == (kind == "tini")
    assert " Z " not in ran.text
    assert "me 1" not in ran.lines
    assert ran.code == 7
    assert box.sh("kill -9 $$", **wanted).code == 137
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 1 & wait $!; done"
    container = box.start("sh", "-c", script, **wanted)
    from minidock.containers import lifecycle

    box.until_ready(container)
    lifecycle.stop(container)
    assert container.state().exit_code == 9
