"""How Docker writes things down, and how people read them."""

from __future__ import annotations

from typing import Any

import pytest

from minidock import human, mount_notation, notation
from minidock.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2KiB", 2048),
        ("1 GB", 1 << 30),
        ("3t", 3 << 40),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert notation.size(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.m", "1e3", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid size"):
        notation.size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("1m30s", 90.0), ("1.5h", 5400.0), ("100ms", 0.1), ("-2s", -2.0), ("0", 0.0)]
)
def test_durations(text: str, expected: float) -> None:
    assert notation.duration(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "1d", "1m 30s", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid duration"):
        notation.duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", {"kind": "volume", "source": "", "target": "/data"}),
        ("web:/data", {"kind": "volume", "source": "web", "target": "/data"}),
        ("/a:/b", {"kind": "bind", "source": "/a", "target": "/b", "create_source": True}),
        ("/a/../c/:/b/", {"kind": "bind", "source": "/c", "target": "/b", "create_source": True}),
        (
            "/a:/b:ro,rslave,z",
            {
                "kind": "bind",
                "source": "/a",
                "target": "/b",
                "read_only": True,
                "propagation": "rslave",
                "create_source": True,
                "mode": "ro,rslave,z",
            },
        ),
        (
            "web:/b:rw,nocopy",
            {
                "kind": "volume",
                "source": "web",
                "target": "/b",
                "read_only": False,
                "no_copy": True,
                "mode": "rw,nocopy",
            },
        ),
    ],
)
def test_volumes(text: str, expected: dict[str, Any]) -> None:
    assert mount_notation.volume(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("a b:/c", "invalid characters for a local volume name"),
        ("a:/c", "volume name is too short"),
        ("web:/b:rslave", "invalid mode: rslave"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:rslave,rshared", "invalid mode: rslave,rshared"),
        (":/a", "invalid volume specification"),
        ("", "invalid volume specification"),
    ],
)
def test_what_is_no_volume(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        mount_notation.volume(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/a,dst=/b", {"kind": "bind", "source": "/a", "target": "/b"}),
        (
            "type=bind,source=/a,target=/b,ro",
            {"kind": "bind", "source": "/a", "target": "/b", "read_only": True},
        ),
        (
            "type=bind,source=/a,target=/b,readonly=false,bind-propagation=rshared",
            {"kind": "bind", "source": "/a", "target": "/b", "read_only": False, "propagation": "rshared"},
        ),
        (
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
            {"kind": "tmpfs", "source": "", "target": "/t", "options": ["size=1048576", "mode=1770"]},
        ),
        (
            "src=web,dst=/b,volume-nocopy,volume-label=a=1,volume-opt=type=tmpfs,volume-opt=o=size=1m"
            ",volume-subpath=x/y",
            {
                "kind": "volume",
                "source": "web",
                "target": "/b",
                "no_copy": True,
                "labels": {"a": "1"},
                "driver_options": {"type": "tmpfs", "o": "size=1m"},
                "subpath": "x/y",
            },
        ),
        (
            "type=bind,src=/a,dst=/b,bind-nonrecursive",
            {"kind": "bind", "source": "/a", "target": "/b", "recursive": "disabled"},
        ),
        ('type=bind,"src=/a,b",dst=/b', {"kind": "bind", "source": "/a,b", "target": "/b"}),
    ],
)
def test_mounts(text: str, expected: dict[str, Any]) -> None:
    assert mount_notation.mount(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,src=/a", "target is required"),
        ("type=bind,src=a,dst=/b", "source must be an absolute path"),
        ("type=npipe,src=/a,dst=/b", "invalid mount type"),
        ("type=tmpfs,src=/a,dst=/b", "source must not be given"),
        ("type=bind,src=/a,dst=/b,tmpfs-size=1m", "cannot mix"),
        ("type=bind,colour=red,dst=/b", "unexpected key 'colour' in 'colour=red'"),
        ("bind", "must be a key=value pair"),
        ("type=bind,src=/a,dst=/b,ro=perhaps", "invalid value for ro"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-[*]' options with mount type 'bind'"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "requires 'readonly' to be specified"),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
        ("type=volume,src=a/b,dst=/b", "invalid characters for a local volume name"),
        ("type=tmpfs,dst=/b,tmpfs-mode=9", "invalid value for tmpfs-mode"),
    ],
)
def test_what_is_no_mount(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        mount_notation.mount(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/fuse", "/dev/fuse:/dev/fuse:rwm"),
        ("/dev/fuse:r", "/dev/fuse:/dev/fuse:r"),
        ("/dev/a:/dev/b", "/dev/a:/dev/b:rwm"),
        ("/dev/a:/dev/b:rw", "/dev/a:/dev/b:rw"),
    ],
)
def test_devices(text: str, expected: str) -> None:
    assert notation.device(text) == expected


@pytest.mark.parametrize("text", ["", "/a:b", "/a:/b:rx", "/a:/b:rr", "/a:/b:r:w"])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(InvalidInput, match="device"):
        notation.device(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("9", "SIGKILL"), ("kill", "SIGKILL"), ("SIGUSR1", "SIGUSR1"), ("35", "35")]
)
def test_signals(text: str, expected: str) -> None:
    assert notation.signal_name(text) == expected


@pytest.mark.parametrize("text", ["", "0", "99", "NOSUCH", "-9"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid signal"):
        notation.signal_name(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_durations_for_people(seconds: float, expected: str) -> None:
    assert human.duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4261550, "4.26MB"), (1.5e9, "1.5GB"), (999_900, "1e+03kB")],
)
def test_sizes_for_people(count: float, expected: str) -> None:
    assert human.size(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0B"), (64 << 20, "64MiB"), (1288490188, "1.2GiB"), (1536, "1.5KiB")]
)
def test_binary_sizes_for_people(count: float, expected: str) -> None:
    assert human.binary_size(count) == expected
