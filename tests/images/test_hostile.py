"""No archive, whatever it says, touches anything outside the directory it is unpacked into."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import hostile
import pytest
from hostile import Case

from minidock import files
from minidock.errors import MinidockError
from minidock.images import layer


def describe(root: Path, *, times: bool = False) -> dict[bytes, str]:
    """Every name below *root*: what it is, mode, content; with *times* all that a write would change."""
    found = {}
    for above, directories, names in os.walk(os.fsencode(root)):
        for name in directories + names:
            path = os.path.join(above, name)
            found[os.path.relpath(path, os.fsencode(root))] = _thing(path, times)
    return found


def _thing(path: bytes, times: bool) -> str:
    status = os.lstat(path)
    mode = f"{stat.S_IMODE(status.st_mode):o}"
    numbers = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    if stat.S_ISLNK(status.st_mode):
        text = f"link {os.fsdecode(os.readlink(path))}"
    elif stat.S_ISDIR(status.st_mode):
        opaque = "trusted.overlay.opaque" in os.listxattr(path)
        text = f"dir {mode}{' opaque' if opaque else ''}"
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            text = f"file {mode} {file.read().decode('latin-1')}"
    elif stat.S_ISFIFO(status.st_mode):
        text = f"fifo {mode}"
    elif stat.S_ISBLK(status.st_mode):
        text = f"block {mode} {numbers}"
    else:
        text = "whiteout" if numbers == "0:0" else f"char {mode} {numbers}"
    if times:
        xattrs = [
            (key, os.getxattr(path, key, follow_symlinks=False))
            for key in os.listxattr(path, follow_symlinks=False)
        ]
        times_and_owner = (
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_nlink,
        )
        text += f" {times_and_owner} {xattrs}"
    return text


@pytest.fixture
def canary(root: Path) -> Path:
    """A tree beside the target, with a file, a directory and a link."""
    tree = root / "canary"
    tree.mkdir(parents=True)
    (tree / "file").write_text("untouched")
    (tree / "directory").mkdir()
    (tree / "link").symlink_to("file")
    return tree


@pytest.mark.parametrize("case", hostile.CASES, ids=[case.name for case in hostile.CASES])
def test_hostile_archive(case: Case, root: Path, canary: Path) -> None:
    target = root / "target"
    before = describe(canary, times=True), os.lstat(canary).st_mtime_ns, sorted(os.listdir(root))
    data = case.make(os.fsencode(canary)) + (b"" if case.raw else hostile.END)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        if case.refused:
            with pytest.raises(MinidockError) as caught:
                layer.apply_layer(io.BytesIO(data), target, max_size=case.max_size, **case.options)
            assert case.refused in str(caught.value)
            assert "\n" not in str(caught.value)
        else:
            layer.apply_layer(io.BytesIO(data), target, max_size=case.max_size, **case.options)
            if b"*" not in case.result:
                assert describe(target) == case.result
    finally:
        files.remove_tree(target)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert (describe(canary, times=True), os.lstat(canary).st_mtime_ns, sorted(os.listdir(root))) == before


def test_there_are_enough_of_them() -> None:
    assert len(hostile.CASES) >= 60
    assert len({case.name for case in hostile.CASES}) == len(hostile.CASES)
