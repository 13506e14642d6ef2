"""Layers: what is unpacked is what was packed, GNU tar and Python agree, and overlayfs obeys."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import socket
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidock import files
from minidock.errors import InvalidInput, MinidockError
from minidock.images import layer
from minidock.images.settle import settle

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that must survive the way through an archive, of every name below *root* and of itself."""
    found = {}
    links: dict[tuple[int, int], str] = {}
    for above, directories, names in sorted(os.walk(root)):
        names.sort()
        for name in [".", *directories, *names] if above == str(root) else directories + names:
            path = os.path.join(above, name)
            status = os.lstat(path)
            if stat.S_ISSOCK(status.st_mode):
                continue
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(os.fsencode(path))
            relative = os.path.relpath(path, root)
            keys = sorted(os.listxattr(path, follow_symlinks=False))
            found[relative] = (
                *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev, content),
                {key: os.getxattr(path, key, follow_symlinks=False) for key in keys},
            )
            if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
                found[relative] += (links.setdefault((status.st_dev, status.st_ino), relative),)
    return found


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pack(tree: Path, **options: object) -> tuple[bytes, layer.Packed]:
    out = io.BytesIO()
    packed = layer.pack_layer(tree, out, **options)  # type: ignore[arg-type]
    return out.getvalue(), packed


def in_own_mounts(work: Callable[[], object]) -> None:
    """Run *work* in a forked child with a private mount namespace; its AssertionErrors fail the test."""
    from minidock.kernel import syscalls

    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            work()
            code = 0
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader) as said:
        text = said.read()
    assert os.waitpid(child, 0)[1] == 0, text


def stacked(look: Callable[[Path], object], root: Path, *lower: Path) -> None:
    """Mount *lower* (topmost first) with overlayfs in a private namespace and *look* at the result."""
    from minidock.kernel import overlay

    for name in ("upper", "work", "merged"):
        (root / name).mkdir(exist_ok=True)

    def work() -> None:
        overlay.mount_overlay(list(lower), root / "merged", root / "upper", root / "work")
        look(root / "merged")

    in_own_mounts(work)


@pytest.fixture
def tree(root: Path) -> Path:
    """A directory with one of everything."""
    top = root / "tree"
    top.mkdir(parents=True)
    (top / "file").write_bytes(b"content\n" * 300)
    (top / "empty").touch()
    (top / "setuid").write_bytes(b"s")
    os.chown(top / "setuid", 12, 34)
    (top / "setuid").chmod(0o6755)
    (top / "capable").write_bytes(b"c")
    os.setxattr(top / "capable", "security.capability", CAPABILITY)
    os.setxattr(top / "file", "user.binary", b"\0\xff=\n")
    os.link(top / "file", top / "second name")
    (top / "directory").mkdir(mode=0o700)
    (top / "directory" / ("long" * 50)).mkdir()
    (top / "directory" / ("long" * 50) / ("name" * 30)).write_bytes(b"deep")
    (top / "directory" / "to file").symlink_to("../file")
    (top / "to far").symlink_to("/" + "far/" * 40)
    os.chown(top / "to far", 5, 6, follow_symlinks=False)
    (top / "tmp").mkdir()
    (top / "tmp").chmod(0o3777)
    os.setxattr(top / "tmp", "user.on.directory", b"1")
    os.mkfifo(top / "fifo", 0o622)
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70000))
    (top / "großes 文件\n").write_bytes(b"u")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe")).write_bytes(b"bytes")
    (top / "old").write_bytes(b"o")
    os.utime(top / "old", ns=(0, -1_500_000_000))
    os.utime(top / "to far", ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.chown(top / "empty", 3_000_000, 4_000_000_000)
    os.utime(top / "directory", ns=(0, 987_654_321_000_000_001))
    return top


# ── what was packed comes back ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compress", ["gzip", "zstd", ""])
def test_one_of_everything_survives(tree: Path, root: Path, compress: str) -> None:
    data, packed = pack(tree, compress=compress)
    assert packed.digest == digest_of(data)
    assert packed.size == len(data)
    size = layer.apply_layer(
        io.BytesIO(data), root / "back", expected_digest=packed.digest, expected_diff_id=packed.diff_id
    )
    assert snapshot(root / "back") == snapshot(tree)
    assert size == 2400 + 1 + 1 + 4 + 1 + 5 + 1 + len("../file") + len("/" + "far/" * 40)


def test_the_same_tree_gives_the_same_bytes(tree: Path, root: Path) -> None:
    first, packed = pack(tree)
    layer.apply_layer(io.BytesIO(first), root / "copy")
    os.utime(root / "copy" / "file", ns=(5, os.stat(tree / "file").st_mtime_ns))  # another access time
    second, again = pack(root / "copy")
    assert second == first
    assert again == packed


def test_newest_bounds_every_time(tree: Path) -> None:
    data, _ = pack(tree, newest=1_000_000)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert max(member.mtime for member in archive) == 1_000_000
        assert archive.getmember("old").mtime == -1.5


@pytest.mark.parametrize("kind", ["posix", "gnu", "oldgnu"])
def test_gnu_tar_writes_and_we_read(tree: Path, root: Path, kind: str) -> None:
    archive = subprocess.run(
        ["tar", f"--format={kind}", "--numeric-owner", "-cf-", "-C", tree]
        + (["--xattrs", "--xattrs-include=*", "."] if kind == "posix" else ["."]),
        check=True,
        capture_output=True,
    ).stdout
    layer.apply_layer(io.BytesIO(archive), root / "back")
    ours, theirs = snapshot(root / "back"), snapshot(tree)
    if kind != "posix":  # those formats know neither attributes nor nanoseconds
        ours, theirs = ({k: (*v[:3], *v[4:6]) for k, v in some.items()} for some in (ours, theirs))
    assert ours == theirs


def test_we_write_and_gnu_tar_reads(tree: Path, root: Path) -> None:
    data, _ = pack(tree)
    (root / "back").mkdir()
    subprocess.run(
        ["tar", "-xzpf-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", root / "back"],
        input=data,
        check=True,
    )
    assert snapshot(root / "back") == snapshot(tree)


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_python_writes_and_we_read(tree: Path, root: Path, kind: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=kind) as archive:
        archive.add(tree, ".")
    layer.apply_layer(io.BytesIO(out.getvalue()), root / "back")
    ours, theirs = snapshot(root / "back"), snapshot(tree)
    assert {k: (*v[:3], v[5]) for k, v in ours.items()} == {k: (*v[:3], v[5]) for k, v in theirs.items()}


def test_we_write_and_python_reads(tree: Path) -> None:
    data, _ = pack(tree)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = [os.fsencode(member.name) for member in archive]
        assert archive.getmember("second name").linkname == "file"
        assert archive.getmember("empty").gid == 4_000_000_000
    # depth first, each directory's names in byte order, as one sorts by components
    assert [name.split(b"/") for name in names[1:]] == sorted(name.split(b"/") for name in names[1:])
    assert set(names) == {os.fsencode(name) for name in snapshot(tree)}


NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..") and not name.startswith(b".wh.")
)
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=2000), st.sampled_from([0o600, 0o644, 0o4711, 0])),
    st.tuples(
        st.just("link"), st.binary(min_size=1, max_size=300).filter(lambda b: b"\0" not in b), st.just(0)
    ),
    st.tuples(st.just("fifo"), st.just(b""), st.just(0o640)),
)
TREES = st.recursive(LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=5), max_leaves=12)


def grow(path: bytes, what: object, mtime: int) -> None:
    if isinstance(what, dict):
        os.makedirs(path, exist_ok=True)
        for name, child in what.items():
            grow(path + b"/" + name, child, mtime + 1_000_000_007)
        os.utime(path, ns=(0, mtime))
        return
    kind, content, mode = what  # type: ignore[misc]
    if kind == "file":
        Path(os.fsdecode(path)).write_bytes(content)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.symlink(content, path)
        return
    os.chmod(path, mode)
    os.utime(path, ns=(0, mtime))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(what=st.dictionaries(NAMES, TREES, max_size=6), mtime=st.integers(-(10**18), 4 * 10**18))
def test_any_tree_survives(root: Path, what: dict[bytes, object], mtime: int) -> None:
    base = root / os.urandom(6).hex()
    base.mkdir(parents=True)
    try:
        grow(os.fsencode(base / "tree"), what, mtime)
        data, _ = pack(base / "tree")
        layer.apply_layer(io.BytesIO(data), base / "back")
        assert snapshot(base / "back") == snapshot(base / "tree")
        (base / "gnu").mkdir()
        subprocess.run(["tar", "-xzpf-", "-C", base / "gnu"], input=data, check=True)
        assert snapshot(base / "gnu") == snapshot(base / "tree")
    finally:
        files.remove_tree(base)


def test_sparse_files_of_gnu_tar(root: Path) -> None:
    source = root / "source"
    source.mkdir(parents=True)
    with open(source / "holes", "wb") as file:
        for number in range(30):  # more parts than one header holds
            file.seek(number * 200_000)
            file.write(b"%d" % number * 3000)
        file.truncate(7_000_000)
    wanted = (source / "holes").read_bytes()
    for arguments in (
        ["--format=gnu"],
        *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
    ):
        archive = subprocess.run(
            ["tar", "-S", *arguments, "-cf-", "-C", source, "."], check=True, capture_output=True
        ).stdout
        assert len(archive) < 1_000_000
        target = root / ("back" + "".join(arguments))
        assert layer.apply_layer(io.BytesIO(archive), target) == len(wanted)
        assert (target / "holes").read_bytes() == wanted
        assert (target / "holes").stat().st_blocks * 512 < 1_500_000


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [1, 7, 511, 513, 100_000])
def test_blocks_of_any_size(tree: Path, root: Path, size: int) -> None:
    data, packed = pack(tree)
    layer.apply_layer(pieces(data, size), root / "back", expected_digest=packed.digest)
    assert snapshot(root / "back") == snapshot(tree)


def test_other_compressions_and_labels_that_lie(tree: Path, root: Path) -> None:
    plain, packed = pack(tree, compress="")
    half = len(plain) // 2
    frames = (
        zstandard.compress(plain[:half]) + b"\x50\x2a\x4d\x18\3\0\0\0abc" + zstandard.compress(plain[half:])
    )
    gzip_label = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    for number, data in enumerate(
        [frames, plain, gzip.compress(plain), bz2.compress(plain), lzma.compress(plain)]
    ):
        target = root / f"back{number}"
        layer.apply_layer(io.BytesIO(data), target, media_type=gzip_label, expected_diff_id=packed.diff_id)
        assert snapshot(target) == snapshot(tree)
    with pytest.raises(InvalidInput, match="zstd"):
        layer.apply_layer(io.BytesIO(frames[:-7]), root / "cut")
    with pytest.raises(InvalidInput, match="'lz4' is not supported"):
        pack(tree, compress="lz4")


def test_a_broken_connection_is_not_a_broken_archive(tree: Path, root: Path) -> None:
    data, packed = pack(tree)

    def breaks() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        raise ConnectionResetError("the line is dead")

    for options in ({}, {"expected_digest": packed.digest}):
        with pytest.raises(ConnectionResetError):
            layer.apply_layer(breaks(), root / "back", **options)


def test_every_flipped_byte_is_noticed(tree: Path, root: Path) -> None:
    data, packed = pack(tree)
    for at in range(0, len(data), max(1, len(data) // 60)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(InvalidInput, match="digest should be"):
            layer.apply_layer(io.BytesIO(damaged), root / "back", expected_digest=packed.digest)
        files.remove_tree(root / "back")


def test_a_full_disk_says_so(root: Path) -> None:
    from minidock.kernel import syscalls

    small = root / "small"
    small.mkdir(parents=True)

    def work() -> None:
        syscalls.mount("tmpfs", small, "tmpfs", 0, "size=64k")
        with pytest.raises(MinidockError, match="'x': No space left") as caught:
            layer.apply_layer(io.BytesIO(hostile.file(b"x", bytes(1 << 20))), small / "back")
        assert "prune" in (caught.value.hint or "")

    in_own_mounts(work)


# ── stacked by overlayfs ────────────────────────────────────────────────────────────────────────────


def make(root: Path, name: str, *parts: bytes, parents: tuple[Path, ...] | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    layer.apply_layer(io.BytesIO(b"".join(parts) + hostile.END), root / name, parents=parents)
    return root / name


def test_whiteouts_and_opaque_directories_hide(root: Path) -> None:
    file, directory = hostile.file, hostile.directory
    lower = make(
        root, "lower", file(b"gone"), file(b"kept"), file(b"dir/old"), file(b"again/old"), file(b"deep/a/b")
    )
    upper = make(
        root,
        "layer",
        *(file(b".wh.gone", b""), directory(b"dir"), file(b"dir/.wh..wh..opq", b""), file(b"dir/new")),
        *(file(b".wh.again", b""), file(b"again/new"), file(b"deep/a/.wh.b", b"")),
    )

    def look(merged: Path) -> None:
        assert sorted(os.listdir(merged)) == ["again", "deep", "dir", "kept"]
        assert os.listdir(merged / "dir") == ["new"]
        assert os.listdir(merged / "again") == ["new"]
        assert os.listdir(merged / "deep" / "a") == []

    stacked(look, root, upper, lower)


def test_a_directory_over_a_link_of_the_layer_below_hides_it(root: Path) -> None:
    """As in Docker: nothing is written through the link, neither in the layer nor outside."""
    outside = root / "outside"
    outside.mkdir(parents=True)
    lower = make(
        root, "lower", hostile.symlink(b"lib", b"usr/lib"), hostile.symlink(b"out", os.fsencode(outside))
    )
    upper = make(root, "layer", hostile.file(b"lib/x"), hostile.file(b"out/evil"), parents=(lower,))

    def look(merged: Path) -> None:
        assert not (merged / "lib").is_symlink()
        assert (merged / "lib" / "x").read_text() == "hi"
        assert (merged / "out" / "evil").read_text() == "hi"

    stacked(look, root, upper, lower)
    assert os.listdir(outside) == []


def test_unlisted_directories_look_as_in_the_layer_below(root: Path) -> None:
    lower = make(
        root,
        "lower",
        hostile.directory(b"tmp", 0o1777, mtime=1_000_000_000),
        hostile.xattr(b"user.note", b"kept") + hostile.directory(b"home", 0o750, uid=7),
        hostile.directory(b"home/me", 0o700, uid=8),
        hostile.directory(b"file", 0o700),
    )
    middle = make(root, "middle", hostile.file(b".wh.file", b""), parents=(lower,))
    upper = make(
        root,
        "layer",
        hostile.file(b"tmp/a"),
        hostile.file(b"home/me/b"),
        hostile.file(b"file/c"),
        hostile.file(b"new/d"),
    )
    assert os.stat(upper / "home").st_uid == 0
    settle(upper, [middle, lower])
    settle(upper, [middle, lower])
    seen = {name: os.stat(upper / name) for name in ("tmp", "home", "home/me", "file", "new")}
    assert {name: (stat.S_IMODE(status.st_mode), status.st_uid) for name, status in seen.items()} == {
        "tmp": (0o1777, 0),
        "home": (0o750, 7),
        "home/me": (0o700, 8),
        "file": (0o755, 0),  # deleted in between: this is a new one
        "new": (0o755, 0),
    }
    assert seen["tmp"].st_mtime == 1_000_000_000
    assert os.getxattr(upper / "home", "user.note") == b"kept"
    for path in (upper, upper / "tmp", upper / "new"):
        assert not [key for key in os.listxattr(path) if key.startswith("trusted.")]


def test_an_opaque_root_hides_everything(root: Path) -> None:
    """overlayfs ignores the attribute on the root of a layer, so settling spells it out."""
    lower = make(root, "lower", hostile.file(b"a"), hostile.file(b"d/old"))
    upper = make(root, "layer", hostile.file(b".wh..wh..opq", b""), hostile.file(b"d/new"), parents=(lower,))

    def look(merged: Path) -> None:
        assert os.listdir(merged) == ["d"]
        assert os.listdir(merged / "d") == ["new"]

    stacked(look, root, upper, lower)


def test_a_commit_goes_through_overlay_and_back(root: Path) -> None:
    """Change a container, pack its upper directory, unpack that, stack it: the same view."""
    lower = make(
        root, "lower", *(hostile.file(name) for name in (b"edit", b"delete", b"d/x", b"replaced/x", b"mode"))
    )
    settle(lower, [])
    archive = root / "layer.tar.gz"

    def view(merged: Path) -> str:
        return repr(sorted((name, *of) for name, of in snapshot(merged).items() if name != "."))

    def change(merged: Path) -> None:
        (merged / "edit").write_text("edited")
        (merged / "delete").unlink()
        (merged / "d" / "x").unlink()
        files.remove_tree(merged / "replaced")
        (merged / "replaced").mkdir()
        (merged / "replaced" / "new").write_text("n")
        (merged / "mode").chmod(0o4750)
        os.link(merged / "edit", merged / "same")
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(merged / "socket"))
        server.close()
        (root / "view").write_text(view(merged))
        with open(archive, "wb") as out:
            layer.pack_layer(root / "upper", out)

    stacked(change, root, lower)
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert {".wh.delete", "d/.wh.x", "replaced/.wh..wh..opq", "replaced/new", "same"} <= set(names)
    assert "socket" not in names
    with open(archive, "rb") as stream:
        layer.apply_layer(stream, root / "committed", parents=[lower])
    files.remove_tree(root / "upper")
    files.remove_tree(root / "work")
    stacked(lambda merged: (root / "again").write_text(view(merged)), root, root / "committed", lower)
    assert (root / "again").read_text() == (root / "view").read_text()


def test_a_name_that_would_read_as_a_whiteout_is_refused(root: Path) -> None:
    (root / "tree").mkdir(parents=True)
    (root / "tree" / ".wh.x").touch()
    with pytest.raises(InvalidInput, match=r"'\.wh\.x'"):
        pack(root / "tree")


def test_memory_stays_small(root: Path) -> None:
    """256 MiB in one file, gzip members inside, one process: at most 40 MiB at its peak."""
    script = """
import sys, zlib
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import hostile
from minidock.images import layer
def stream():
    squeeze = zlib.compressobj(1, wbits=31)
    yield squeeze.compress(hostile.block(b"big", size=256 << 20))
    for _ in range(256):
        yield squeeze.compress(bytes(1 << 20))
    yield squeeze.compress(hostile.END) + squeeze.flush()
layer.apply_layer(stream(), Path(sys.argv[1]), max_size=1 << 30)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, root / "target", here.parent.parent, here],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (root / "target" / "big").stat().st_size == 256 << 20
    assert int(done.stdout) <= 40 << 10  # KiB


@pytest.mark.parametrize(("name", "directory"), [("t/é世界", False), ("t/plain", False), ("t/old/", True)])
def test_a_name_that_only_pax_can_say(root: Path, name: str, directory: bool) -> None:
    """Go's tar leaves out of the header's name what is not ASCII, so that it may end in a slash."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as writer:
        entry = tarfile.TarInfo("t/")
        entry.type, entry.size, entry.pax_headers = tarfile.REGTYPE, 0 if directory else 5, {"path": name}
        writer.addfile(entry, io.BytesIO(b"hello"))
    layer.apply_layer(io.BytesIO(archive.getvalue()), root / "tree")
    made = root / "tree" / name
    assert made.is_dir() if directory else made.read_text() == "hello"
