"""--userns private: root inside is nobody outside."""

from __future__ import annotations

import os

import pytest

from minidock.containers.spec import Mount, Namespaces
from minidock.containers.user_namespace import FIRST


@pytest.fixture
def private():
    return Namespaces(user="private")


def test_root_inside_is_nobody_outside(box, private):
    container = box.service(namespaces=private)
    status = open(f"/proc/{container.state().pid}/status").read()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}" in status
    assert f"Gid:\t{FIRST}\t" in status
    ran = box.exec(
        container, "sh", "-c", "id -u; cat /proc/self/uid_map; grep -E '(CapEff|Seccomp):' /proc/self/status"
    )
    assert ran.text.split() == ["0", "0", str(FIRST), "65536", "CapEff:", "00000000a80425fb", "Seccomp:", "2"]


def test_the_images_files_are_roots(box, private, busybox_rootfs):
    ran = box.sh(
        "stat -c '%u %g' /bin/busybox /etc /; touch /etc/new && chown 5:6 /etc/new; stat -c '%u %g' /etc/new",
        namespaces=private,
    )
    assert ran.lines == ["0 0", "0 0", "0 0", "5 6"]
    made = os.stat(ran.container.directory / "upper/etc/new")
    assert (made.st_uid, made.st_gid) == (FIRST + 5, FIRST + 6)
    assert os.stat(busybox_rootfs / "bin/busybox").st_uid == 0


def test_copy_up_and_delete(box, private):
    ran = box.sh(
        "echo more >> /etc/passwd; rm /etc/group; rm -r /tmp; tail -n 1 /etc/passwd; ls /etc/group /tmp",
        namespaces=private,
    )
    assert ran.text == "more\n"
    assert ran.err.count(b"No such file") == 2


def test_its_own_namespaces_are_its_own_to_rule(box, private):
    security = box.spec("x").security
    security.cap_add = ["NET_ADMIN", "SYS_ADMIN"]
    ran = box.sh(
        "ip link set lo down && hostname mine && hostname; ip link show lo",
        namespaces=private,
        security=security,
    )
    assert ran.lines[0] == "mine"
    assert "<LOOPBACK>" in ran.text  # without UP


def test_no_power_over_the_host(box, private, overlay_dir):
    secret = overlay_dir / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    bind = Mount("bind", str(secret), "/secret")
    ran = box.sh("cat /secret; echo y > /secret; stat -c %u /secret", namespaces=private, mounts=[bind])
    assert ran.text == "65534\n"
    assert ran.err.count(b"ermission denied") == 2


def test_named_volumes_belong_to_the_containers_root(box, private):
    volume = Mount("volume", "data", "/data")
    ran = box.sh("echo x > /data/file && stat -c %u /data/file", namespaces=private, mounts=[volume])
    assert ran.text == "0\n"
    assert (box.root / "volumes/data/_data/file").stat().st_uid == 0


def test_a_terminal_and_a_user(box, private):
    ran = box.sh(
        "tty; id -u; pwd; echo x > /dev/stdout",
        namespaces=private,
        tty=True,
        user="nobody",
        working_directory="/made",
    )
    assert ran.text.split() == ["/dev/pts/0", "65534", "/made", "x"]
    assert (
        box.sh("touch /made/x && echo mine", namespaces=private, working_directory="/made").text == "mine\n"
    )
    container = box.service(namespaces=private)
    assert box.exec(container, "tty", tty=True).text.startswith("/dev/pts/")


def test_binary_pipes_of_a_user(box, private):
    ran = box.run("sh", "-c", "cat > /dev/stdout", input=b"data", namespaces=private, user="1000:1000")
    assert ran.out == b"data"
