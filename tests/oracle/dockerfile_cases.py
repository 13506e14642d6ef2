"""Dockerfiles as people write them, each with its small context, and what Docker makes of them.

`dockerfiles/NN-name.txt` is a case: lines ``key: value`` (where it comes from, what it needs), then its
files, each behind a line ``--- name``. `dockerfiles/NN-name.answer` is what dockerd built from it: the
config, and what the image has other than its base. See the README beside them.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

DIRECTORY = Path(__file__).parent / "dockerfiles"
BASE = "busybox"  # what `FROM busybox` names in both engines
# The files of a context are of this time; whatever a build makes itself is younger than NOW.
OLD, NOW = 1_577_934_245, 1_780_000_000  # 2020-01-02 03:04:05, 2026-05-28; seconds since the epoch


class Case(NamedTuple):
    name: str
    facts: dict[str, str]  # source, sha256, needs, flags
    files: dict[str, str]  # "name 755", "name -> target", "name.tar tar" → content

    @property
    def text(self) -> str:
        """All the Dockerfiles of the case, with continued lines put together."""
        whole = "\n".join(text for name, text in self.files.items() if name.endswith("Dockerfile"))
        return re.sub(r"[\\`]\n", "", whole)

    @property
    def recorded(self) -> Path:
        return DIRECTORY / f"{self.name}.answer"


def _read(path: Path) -> Case:
    head, *blocks = re.split(r"^--- (.+)\n", path.read_text(), flags=re.MULTILINE)
    facts = dict(line.split(": ", 1) for line in head.splitlines() if line)
    return Case(path.stem, facts, dict(zip(blocks[::2], blocks[1::2], strict=True)))


CASES = [_read(path) for path in sorted(DIRECTORY.glob("*.txt"))]


# --- the context ----------------------------------------------------------------------------------


def write_context(case: Case, directory: Path) -> None:
    """Write the files of *case* into *directory*, which this makes, all of one time."""
    directory.mkdir()
    for described, content in case.files.items():
        name, _, what = described.partition(" ")
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what.startswith("-> "):
            path.symlink_to(what.removeprefix("-> "))
        elif what == "directory":
            path.mkdir(exist_ok=True)
        elif what.startswith("tar"):
            path.write_bytes(_archive(content, what.partition(" ")[2]))
        else:
            path.write_text(content)
            path.chmod(int(what or "644", 8))
    for path in sorted([directory, *directory.rglob("*")], reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (OLD, OLD), follow_symlinks=False)


def _archive(listing: str, compression: str) -> bytes:
    """A tar of *listing*: lines ``mode uid:gid name = content``, ``… name -> target``, ``… name/``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for line in listing.splitlines():
            mode, owner, rest = line.split(" ", 2)
            name, _, content = rest.partition(" = ")
            name, _, target = name.partition(" -> ")
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode, entry.mtime = int(mode, 8), OLD - 86_400
            entry.uid, entry.gid = map(int, owner.split(":"))
            if target:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
            elif name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return {"gz": _gzip, "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[compression](buffer.getvalue())


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=OLD)


# --- the answer: the normal form of an image ------------------------------------------------------

_SETTINGS = (
    "Env", "Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "Healthcheck",
    "Shell", "StopSignal", "OnBuild",
)  # fmt: skip


class Entry(NamedTuple):
    shown: str  # type, mode, owner, and what the type has: target, device; extended attributes
    mtime: int
    content: bytes
    is_directory: bool


Tree = dict[str, Entry]


def answer(image: dict[str, Any], base: dict[str, Any], saved: bytes) -> str:
    """*image* as text. *image* and *base* are what `image inspect` tells, *saved* is what `save` writes."""
    config, layers, below = dict(image["Config"]), image["RootFS"]["Layers"], base["RootFS"]["Layers"]
    if config.get("WorkingDir") == "/":  # BuildKit says it, the older builder does not
        del config["WorkingDir"]
    lines = [f"{key}: {json.dumps(config[key], sort_keys=True)}" for key in _SETTINGS if config.get(key)]
    count = len(below) if layers[: len(below)] == below else 0
    lines.append(f"base: {BASE if count else 'scratch'}")
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        names = json.loads(_content(archive, "manifest.json"))[0]["Layers"]
        trees = [_content(archive, name) for name in names]
    return "\n".join([*lines, *_changes(_united(trees[:count]), _united(trees))]) + "\n"


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    # docker names a layer that it has written already by a symbolic link
    file = archive.extractfile(name)
    assert file
    return file.read()


def _united(layers: Iterable[bytes]) -> Tree:
    """The files that the stacked *layers* show."""
    tree: Tree = {}
    for data in layers:
        new: set[str] = set()
        with tarfile.open(fileobj=io.BytesIO(data)) as layer:
            for member in layer:
                path = _path(member.name)
                directory, _, name = path.rpartition("/")
                if name == ".wh..wh..opq":
                    _remove(tree, directory, but=new)
                elif name.startswith(".wh."):
                    _remove(tree, f"{directory}/{name.removeprefix('.wh.')}", itself=True)
                else:
                    if not member.isdir():
                        _remove(tree, path)
                    linked = _path(member.linkname) if member.islnk() else ""
                    tree[path] = tree[linked] if linked else _entry(layer, member)
                    new.add(path)
    return tree


def _path(name: str) -> str:
    return "/" + os.path.normpath("/" + name).lstrip("/")


def _remove(tree: Tree, path: str, *, itself: bool = False, but: Iterable[str] = ()) -> None:
    for each in [each for each in tree if each.startswith(f"{path}/") and each not in but]:
        del tree[each]
    if itself:
        tree.pop(path, None)


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    content = b""
    words = [f"{member.mode & 0o7777:04o}", f"{member.uid}:{member.gid}"]
    if member.isreg():
        file = layer.extractfile(member)
        assert file
        content = file.read()
        words = ["file", *words]
    elif member.issym():
        words = ["link", *words, f"-> {member.linkname}"]
    elif member.isdir():
        words = ["directory", *words]
    else:
        words = [f"special {member.type.decode()}", *words, f"{member.devmajor}:{member.devminor}"]
    xattrs = sorted(key for key in member.pax_headers if key.startswith("SCHILY.xattr."))
    words += [f"{key.removeprefix('SCHILY.xattr.')}={member.pax_headers[key]!a}" for key in xattrs]
    return Entry(" ".join(words), int(member.mtime), content, member.isdir())


def _changes(base: Tree, whole: Tree) -> list[str]:
    """A line for each name that *whole* has otherwise than *base*, and for each that it lacks."""
    lines = [f"{path} removed" for path in base.keys() - whole.keys() if _parent(path) in whole]
    first: dict[int, str] = {}  # the first name of each file: the others are hard links
    for path, entry in sorted(whole.items()):
        before = base.get(path)
        if path == "/" or (before and _same(before, entry)):
            continue
        if id(entry) in first:
            lines.append(f"{path} same as {first[id(entry)]}")
            continue
        first[id(entry)] = path
        old = "" if entry.mtime > NOW or (before and entry.is_directory) else f" at {entry.mtime - OLD:+d} s"
        lines.append(f"{path} {entry.shown}{_shown(entry, before)}{old}")
    return sorted(lines)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _same(one: Entry, other: Entry) -> bool:
    """Whether nothing changed. A directory's time tells only that something in it did."""
    same_time = one.is_directory or one.mtime == other.mtime
    return one.shown == other.shown and one.content == other.content and same_time


def _shown(entry: Entry, before: Entry | None) -> str:
    """The content: small texts as they are, all else by digest; what the base had is not told."""
    if not entry.shown.startswith("file"):
        return ""
    content, more = entry.content, ""
    if before and before.content and content.startswith(before.content):
        content, more = content.removeprefix(before.content), " what was there and"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > 400 or (content and not text):
        return f"{more} {len(content)} bytes sha256:{hashlib.sha256(content).hexdigest()}"
    return f"{more} {json.dumps(text, ensure_ascii=False)}"
