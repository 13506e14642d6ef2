"""`cp`: Docker's rules of what lands where, and no way out of the container."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import REPOSITORY

from minidock.containers import archives
from minidock.containers.state import Container
from minidock.engine import Engine
from minidock.errors import InvalidInput, MinidockError, NotFound


@pytest.fixture
def engine(busybox: Path) -> Engine:
    return Engine(busybox)


@pytest.fixture(params=["running", "stopped"])
def container(engine: Engine, request: pytest.FixtureRequest) -> Container:
    """A container with some files; one that runs and one that does not."""
    return make(engine, request.param)


def make(engine: Engine, state: str, **options: Any) -> Container:
    made = engine.create("busybox", ["sleep", "1000"], name="box", volume=["vol:/vol"], **options)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(content)
            for key, value in fields.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))

        for name in ("d", "d/sub", "empty"):
            add(name, tarfile.DIRTYPE, mode=0o755)
        add("d/one", content=b"one\n", uid=7, gid=8, mode=0o4711)
        add("d/sub/deep", content=b"deep\n")
        add("f", content=b"f\n")
        add("pipe", tarfile.FIFOTYPE)
        for name, target in (("to-d", "/d"), ("to-f", "f"), ("to-nowhere", "/nowhere"), ("up", "../../etc")):
            add(name, tarfile.SYMTYPE, linkname=target)
    engine.write_archive("box", "/", iter([out.getvalue()]))
    if state == "running":
        engine.start("box")
    return made


def archive_of(engine: Engine, path: str) -> tarfile.TarFile:
    data = bytearray()
    engine.read_archive("box", path, data.extend)
    return tarfile.open(fileobj=io.BytesIO(bytes(data)))


def names(engine: Engine, path: str) -> list[str]:
    return archive_of(engine, path).getnames()


def text(engine: Engine, path: str) -> str:
    archive = archive_of(engine, path)
    content = archive.extractfile(archive.getmembers()[0])
    assert content
    return content.read().decode()


# ── stat, read, write: what the Engine API will call ─────────────────────────────────────────────────


@pytest.mark.vm
def test_stat(engine: Engine, container: Container) -> None:
    with archives.opened(container) as files:
        one = files.look("/d/one")
        assert (one.name, one.size, oct(one.mode)) == ("one", 4, "0o104711")
        targets = {"/to-d": "/d", "/to-f": "/f", "/to-nowhere": "/nowhere", "/up": "/etc", "/to-d/one": ""}
        assert {path: files.look(path).link_target for path in targets} == targets
        for path in ("/", "d/../d/sub/", "/to-d/"):  # a slash at the end follows the link
            assert files.look(path).is_directory, path
        with pytest.raises(InvalidInput, match="not a directory"):
            files.look("/f/x")
    with pytest.raises(NotFound, match=r"^Could not find the file /d/nope in container box$"):
        engine.stat_path("box", "/d/nope")
    with pytest.raises(NotFound, match="No such container: nope"):
        engine.stat_path("nope", "/f")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d", ["d", "d/one", "d/sub", "d/sub/deep"]),
        ("/d/", ["d", "d/one", "d/sub", "d/sub/deep"]),
        ("/d/.", [".", "one", "sub", "sub/deep"]),
        ("/d/sub/..", ["d", "d/one", "d/sub", "d/sub/deep"]),
        ("/f", ["f"]),
        ("to-d", ["to-d"]),
        ("/to-d/.", [".", "one", "sub", "sub/deep"]),
        ("/to-d/one", ["one"]),
    ],
)
def test_read(engine: Engine, path: str, expected: list[str]) -> None:
    make(engine, "running")
    assert names(engine, path) == expected


def test_the_kernels_own_files_are_none_of_the_containers(engine: Engine, container: Container) -> None:
    found = names(engine, "/.")
    assert not [name for name in found if name.startswith(("proc/", "sys/"))]
    assert {"d/one", "etc/passwd", "vol"} <= set(found)
    assert not any(member.ischr() for member in archive_of(engine, "/dev/."))


def test_owners_modes_and_times_survive_the_archive(engine: Engine, container: Container) -> None:
    (one,) = archive_of(engine, "/d/one").getmembers()
    assert (one.uid, one.gid, oct(one.mode)) == (7, 8, "0o4711")


def tar(**files: bytes | None) -> list[bytes]:
    """An archive of files by name (None: a directory), owned by 5:6."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.uid, entry.gid, entry.mode = 5, 6, 0o750
            if content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content or b""))
    return [out.getvalue()]


@pytest.mark.vm
def test_write(engine: Engine, container: Container) -> None:
    engine.write_archive("box", "/d", iter(tar(new=b"x", sub=None, **{"sub/more": b"y"})))
    assert names(engine, "/d") == ["d", "d/new", "d/one", "d/sub", "d/sub/deep", "d/sub/more"]
    (new,) = archive_of(engine, "/d/new").getmembers()
    assert (new.uid, new.gid, oct(new.mode)) == (5, 6, "0o750")
    engine.write_archive("box", "/to-d", iter(tar(linked=b"")))  # a link to a directory is followed
    engine.write_archive("box", "/vol", iter(tar(kept=b"in the volume")))
    assert (engine.root / "volumes/vol/_data/kept").read_bytes() == b"in the volume"
    assert "d/linked" in names(engine, "/d")
    engine.start("box")
    assert engine.exec("box", ["cat", "/d/sub/more"]).output == "y"


def test_write_takes_compressed_archives(engine: Engine) -> None:
    import gzip

    make(engine, "stopped")
    engine.write_archive("box", "/d", iter([gzip.compress(tar(new=b"x")[0])]))
    assert text(engine, "/d/new") == "x"


@pytest.mark.parametrize(
    ("path", "files", "message"),
    [
        ("/f", {"x": b""}, "extraction point is not a directory"),
        ("/nope", {"x": b""}, "Could not find the file /nope in container box"),
        ("/to-nowhere", {"x": b""}, "Could not find the file /to-nowhere"),
        ("/", {"d": b""}, "cannot overwrite directory 'd' with non-directory"),
        ("/", {"f": None}, "cannot overwrite non-directory 'f' with directory"),
        ("/d", {"../x": b""}, "leads out of the directory"),
    ],
)
def test_what_cannot_be_written(
    engine: Engine, path: str, files: dict[str, bytes | None], message: str
) -> None:
    make(engine, "running")
    with pytest.raises(MinidockError, match=message):
        engine.write_archive("box", path, iter(tar(**files)))
    assert text(engine, "/f") == "f\n"
    assert "d/one" in names(engine, "/d")


def test_read_only_roots_and_volumes(engine: Engine) -> None:
    engine.create("busybox", ["sleep", "100"], name="box", read_only=True, volume=["vol:/vol", "ro1:/ro:ro"])
    for _ in ("stopped", "running"):
        with pytest.raises(InvalidInput, match="container rootfs is marked read-only"):
            engine.write_archive("box", "/tmp", iter(tar(x=b"")))
        with pytest.raises(InvalidInput, match="mounted volume is marked read-only"):
            engine.write_archive("box", "/ro", iter(tar(x=b"")))
        engine.write_archive("box", "/vol", iter(tar(x=b"")))
        engine.start("box")


def test_private_users_see_their_own_numbers(engine: Engine) -> None:
    make(engine, "running", userns="private")
    for _ in ("running", "stopped"):
        (one,) = archive_of(engine, "/d/one").getmembers()
        assert (one.uid, one.gid) == (7, 8)
        engine.write_archive("box", "/d", iter(tar(new=b"x")))
        (new,) = archive_of(engine, "/d/new").getmembers()
        assert (new.uid, new.gid) == (5, 6)
        if engine.container("box").running():
            assert engine.exec("box", ["stat", "-c", "%u %g", "/d/new"]).output == "5 6\n"
            engine.kill("box")


# ── what lands where: Docker's table ─────────────────────────────────────────────────────────────────


def host(tmp_path: Path) -> Path:
    top = tmp_path / "host"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/a").write_text("A")
    (top / "dir/sub/b").write_text("B")
    (top / "file").write_text("F")
    (top / "link").symlink_to("file")
    (top / "dirlink").symlink_to("dir")
    os.chown(top / "file", 11, 12)
    return top


INTO = [
    # source, destination, what is there afterwards (in the container) or the error
    ("file", "/new", {"/new": "F"}),
    ("file", "/d/new", {"/d/new": "F"}),
    ("file", "/new/", "no such directory"),
    ("file", "/no/new", "Could not find the file /no in container box"),
    ("file", "/f", {"/f": "F"}),
    ("file", "/d", {"/d/file": "F", "/d/one": "one\n"}),
    ("file", "/d/", {"/d/file": "F"}),
    ("file", "/to-d", {"/d/file": "F"}),
    ("file", "/to-f", {"/f": "F"}),
    ("file", "/to-nowhere", {"/nowhere": "F"}),
    ("file", "/vol", {"/vol/file": "F"}),
    ("file", "/pipe", 'destination "box:/pipe" must be a directory or a regular file'),
    ("file/", "/d", "not a directory"),
    ("nope", "/d", "lstat .*/nope: no such file or directory"),
    ("dir", "/new", {"/new/a": "A", "/new/sub/b": "B"}),
    ("dir", "/new/", {"/new/a": "A", "/new/sub/b": "B"}),
    ("dir/.", "/new", {"/new/a": "A", "/new/sub/b": "B"}),
    ("dir", "/f", "cannot copy directory"),
    ("dir/.", "/f", "cannot copy directory"),
    ("dir", "/d", {"/d/dir/a": "A", "/d/one": "one\n"}),
    ("dir/", "/d", {"/d/dir/a": "A"}),
    ("dir/.", "/d", {"/d/a": "A", "/d/sub/b": "B", "/d/sub/deep": "deep\n"}),
    ("dir/.", "/to-d", {"/d/a": "A"}),
    ("dirlink/", "/d", {"/d/dirlink/a": "A"}),
    ("dirlink/.", "/d", {"/d/a": "A"}),
]


@pytest.mark.parametrize(("source", "destination", "expected"), INTO)
def test_into_a_container(
    engine: Engine, tmp_path: Path, source: str, destination: str, expected: dict[str, str] | str
) -> None:
    make(engine, "stopped")
    local = f"{host(tmp_path)}/{source}"
    if isinstance(expected, str):
        with pytest.raises(MinidockError, match=expected):
            engine.copy_to("box", destination, local)
        return
    engine.copy_to("box", destination, local)
    assert {path: text(engine, path) for path in expected} == expected


OUT_OF = [
    ("/f", "new", {"new": "f\n"}),
    ("/f", "new/", "no such directory"),
    ("/f", "no/new", 'invalid output path: directory ".*/no" does not exist'),
    ("/f", "file", {"file": "f\n"}),
    ("/f", "dir", {"dir/f": "f\n", "dir/a": "A"}),
    ("/f", "link", {"file": "f\n"}),
    ("/f", "dirlink", {"dir/f": "f\n"}),
    ("/nope", "new", "Could not find the file /nope in container box"),
    ("/d", "new", {"new/one": "one\n", "new/sub/deep": "deep\n"}),
    ("/d", "new/", {"new/one": "one\n"}),
    ("/d/.", "new", {"new/one": "one\n"}),
    ("/d", "file", "cannot copy directory"),
    ("/d", "dir", {"dir/d/one": "one\n", "dir/a": "A"}),
    ("/d/.", "dir", {"dir/one": "one\n", "dir/sub/deep": "deep\n", "dir/sub/b": "B"}),
    ("/to-d/.", "dir", {"dir/one": "one\n"}),
    ("/vol", "new", {}),
]


@pytest.mark.parametrize(("source", "destination", "expected"), OUT_OF)
def test_out_of_a_container(
    engine: Engine, tmp_path: Path, source: str, destination: str, expected: dict[str, str] | str
) -> None:
    make(engine, "stopped")
    top = host(tmp_path)
    if isinstance(expected, str):
        with pytest.raises(MinidockError, match=expected):
            engine.copy_from("box", source, f"{top}/{destination}")
        return
    engine.copy_from("box", source, f"{top}/{destination}")
    assert {path: (top / path).read_text() for path in expected} == expected


def test_links_are_copied_as_links_or_followed(engine: Engine, tmp_path: Path) -> None:
    make(engine, "stopped")
    top = host(tmp_path)
    engine.copy_to("box", "/d", f"{top}/link")
    assert engine.stat_path("box", "/d/link").is_link
    engine.copy_to("box", "/empty", f"{top}/link", follow=True)
    assert text(engine, "/empty/link") == "F"
    engine.copy_from("box", "/to-f", str(top))
    assert os.readlink(top / "to-f") == "f"
    engine.copy_from("box", "/to-f", f"{top}/dir", follow=True)
    assert (top / "dir/to-f").read_text() == "f\n"
    engine.copy_from("box", "/to-d", f"{top}/dir", follow=True)
    assert (top / "dir/to-d/one").read_text() == "one\n"


def test_owners(engine: Engine, tmp_path: Path) -> None:
    make(engine, "stopped")
    top = host(tmp_path)
    for owners, expected in ((False, (0, 0)), (True, (11, 12))):
        engine.copy_to("box", "/d", f"{top}/file", owners=owners)
        (found,) = archive_of(engine, "/d/file").getmembers()
        assert (found.uid, found.gid) == expected
    for owners, expected in ((False, (os.geteuid(), os.getegid())), (True, (7, 8))):
        engine.copy_from("box", "/d/one", f"{top}/one", owners=owners)
        status = (top / "one").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (*expected, 0o4711)


def test_many_files_and_a_large_one(engine: Engine, tmp_path: Path) -> None:
    make(engine, "running")
    tree = tmp_path / "tree"
    for number in range(300):
        (tree / str(number % 7)).mkdir(parents=True, exist_ok=True)
        (tree / str(number % 7) / str(number)).write_bytes(os.urandom(number))
    (tree / "large").write_bytes(os.urandom(20 << 20))
    engine.copy_to("box", "/vol", str(tree))
    engine.copy_from("box", "/vol/tree/.", str(tmp_path / "back"))
    subprocess.run(["diff", "-r", tree, tmp_path / "back"], check=True)


# ── hostile containers ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize(
    "target",
    ["/", "../../../../../..", "/proc/1/root", pytest.param("/proc/self/root", marks=pytest.mark.vm)],
)
def test_links_lead_nowhere_but_into_the_container(
    engine: Engine, tmp_path: Path, state: str, target: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    make(engine, state)
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as archive:
        entry = tarfile.TarInfo("trap")
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)
    engine.write_archive("box", "/d", iter([link.getvalue()]))
    for path in (f"/d/trap{secret}", f"/d/trap/{secret}"):
        with pytest.raises(MinidockError):
            engine.read_archive("box", path, lambda data: None)
    with pytest.raises(MinidockError):
        engine.copy_to("box", f"/d/trap{secret}", str(secret))
    (tmp_path / "evil").write_text("evil")
    with contextlib.suppress(MinidockError):
        engine.copy_to("box", "/d/trap", str(tmp_path / "evil"))
    assert not Path("/evil").exists()
    assert secret.read_text() == "the host's"


def test_an_archive_cannot_climb_through_a_link_that_it_brings(engine: Engine, tmp_path: Path) -> None:
    make(engine, "stopped")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("l/evil"))
    with pytest.raises(MinidockError):
        engine.write_archive("box", "/d", iter([out.getvalue()]))
    assert not (tmp_path / "evil").exists()


_SWAP = """
mkdir -p /race/real /race/real/sub; echo mine > /race/real/sub/file; touch /started
ln -s {outside} /race/away
while :; do
  mv -T /race/real /race/was; mv -T /race/away /race/real
  mv -T /race/real /race/away; mv -T /race/was /race/real
done
"""


def test_a_directory_that_turns_into_a_link_meanwhile(engine: Engine, tmp_path: Path) -> None:
    """The container swaps a directory for a link to the host's; 60 copies each way never get there."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/file").write_text("the host's")
    engine.run_detached("busybox", _SWAP.format(outside=outside), name="box")
    while engine.exec("box", ["test", "-e", "/started"]).exit_code:
        pass
    (tmp_path / "new").write_text("new")
    done = 0
    with archives.opened(engine.container("box")) as files:
        for _ in range(60):
            for path in ("/race/real", "/race/real/sub/file", "/race"):
                data = bytearray()
                try:
                    files.read(path, data.extend)
                    done += 1
                except MinidockError:
                    continue
                finally:
                    assert b"the host's" not in data
            for path in ("/race/real/sub", "/race/real"):
                try:
                    files.write(path, iter(tar(new=b"new")))
                    done += 1
                except MinidockError:
                    continue
    assert done, "the race was never lost nor won"
    assert sorted(os.listdir(outside)) == ["sub"]
    assert os.listdir(outside / "sub") == ["file"]
    assert (outside / "sub/file").read_text() == "the host's"


def test_a_device_in_the_place_of_a_file_is_never_opened(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the open the container may put a device there: here it always does."""
    from minidock.images import pack

    make(engine, "running")
    real = os.lstat

    def swapped(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        found = real(path, dir_fd=dir_fd)
        if path == b"f":
            os.unlink(path, dir_fd=dir_fd)
            os.mkfifo(path, dir_fd=dir_fd)  # opening this one would wait for ever
        return found

    monkeypatch.setattr(pack.os, "lstat", swapped)
    with pytest.raises(MinidockError, match="changed while it was read"):
        engine.read_archive("box", "/f", lambda data: None)


# ── together with the rest ───────────────────────────────────────────────────────────────────────────


def test_a_stopped_container_cannot_start_meanwhile(engine: Engine, wait_for: Callable[..., Any]) -> None:
    """Its writable directory must not be mounted twice."""
    make(engine, "stopped")
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom minidock.engine import Engine\n"
        f"Engine({str(engine.root)!r}).start('box')"
    )
    with archives.opened(engine.container("box")) as files:
        starter = subprocess.Popen([sys.executable, "-c", program])
        files.write("/d", iter(tar(late=b"in time")))
        wait_for(lambda: _waits_for_a_lock(starter.pid), what="the starter to wait")
        assert not engine.container("box").running()
    assert starter.wait() == 0
    assert engine.exec("box", ["cat", "/d/late"]).output == "in time"


def _waits_for_a_lock(pid: int) -> bool:
    return any(f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def helpers(root: Path) -> list[str]:
    """The processes that hold a container's tree open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            if "view.py" in command and str(root) in command:
                found.append(process.name)
    return found


def test_nothing_stays_mounted(engine: Engine, container: Container) -> None:
    names(engine, "/d")
    assert str(engine.root) not in Path("/proc/self/mountinfo").read_text()


def test_a_killed_cp_leaves_nothing_and_lets_go_of_the_lock(
    engine: Engine, minidock: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    make(engine, "stopped")
    command = minidock("cp", "--help").args[:-2]
    killed = subprocess.Popen([*command, "cp", "box:/", "-"], stdout=subprocess.PIPE)
    assert killed.stdout
    killed.stdout.read(512)  # it is in the middle: a pipe holds less than an image
    assert helpers(engine.root)
    killed.kill()
    killed.wait()
    wait_for(lambda: not helpers(engine.root), what="the helper to go")
    engine.start("box")
    assert engine.exec("box", ["cat", "/d/one"]).output == "one\n"


def test_a_container_that_ends_meanwhile(engine: Engine) -> None:
    make(engine, "running")
    data = bytearray()
    with archives.opened(engine.container("box")) as files:
        engine.kill("box")
        files.read("/d", data.extend)  # the tree lasts as long as somebody looks at it
    assert b"one\n" in data


def test_export_has_no_volumes_and_changes_nothing(engine: Engine, container: Container) -> None:
    engine.write_archive("box", "/vol", iter(tar(kept=b"x")))
    before = engine.diff("box")
    out = io.BytesIO()
    engine.export("box", out)
    found = tarfile.open(fileobj=io.BytesIO(out.getvalue())).getnames()
    assert {"d/one", "vol", "bin/sh"} <= set(found)
    assert "vol/kept" not in found
    assert "." not in found
    assert engine.diff("box") == before
