"""Stacked layers seen without a mount: the kernel's overlayfs is the oracle."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from minidock import files
from minidock.build.view import View
from minidock.errors import InvalidInput, MinidockError
from minidock.kernel import overlay


def tree(base: Path, name: str, *entries: str) -> Path:
    """A directory with *entries*: ``a=text``, ``a/``, a link ``a -> b``, a whiteout ``-a``, opaque ``a!``."""
    root = base / name
    root.mkdir(exist_ok=True)
    for entry in entries:
        path = root / entry.lstrip("-").split(" -> ")[0].split("=")[0].rstrip("!/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if " -> " in entry:
            path.symlink_to(entry.split(" -> ")[1])
        elif entry.startswith("-"):
            overlay.make_whiteout(path)
        elif entry.endswith(("/", "!")):
            path.mkdir(exist_ok=True)
            if entry.endswith("!"):
                overlay.make_opaque(path)
        else:
            path.write_text(entry.partition("=")[2] or name)
    return root


def name_of(view: View, path: str, **options: bool) -> str | None:
    found = view.find(path, **options)
    return found.name if found else None


def test_the_topmost_layer_decides(tmp_path: Path) -> None:
    low = tree(tmp_path, "low", "etc/a=low", "etc/b=low", "gone=x", "dir/one=1", "file=x", "hidden/deep/x=1")
    top = tree(tmp_path, "top", "etc/a=top", "-gone", "dir!", "dir/two=2", "file/", "-hidden/deep")
    view = View([top, low])
    assert view.read("/etc/a") == b"top"
    assert view.read("etc/b") == b"low"
    assert view.find("/gone") is None
    assert view.names("/dir") == ["two"]
    assert view.find("/dir/one") is None
    assert view.find("/file") and view.find("/file").is_directory  # type: ignore[union-attr]
    assert view.names("/") == ["dir", "etc", "file", "hidden"]
    assert view.names("/hidden") == []
    assert view.names("/no/such") == []


def test_a_view_of_nothing(tmp_path: Path) -> None:
    empty = View([])
    assert empty.find("/") is None
    assert empty.names("/") == []
    assert list(empty.walk("/")) == []
    assert empty.resolve("/a/../b/./c") == "b/c"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/lib", "usr/lib"),
        ("/lib/x", "usr/lib/x"),
        ("/up/../x", "usr/x"),
        ("/../../usr/lib", "usr/lib"),
        ("/out", "usr"),
        ("/chain/x", "usr/lib/x"),
        ("/usr/lib/../x", "usr/x"),
        ("//usr///lib/.", "usr/lib"),
    ],
)
def test_links_lead_inside(tmp_path: Path, path: str, name: str) -> None:
    low = tree(tmp_path, "low", "usr/lib/x=x", "usr/x=x", "lib -> usr/lib", "up -> /usr/lib")
    top = tree(tmp_path, "top", "out -> ../../../../usr", "chain -> lib")
    assert name_of(View([top, low]), path) == name


def test_the_last_link_stays_when_asked(tmp_path: Path) -> None:
    view = View([tree(tmp_path, "low", "d/x=x", "a -> d", "b -> nowhere/x")])
    assert name_of(view, "a", follow=False) == "a"
    assert name_of(view, "a/x", follow=False) == "d/x"
    assert view.find("b") is None
    assert view.resolve("b") == "nowhere/x"
    assert view.resolve("a/new/../y") == "d/y"


def test_links_in_a_circle(tmp_path: Path) -> None:
    view = View([tree(tmp_path, "low", "a -> b", "b -> a", "self -> self/x")])
    for path in ("a", "b/x", "self"):
        with pytest.raises(InvalidInput, match="too many levels of symbolic links"):
            view.find(path)


def test_walking_is_sorted_and_follows_nothing(tmp_path: Path) -> None:
    low = tree(tmp_path, "low", "d/b/2=x", "d/a=x", "d/l -> /", "d/gone=1")
    top = tree(tmp_path, "top", "d/b/1=y", "d/1=one", "-d/gone")
    view = View([top, low])
    names = [found.name for found in view.walk("/d")]
    assert names == ["d", "d/1", "d/a", "d/b", "d/b/1", "d/b/2", "d/l"]
    kept = [found.name for found in view.walk("/d", enter=lambda found: found.name != "d/b")]
    assert kept == ["d", "d/1", "d/a", "d/b", "d/l"]


def test_walking_down_a_thousand_directories(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):
        deep = deep / "d"
        deep.mkdir()
    try:
        assert sum(1 for _ in View([tmp_path]).walk("")) == 1101
    finally:
        files.remove_tree(tmp_path / "d")  # deeper than pytest's own cleaning goes


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 1 << 30)
    view = View([tmp_path])
    for name, why in (("fifo", "no such file"), ("large", "larger than"), ("none", "no such file")):
        with pytest.raises(InvalidInput, match=why):
            view.read(name)


def test_a_file_that_was_replaced_by_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("mine")
    found = View([tmp_path]).find("d/x")
    assert found
    (tmp_path / "d").rename(tmp_path / "old")
    (tmp_path / "d").symlink_to("old")  # the same file, by way of a link
    with pytest.raises(MinidockError, match="d/x"):
        found.open()
    (tmp_path / "d").unlink()
    with pytest.raises(MinidockError, match="d/x: No such file"):
        found.open()


def test_a_tree_behind_a_link_can_be_viewed(tmp_path: Path) -> None:
    tree(tmp_path, "real", "x=1")
    (tmp_path / "link").symlink_to("real")
    assert View([tmp_path / "link"]).read("x") == b"1"


def listing(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below *root*, with its type and mode, and content or target."""
    found = {}
    for above, directories, names in os.walk(root):
        for name in directories + names:
            path = Path(above, name)
            if not os.path.lexists(path):
                continue  # overlayfs lists a whiteout in a directory that merges with nothing, and denies it
            mode = path.lstat().st_mode
            content = os.readlink(path).encode() if stat.S_ISLNK(mode) else b""
            content = path.read_bytes() if stat.S_ISREG(mode) else content
            found[str(path.relative_to(root))] = (mode, content)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_it_shows_what_overlayfs_shows(
    root: Path, in_child: Callable[..., dict[str, tuple[int, bytes]]], seed: int
) -> None:
    """Random layers of files, directories, links, whiteouts and opaque directories."""
    dice = random.Random(seed)
    layers = []
    for number in range(4):
        entries = []
        for _ in range(25):
            path = "/".join(dice.choice("abcd") for _ in range(dice.randint(1, 4)))
            entries.append(
                dice.choice([f"{path}={number}", f"{path}/", f"-{path}", f"{path}!", f"{path} -> a"])
            )
        top = root / f"layer{number}"
        top.mkdir()
        for entry in entries:
            try:
                tree(root, top.name, entry)
            except (OSError, MinidockError):  # the dice asked for a file in a file
                continue
        layers.insert(0, top)
    merged = root / "merged"
    merged.mkdir()

    def mounted() -> dict[str, tuple[int, bytes]]:
        overlay.mount_overlay(layers, merged)
        return listing(merged)

    shown = {}
    for found in View(layers).walk(""):
        content = os.readlink(found.path).encode() if found.is_link else b""
        content = found.path.read_bytes() if found.is_file else content
        shown[found.name] = (found.status.st_mode, content)
    del shown[""]
    assert shown == in_child(mounted)


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    subprocess.run(["touch", os.fsencode(tmp_path) + b"/\xff\xfe"], check=True)
    view = View([tmp_path])
    (name,) = view.names("")
    assert os.fsencode(name) == b"\xff\xfe"
    found = view.find(name)
    assert found
    (tmp_path / name).unlink()
    with pytest.raises(MinidockError) as raised:
        found.open()
    raised.value.message.encode()  # can be printed
