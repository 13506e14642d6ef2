"""Write OCI images with nothing but the standard library: layers, configs, manifests, and a push.

This is the set-up's own small writer: it must work on a machine where minidock is not installed yet.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

Descriptor = dict[str, Any]


@dataclass
class Layout:
    """A directory in OCI image layout to which blobs and images are added."""

    directory: Path
    epoch: int  # no file in a layer is younger: the same recipe gives the same bytes

    def __post_init__(self) -> None:
        (self.directory / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add_blob(self, data: bytes, media_type: str) -> Descriptor:
        digest = hashlib.sha256(data).hexdigest()
        (self.directory / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_layer(self, entries: Iterable[tuple[tarfile.TarInfo, bytes | Path | None]]) -> Layer:
        """Write a layer of *entries*: header and content (bytes, a file to read, or None)."""
        temporary = self.directory / f"layer.{os.getpid()}"
        names: set[str] = set()
        with temporary.open("w+b") as file:
            # mtime=0 and no name: gzip headers are the same each time.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
                plain = _Hashing(packed)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    for header, content in entries:
                        if header.name in names:
                            raise ValueError(f"{header.name}: twice in one layer, which docker refuses")
                        names.add(header.name)
                        header.mtime = min(int(header.mtime), self.epoch)
                        header.uname = header.gname = ""
                        _add(archive, header, content)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
        temporary.rename(self.directory / "blobs/sha256" / digest)
        descriptor = {"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}
        return Layer(f"sha256:{plain.hash.hexdigest()}", descriptor)

    def add_image(self, image: Image) -> Descriptor:
        """Write config and manifest of *image*; returns the manifest's descriptor."""
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.epoch))
        config = {
            "created": created,
            "architecture": image.architecture,
            "os": "linux",
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
            "history": [
                {"created": created, "created_by": line} | ({} if has_layer else {"empty_layer": True})
                for line, has_layer in image.history
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_blob(_json(config), CONFIG),
            "layers": [layer.descriptor for layer in image.layers],
        }
        descriptor = self.add_blob(_json(manifest), MANIFEST)
        return descriptor | {"platform": {"architecture": image.architecture, "os": "linux"}}

    def add_index(self, manifests: list[Descriptor]) -> Descriptor:
        return self.add_blob(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}), INDEX)

    def name(self, names: dict[str, Descriptor]) -> None:
        """Write index.json: which name is which image."""
        manifests = [
            descriptor | {"annotations": {"org.opencontainers.image.ref.name": name}}
            for name, descriptor in names.items()
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        (self.directory / "index.json").write_bytes(_json(index))

    def read(self, descriptor: Descriptor) -> bytes:
        return (self.directory / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()


@dataclass
class Layer:
    diff_id: str
    descriptor: Descriptor


@dataclass
class Image:
    """*history* lines are Dockerfile instructions with whether each made a layer."""

    architecture: str
    config: dict[str, Any]
    layers: list[Layer] = field(default_factory=list)
    history: list[tuple[str, bool]] = field(default_factory=list)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class _Hashing:
    """A file for writing that hashes what passes through."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.target.write(data)
        return len(data)


def _add(archive: tarfile.TarFile, header: tarfile.TarInfo, content: bytes | Path | None) -> None:
    if content is None:
        archive.addfile(header)
    elif isinstance(content, bytes):
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    else:
        with content.open("rb") as file:
            archive.addfile(header, file)


# ── tar entries ──────────────────────────────────────────────────────────────────────────────────────


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, None]:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.mtime = tarfile.DIRTYPE, mode, 1 << 40
    return header, None


def file(name: str, content: str | bytes | Path, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes | Path]:
    header = tarfile.TarInfo(name)
    header.mode, header.mtime = mode, 1 << 40
    if isinstance(content, Path):
        header.size = content.stat().st_size
        return header, content
    return header, content.encode() if isinstance(content, str) else content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, None]:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.linkname, header.mtime = tarfile.SYMTYPE, 0o777, target, 1 << 40
    return header, None


Tree = dict[str, list[Any]]


def scan(root: Path, without: Iterable[str]) -> Tree:
    """What identifies each path below *root*: paths that start with one of *without* are left out.

    Mount points (the /proc and /dev that a package manager wants) are not entered.
    """
    tree: Tree = {}
    device, left_out = root.lstat().st_dev, tuple(without)

    def walk(directory: Path) -> None:
        for entry in sorted(os.scandir(directory), key=lambda each: each.name):
            name = str(Path(entry.path).relative_to(root))
            if name.startswith(left_out):
                continue
            about = entry.stat(follow_symlinks=False)
            target = os.readlink(entry.path) if entry.is_symlink() else ""
            is_directory = entry.is_dir(follow_symlinks=False)
            # A directory's own size and time change whenever something in it does: no news.
            changing = [0, 0] if is_directory else [about.st_size, about.st_mtime_ns]
            tree[name] = [about.st_mode, about.st_uid, about.st_gid, target, *changing]
            if is_directory and about.st_dev == device:
                walk(Path(entry.path))

    walk(root)
    return tree


def difference(root: Path, before: Tree, now: Tree) -> list[tuple[tarfile.TarInfo, bytes | Path | None]]:
    """The layer that turns tree *before* into tree *now* (whose files are below *root*)."""
    entries: list[tuple[tarfile.TarInfo, bytes | Path | None]] = []
    changed = {name for name, identity in now.items() if before.get(name) != identity}
    for name in sorted(changed):  # a changed file brings its directories along, with their owner and mode
        changed |= {str(parent) for parent in Path(name).parents if str(parent) != "."}
    gone = {name for name in before if name not in now}
    whiteouts = {str(Path(name).parent / f".wh.{Path(name).name}"): name for name in gone}
    first_of_inode: dict[int, str] = {}
    for name in sorted(changed | set(whiteouts)):
        if name in whiteouts:
            if str(Path(whiteouts[name]).parent) in now or "/" not in name:
                entries.append(file(name, b"", 0))
            continue
        about = (root / name).lstat()
        header = tarfile.TarInfo(name)
        header.mode, header.uid, header.gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
        header.mtime = int(about.st_mtime)
        header.pax_headers = {
            f"SCHILY.xattr.{key}": os.getxattr(root / name, key, follow_symlinks=False).decode("latin-1")
            for key in os.listxattr(root / name, follow_symlinks=False)
        }
        if stat.S_ISLNK(about.st_mode):
            header.type, header.linkname = tarfile.SYMTYPE, os.readlink(root / name)
        elif stat.S_ISDIR(about.st_mode):
            header.type = tarfile.DIRTYPE
        elif stat.S_ISREG(about.st_mode) and about.st_ino in first_of_inode:
            header.type, header.linkname = tarfile.LNKTYPE, first_of_inode[about.st_ino]
        elif stat.S_ISREG(about.st_mode):
            first_of_inode[about.st_ino] = name
            header.size = about.st_size
            entries.append((header, root / name))
            continue
        else:
            continue  # sockets, pipes and devices do not belong in a base image
        entries.append((header, None))
    return entries


# ── the push ─────────────────────────────────────────────────────────────────────────────────────────


class Target:
    """A registry on loopback to which a layout is pushed (distribution-spec, "Pushing")."""

    def __init__(self, address: str) -> None:
        self.base = f"http://{address}/v2/"
        # Never through a proxy: the registry is on this machine.
        self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def push(self, layout: Layout, name: str, tag: str, descriptor: Descriptor) -> None:
        """Push the image or index *descriptor* with all that it needs as *name*:*tag*."""
        document = layout.read(descriptor)
        content = json.loads(document)
        for each in content.get("manifests", []):
            self.push(layout, name, each["digest"], each)
        for each in [content["config"], *content["layers"]] if "layers" in content else []:
            self.push_blob(layout, name, each)
        self._send("PUT", f"{name}/manifests/{tag}", document, descriptor["mediaType"])

    def push_blob(self, layout: Layout, name: str, descriptor: Descriptor) -> None:
        digest = descriptor["digest"]
        try:
            self._send("HEAD", f"{name}/blobs/{digest}")
            return
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        where = self._send("POST", f"{name}/blobs/uploads/", b"").headers["Location"]
        separator = "&" if "?" in where else "?"
        self._send("PUT", f"{where}{separator}digest={urllib.parse.quote(digest)}", layout.read(descriptor))

    def _send(self, method: str, path: str, data: bytes | None = None, kind: str = "") -> Any:
        request = urllib.request.Request(urllib.parse.urljoin(self.base, path), data=data, method=method)
        request.add_header("Content-Type", kind or "application/octet-stream")
        return self.open(request, timeout=120)
