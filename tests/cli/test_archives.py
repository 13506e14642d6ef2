"""``-o FILE``: a file appears whole or not at all; a device or a pipe stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("verb", ["save", "export"])
def test_a_device_named_as_output_stays_a_device(busybox: Path, minidock: Any, verb: str) -> None:
    device = Path(f"/dev/minidock-{os.getpid()}")  # elsewhere the machine may let nobody open a device
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    try:
        minidock("create", "--name", "box", "busybox")
        minidock(verb, "-o", device, "busybox" if verb == "save" else "box")
        assert stat.S_ISCHR(device.lstat().st_mode)
    finally:
        device.unlink()


def test_a_link_named_as_output_is_followed(busybox: Path, minidock: Any, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    minidock("save", "-o", tmp_path / "link", "busybox")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").stat().st_size > 1000


def test_a_failed_save_leaves_no_file(minidock: Any, tmp_path: Path) -> None:
    assert minidock("save", "-o", tmp_path / "out.tar", "absent", check=False).returncode == 1
    assert not list(tmp_path.glob("out*"))
