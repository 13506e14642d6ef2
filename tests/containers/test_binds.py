"""Directories and files of the host in a container: source × destination × option, and what passes on."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock.engine import Engine
from minidock.errors import InvalidInput, MinidockError

libc = ctypes.CDLL(None, use_errno=True)
MS_SHARED, MS_PRIVATE, MS_REC = 1 << 20, 1 << 18, 0x4000


@pytest.fixture
def engine(busybox: Path) -> Engine:
    return Engine(busybox)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "host"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/file").write_text("dir\n")
    (top / "file").write_text("file\n")
    (top / "link").symlink_to("dir")
    return top


# ── the matrix ───────────────────────────────────────────────────────────────────────────────────────

SOURCES = {"dir": True, "link": True, "file": False, "missing": None}  # None: there is nothing
TARGETS = {
    "/new": None,
    "/deep/er/new": None,
    "/tmp": True,
    "/etc": True,
    "/etc/passwd": False,
    "/with space": None,
}
OPTIONS = ("", "ro", "rw", "z", "Z,ro", "rprivate", "private,ro", "nocopy", "cached")


@pytest.mark.parametrize(
    "source", [pytest.param(each, marks=[pytest.mark.vm] if each == "dir" else []) for each in SOURCES]
)
def test_sources_destinations_and_options(engine: Engine, top: Path, source: str) -> None:
    """Each with -v; what is there afterwards must be the source, and hide what the image has."""
    for target, option in itertools.product(TARGETS, OPTIONS):
        what = f"{top}/{source}:{target}:{option}".rstrip(":")
        is_directory = SOURCES[source] is not False
        if TARGETS[target] is not None and TARGETS[target] != is_directory:
            if option == "":
                with pytest.raises(InvalidInput, match="not a directory"):
                    engine.run("busybox", "true", volume=[what], rm=True)
            continue
        place = f"'{target}/file'" if is_directory else f"'{target}'"
        if option in ("", "Z,ro"):  # the start is what takes time: two of each go all the way
            done = engine.run(
                "busybox", f"cat {place}; echo more >> {place}; echo $?", volume=[what], rm=True
            )
            refused = "Read-only file system" in done.output
            assert refused == ("ro" in option), (what, done.output)
            content = top / source / "file" if is_directory else top / source
            if not refused:
                assert content.read_text().endswith("more\n"), what
                content.write_text("again\n")
        else:
            engine.rm(engine.create("busybox", volume=[what]).id)
    assert (top / source).is_dir() == is_directory


def test_mount_wants_the_source_to_exist_and_v_makes_it(engine: Engine, top: Path) -> None:
    with pytest.raises(InvalidInput, match=f"bind source path does not exist: {top}/missing"):
        engine.create("busybox", mount=[f"type=bind,src={top}/missing,dst=/d"])
    assert not (top / "missing").exists()
    engine.run("busybox", "true", volume=[f"{top}/missing/deep:/d"], rm=True)
    assert (top / "missing/deep").is_dir()


def test_a_relative_source_is_seen_from_where_we_are(
    engine: Engine, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(top)
    for text in ("./dir:/d", "../host/dir:/d"):
        assert engine.run("busybox", "cat /d/file", volume=[text], rm=True).output == "dir\n"
    assert (
        engine.run("busybox", "cat /d/file", mount=["type=bind,src=./dir,dst=/d"], rm=True).output == "dir\n"
    )


def test_what_the_image_has_is_hidden_and_unharmed(engine: Engine, top: Path) -> None:
    container = engine.create("busybox", ["ls", "/etc"], volume=[f"{top}/dir:/etc"])
    assert engine.start(container.id, attach=None) is None
    engine.wait(container.id)
    assert "passwd" not in "".join(entry[1].decode() for entry in engine.logs(container.id))
    assert engine.run("busybox", "test -e /etc/passwd; echo $?").output == "0\n"


@pytest.mark.vm
def test_a_read_only_root_with_writable_places(engine: Engine, top: Path) -> None:
    script = "touch /x /d/x /v/x /t/x /dev/shm/x; echo $?; ls /d /v /t"
    done = engine.run(
        *("busybox", script),
        read_only=True,
        volume=[f"{top}/dir:/d", "vol:/v", "ro1:/tmp:ro"],
        tmpfs=["/t"],
        rm=True,
    )
    assert "touch: /x: Read-only file system" in done.output
    assert done.output.count("Read-only") == 1
    assert (top / "dir/x").exists()


# ── what passes on, and how deep read-only goes ──────────────────────────────────────────────────────


def mount(fstype: str | None, target: Path, flags: int = 0) -> None:
    kind = fstype.encode() if fstype else None
    if libc.mount(kind, str(target).encode(), kind, flags, None):
        raise OSError(ctypes.get_errno(), str(target))


def propagate(root: Path, top: Path, asked: dict[str, list[str]]) -> tuple[bool, bool, bool]:
    """Whether a mount made on the host later arrives inside, one made inside on the host, and one of its
    below a mount that was there before."""
    mount("tmpfs", top)
    mount(None, top, MS_SHARED)
    for name in ("later", "inner", "before"):
        (top / name).mkdir()
    mount("tmpfs", top / "before")
    (top / "before/deep").mkdir()
    engine = Engine(root)
    script = (
        "mount -t tmpfs x /v/inner; mount -t tmpfs x /v/before/deep 2>/dev/null; touch /up; "
        "while ! test -e /go; do sleep 0.05; done; test -e /v/later/there && echo arrived"
    )
    container = engine.run_detached("busybox", script, privileged=True, **asked)
    while engine.exec(container.id, ["test", "-e", "/up"]).exit_code:
        pass
    mount("tmpfs", top / "later")
    (top / "later/there").touch()
    engine.exec(container.id, ["touch", "/go"])
    engine.wait(container.id)
    arrived = any(b"arrived" in entry[1] for entry in engine.logs(container.id))
    found = (arrived, os.path.ismount(top / "inner"), os.path.ismount(top / "before/deep"))
    engine.rm(container.id)
    return found


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("", (False, False, False)),
        ("private", (False, False, False)),
        ("rprivate", (False, False, False)),
        ("slave", (True, False, False)),
        pytest.param("rslave", (True, False, False), marks=pytest.mark.vm),
        ("shared", (True, True, True)),
        pytest.param("rshared", (True, True, True), marks=pytest.mark.vm),
    ],
)
@pytest.mark.parametrize("way", ["-v", "--mount"])
def test_propagation(
    in_child: Callable[..., Any], busybox: Path, top: Path, way: str, mode: str, expected: tuple[bool, ...]
) -> None:
    asked = {"volume": [f"{top}:/v:{mode}".rstrip(":")]}
    if way == "--mount":
        asked = {"mount": [f"type=bind,src={top},dst=/v" + (f",bind-propagation={mode}" if mode else "")]}
    assert in_child(propagate, busybox, top, asked, seconds=60) == expected


def depth(root: Path, top: Path, options: str) -> str:
    """What can be written where: to the mount itself, and to one mounted below it."""
    mount(None, Path("/"), MS_PRIVATE | MS_REC)
    mount("tmpfs", top)
    (top / "below").mkdir()
    mount("tmpfs", top / "below")
    (top / "below/there").touch()
    done = Engine(root).run(
        "busybox",
        "ls /v/below; touch /v/x 2>/dev/null && echo top; touch /v/below/x 2>/dev/null && echo below",
        mount=[f"type=bind,src={top},dst=/v{options}"],
        rm=True,
    )
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "there top below"),
        (",readonly", "there"),
        (",readonly,bind-recursive=enabled", "there"),
        pytest.param(",readonly,bind-recursive=writable", "there below", marks=pytest.mark.vm),
        (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "there"),
        (",bind-recursive=disabled", "top below"),
        (",readonly,bind-nonrecursive", ""),
    ],
)
def test_how_deep_a_mount_and_read_only_go(
    in_child: Callable[..., Any], busybox: Path, top: Path, options: str, expected: str
) -> None:
    assert in_child(depth, busybox, top, options, seconds=60) == expected


def test_a_source_that_is_not_shared_cannot_pass_mounts_on(
    in_child: Callable[..., Any], busybox: Path, top: Path
) -> None:
    def refused() -> str:
        mount("tmpfs", top)
        try:
            Engine(busybox).run("busybox", "true", volume=[f"{top}:/v:rshared"])
        except MinidockError as error:
            return error.message
        return "accepted"

    assert "but it is not a shared mount" in in_child(refused)
