"""--user against the image's passwd and group files, as Docker resolves it."""

from __future__ import annotations

import os

import pytest

from minidock.containers import users
from minidock.errors import InvalidInput, MinidockError

PASSWD = """root:x:0:0:root:/root:/bin/sh
# comment
web:x:33:33:web:/var/www:/bin/false
1000:x:7:8::/seven:
nohome:x:50:50:::
broken
"""
GROUP = """root:x:0:
www:x:33:
adm:x:4:web,root
docker:x:999:web
"""


@pytest.fixture
def image(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, (0, 4), "/root")),
        ("root", (0, 0, (0, 4), "/root")),
        ("web", (33, 33, (33, 4, 999), "/var/www")),
        ("33", (33, 33, (33, 4, 999), "/var/www")),
        ("web:docker", (33, 999, (999,), "/var/www")),
        ("web:0", (33, 0, (0,), "/var/www")),
        ("5000", (5000, 0, (0,), "/")),
        ("5000:6000", (5000, 6000, (6000,), "/")),
        ("1000", (7, 8, (8,), "/seven")),
        (":adm", (0, 4, (4,), "/root")),
        ("nohome", (50, 50, (50,), "/")),
    ],
)
def test_lookup(image, user, expected):
    found = users.lookup(user, root=image)
    assert (found.uid, found.gid, found.groups, found.home) == expected


def test_group_add(image):
    assert users.lookup("web:33", ["docker", "1234", "docker"], root=image).groups == (33, 999, 1234)


@pytest.mark.parametrize("user", ["ghost", "web:ghosts", "99999999999", "web:99999999999", "-1"])
def test_unknown(image, user):
    with pytest.raises(InvalidInput):
        users.lookup(user, root=image)


def test_an_image_without_the_files(tmp_path):
    assert users.lookup("", root=str(tmp_path)).uid == 0
    assert users.lookup("12:13", root=str(tmp_path)).gid == 13


def test_a_fifo_does_not_hold_us(tmp_path):
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert users.lookup("5", root=str(tmp_path)).uid == 5


def test_in_a_container(box):
    ran = box.sh("id -u; id -g; id -G; echo $HOME", user="nobody", group_add=["7"])
    assert ran.lines == ["65534", "65534", "65534 7", "/home"]
    with pytest.raises(MinidockError, match="unable to find user ghost: no matching entries in passwd file"):
        box.run("true", user="ghost")
