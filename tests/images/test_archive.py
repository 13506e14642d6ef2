"""Archives: what we save others read, what others save we read, and hostile ones are refused whole."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from image_samples import BUSYBOX, Sample, add, check_layout, digest, sample, tar_of

from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import archive, removal
from minidock.images.store import Store

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def other(make_root: Callable[[], Path]) -> Store:
    return Store(make_root())


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


def saved(store: Store, *names: str) -> bytes:
    out = io.BytesIO()
    archive.save(store, list(names), out)
    return out.getvalue()


def load(store: Store, data: bytes) -> list[str]:
    return archive.load(store, io.BytesIO(data))


def docker_archive(made: Sample, *tags: str) -> dict[str, bytes]:
    """The files of an old `docker save`: a directory per layer, the layers not compressed."""
    layers = {f"{number}/layer.tar": gzip.decompress(data) for number, data in enumerate(made.blobs.values())}
    config = f"{made.id.removeprefix('sha256:')}.json"
    item = {"Config": config, "RepoTags": list(tags) or None, "Layers": list(layers)}
    return {config: made.config, **layers, "manifest.json": json.dumps([item]).encode()}


def oci_archive(made: Sample, name: str = "busybox") -> dict[str, bytes]:
    entry: dict[str, Any] = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.manifest)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    blobs = {made.digest: made.manifest, made.id: made.config, **made.blobs}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        **{f"blobs/sha256/{key.removeprefix('sha256:')}": data for key, data in blobs.items()},
    }


# --- there and back -------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_image(store: Store, other: Store) -> None:
    made = sample({"a": b"1"}, {"b": b"2"}, Cmd=["sh"])
    add(store, made, BUSYBOX)
    store.tag("busybox", "127.0.0.1:5000/team/app:2")
    data = saved(store, "busybox", "127.0.0.1:5000/team/app:2")
    assert load(other, data) == ["busybox:latest", "127.0.0.1:5000/team/app:2"]
    image = other.resolve("busybox")
    assert (image.id, image.digest) == (made.id, made.digest)
    assert sorted(image.names) == ["127.0.0.1:5000/team/app:2", BUSYBOX]
    assert [sorted(os.listdir(tree)) for tree in other.ensure_layers(image)] == [["a"], ["b"]]
    assert other.syncs == 1
    check_layout(other.root / "images")
    assert load(other, data) == ["busybox:latest", "127.0.0.1:5000/team/app:2"]
    assert len(other.images()) == 1
    assert saved(other, "busybox", "127.0.0.1:5000/team/app:2") == data


def test_an_image_saved_by_id_has_no_name(store: Store, other: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    assert load(other, saved(store, made.id[7:19])) == [made.id]
    assert other.resolve(made.id).dangling


def test_a_repository_without_tag_means_all_its_tags(store: Store, other: Store) -> None:
    add(store, sample({"a": b"1"}), "docker.io/library/app:1")
    add(store, sample({"a": b"2"}), "docker.io/library/app:2")
    assert load(other, saved(store, "app")) == ["app:1", "app:2"]
    with pytest.raises(NotFound):
        saved(store, "missing")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, zstandard.compress])
def test_archives_of_docker_and_oci_compressed_or_not(store: Store, pack: Callable[[bytes], bytes]) -> None:
    made = sample({"a": b"1"}, {"b": b"2"})
    assert load(store, pack(tar_of(docker_archive(made, "one:1", "two:2")))) == ["one:1", "two:2"]
    assert load(store, pack(tar_of(oci_archive(made, "three:3")))) == ["three:3"]
    assert {name for image in store.images() for name in image.names} == {
        f"docker.io/library/{name}" for name in ("one:1", "two:2", "three:3")
    }
    for name in ("one:1", "three:3"):
        assert store.resolve(name).id == made.id
        assert len(store.ensure_layers(store.resolve(name))) == 2


def test_layers_that_are_links_in_the_archive(store: Store) -> None:
    made = sample({"a": b"1"})
    files = docker_archive(made, "app:1")
    content = files.pop("0/layer.tar")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as writer:
        link = tarfile.TarInfo("0/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../shared.tar"
        writer.addfile(link)
        for name, data in {**files, "shared.tar": content}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    assert load(store, out.getvalue()) == ["app:1"]


@pytest.mark.peer
@needs_skopeo
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_saved(store: Store, tmp_path: Path, kind: str) -> None:
    made = sample({"a": b"1"}, {"b": b"2"})
    add(store, made, BUSYBOX)
    file = tmp_path / "saved.tar"
    file.write_bytes(saved(store, "busybox"))
    skopeo("copy", f"{kind}:{file}", f"oci:{tmp_path}/seen:x")
    seen = json.loads(skopeo("inspect", "--config", f"oci:{tmp_path}/seen:x"))
    assert seen["rootfs"]["diff_ids"] == made.diff_ids
    check_layout(tmp_path / "seen")


@pytest.mark.peer
@needs_skopeo
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_we_read_what_skopeo_saved(store: Store, other: Store, tmp_path: Path, kind: str) -> None:
    made = sample({"a": b"1"}, {"b": b"2"})
    add(store, made, BUSYBOX)
    file = tmp_path / "saved.tar"
    skopeo("copy", f"oci:{store.root}/images:{BUSYBOX}", f"{kind}:{file}:quay.io/team/app:1")
    with open(file, "rb") as opened:
        assert archive.load(other, opened) == ["quay.io/team/app:1"]
    assert other.resolve("quay.io/team/app:1").id == made.id
    check_layout(other.root / "images")


# --- hostile archives -----------------------------------------------------------------------------


def _changed(files: dict[str, bytes], name: str, data: bytes | None) -> dict[str, bytes]:
    return {**{key: value for key, value in files.items() if key != name}, **({name: data} if data else {})}


def _docker(**changes: Any) -> dict[str, bytes]:
    files = docker_archive(sample(), "app:1")
    item = {**json.loads(files["manifest.json"])[0], **changes}
    return _changed(files, "manifest.json", json.dumps([item]).encode())


def _config(**changes: Any) -> dict[str, bytes]:
    files = docker_archive(sample(), "app:1")
    name = next(name for name in files if name.endswith(".json"))
    return _changed(files, name, json.dumps({**json.loads(files[name]), **changes}).encode())


def _without_blob(which: str) -> dict[str, bytes]:
    made = sample()
    name = {"manifest": made.digest, "config": made.id, "layer": next(iter(made.blobs))}[which]
    return _changed(oci_archive(made), f"blobs/sha256/{name.removeprefix('sha256:')}", None)


def _with_blob(which: str, data: bytes) -> dict[str, bytes]:
    made = sample()
    name = {"manifest": made.digest, "config": made.id, "layer": next(iter(made.blobs))}[which]
    return _changed(oci_archive(made), f"blobs/sha256/{name.removeprefix('sha256:')}", data)


HOSTILE: dict[str, dict[str, bytes]] = {
    "nothing": {},
    "no image": {"etc/passwd": b"root"},
    "parent path": {**_docker(), "../evil": b"x"},
    "parent inside": {**_docker(), "a/../../evil": b"x"},
    "absolute path": {**_docker(), "/etc/evil": b"x"},
    "manifest not JSON": {"manifest.json": b"{"},
    "manifest no list": {"manifest.json": b"{}"},
    "manifest of numbers": {"manifest.json": b"[1]"},
    "layer missing": _docker(Layers=["missing/layer.tar"]),
    "layer outside": _docker(Layers=["../../../etc/passwd"]),
    "layer absolute": _docker(Layers=["/etc/passwd"]),
    "layer no text": _docker(Layers=[7]),
    "config missing": _docker(Config="missing.json"),
    "config no text": _docker(Config=None),
    "too few layers": _docker(Layers=[]),
    "tag malformed": _docker(RepoTags=["../../x:1"]),
    "tag upper case": _docker(RepoTags=["App:1"]),
    "tag with digest": _docker(RepoTags=["app@sha256:" + "0" * 64]),
    "wrong diff id": _config(rootfs={"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}),
    "diff id a path": _config(rootfs={"type": "layers", "diff_ids": ["sha256:../../../../tmp/x"]}),
    "no diff ids": _config(rootfs={}),
    "rootfs no object": _config(rootfs="x"),
    "layer no tar": _changed(docker_archive(sample(), "app:1"), "0/layer.tar", b"not a tar archive" * 100),
    "tags no list": _docker(RepoTags="app"),
    "tags of numbers": _docker(RepoTags=[1]),
    "config of numbers": _config(config={"Env": 7}),
    "settings no object": _config(config=[1]),
    "history no list": _config(history={"a": 1}),
    "created no text": _config(created=1),
    "OCI manifest missing": _without_blob("manifest"),
    "OCI config missing": _without_blob("config"),
    "OCI layer missing": _without_blob("layer"),
    "OCI manifest altered": _with_blob("manifest", b"{}"),
    "OCI config altered": _with_blob("config", b"{}"),
    "OCI layer altered": _with_blob("layer", gzip.compress(tar_of({"hello": b"evil!\n"}))),
    "OCI index not JSON": _changed(oci_archive(sample()), "index.json", b"]"),
    "OCI index no object": _changed(oci_archive(sample()), "index.json", b"[]"),
    "OCI entries no list": _changed(oci_archive(sample()), "index.json", b'{"manifests": 7}'),
    "OCI entry no object": _changed(oci_archive(sample()), "index.json", b'{"manifests": [7]}'),
    "OCI digest a path": _changed(
        oci_archive(sample()), "index.json", b'{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}'
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_whole(store: Store, what: str) -> None:
    with pytest.raises(MinidockError):
        load(store, tar_of(HOSTILE[what]))
    _nothing_came_in(store)


def _nothing_came_in(store: Store) -> None:
    assert store.images() == []
    assert os.listdir(store.layers) == []
    assert os.listdir(store.temporary) == []
    assert sorted(os.listdir(store.root)) == ["images", "images.lock", "layers", "tmp"]
    removal.collect(store)
    assert os.listdir(store.layout.blobs) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "..", "0/layer.tar"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_never_leads_out_of_the_archive(store: Store, kind: bytes, target: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as writer:
        for name, data in _changed(docker_archive(sample(), "app:1"), "0/layer.tar", None).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("0/layer.tar")
        link.type, link.linkname = kind, target
        writer.addfile(link)
    with pytest.raises(MinidockError):
        load(store, out.getvalue())
    _nothing_came_in(store)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_have_no_place_in_an_archive_of_images(store: Store, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as writer:
        node = tarfile.TarInfo("manifest.json")
        node.type = kind
        writer.addfile(node)
    with pytest.raises(InvalidInput, match="files only"):
        load(store, out.getvalue())


@pytest.mark.parametrize("length", [100, 700, 3000])
def test_a_truncated_archive_is_refused(store: Store, length: int) -> None:
    data = tar_of(docker_archive(sample(), "app:1"))
    with pytest.raises(MinidockError):
        load(store, data[:length])
    _nothing_came_in(store)


def test_a_bomb_is_bounded(root: Path) -> None:
    store = Store(root, max_layer_size=1 << 20)
    with pytest.raises(MinidockError, match=r"too large|larger"):
        load(store, gzip.compress(tar_of(docker_archive(sample({"zeros": bytes(4 << 20)}), "app:1"))))
    _nothing_came_in(store)


def test_a_damaged_image_is_not_saved_silently(store: Store) -> None:
    made = sample()
    add(store, made, BUSYBOX)
    path = store.blob_path(next(iter(made.blobs)))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(MinidockError, match=str(path)):
        saved(store, "busybox")


# --- import and export ----------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_import_makes_an_image_of_a_filesystem(store: Store, pack: Callable[[bytes], bytes]) -> None:
    image = archive.import_(
        store,
        io.BytesIO(pack(tar_of({"bin/sh": b"#!", "etc/passwd": b"root"}))),
        "mine:1",
        settings={"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        message="from a tarball",
        platform="linux/arm64",
    )
    assert image.names == ["docker.io/library/mine:1"]
    assert image.settings == {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    assert image.platform.startswith("linux/arm64")
    assert image.history[0]["comment"] == "from a tarball"
    assert (store.ensure_layers(image)[0] / "etc/passwd").read_bytes() == b"root"
    check_layout(store.root / "images")


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, bz2.compress(tar_of({"a": b"1"}))])
def test_import_refuses_what_is_no_filesystem(store: Store, data: bytes) -> None:
    with pytest.raises(MinidockError):
        archive.import_(store, io.BytesIO(data))
    assert store.images() == []


@pytest.fixture
def tree(overlay_dir: Path) -> Path:
    tree = overlay_dir / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/file").write_bytes(b"content\n")
    (tree / "dir/big").write_bytes(os.urandom(1 << 16))
    os.link(tree / "dir/file", tree / "dir/again")
    (tree / "link").symlink_to("dir/file")
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.mkfifo(tree / "fifo", 0o600)
    os.chmod(tree / "dir/file", 0o4751)
    os.chown(tree / "dir/file", 1234, 70000)
    os.setxattr(tree / "dir/file", "trusted.note", b"\0\xff")
    os.utime(tree / "dir/file", ns=(1, 1_234_567_890_123_456_789))
    (tree / ("n" * 200)).mkdir()
    (tree / ("n" * 200) / ("é" * 100)).write_bytes(b"long")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket"))
    return tree


def test_export_keeps_everything_and_is_the_same_twice(tree: Path, overlay_dir: Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    archive.export(tree, first)
    archive.export(tree, second)
    assert first.getvalue() == second.getvalue()
    back = overlay_dir / "back"
    back.mkdir()
    command = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", str(back)]
    subprocess.run(command, input=first.getvalue(), check=True)
    assert not (back / "socket").exists()
    assert _described(back) == {key: value for key, value in _described(tree).items() if key != "socket"}


def _described(tree: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(tree))] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns if path.is_file() else None,
            status.st_rdev,
            1 if path.is_dir() else status.st_nlink,
            {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            },
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
            os.readlink(path) if path.is_symlink() else None,
        )
    return found


def test_exported_and_imported_is_the_same_filesystem(tree: Path, store: Store) -> None:
    out = io.BytesIO()
    archive.export(tree, out)
    image = archive.import_(store, io.BytesIO(out.getvalue()), "flat:1")
    again = io.BytesIO()
    archive.export(store.ensure_layers(image)[0], again)
    assert again.getvalue() == out.getvalue()
    assert image.diff_ids == [digest(out.getvalue())]
