"""A Debian image of several layers looks the same in docker's container and in ours, entry by entry.

Docker itself makes the layers (run, commit), with all that layers can do to each other: whiteouts, opaque
directories, a file where a directory was, hard links across layers, file capabilities, times.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from worlds import SEEDED_REGISTRY, start_registry, stop_process

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]

Run = Any

SCRIPTS = Path(__file__).parent / "layered"
# What each engine puts there itself, and the directories whose times that changes.
OURS_OR_THEIRS = {
    ".dockerenv",
    "etc",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/mtab",
    "dev",
    "proc",
    "sys",
    "",
}


@pytest.fixture
def layered(docker: Run, minidock: Run, tmp_path: Any) -> str:
    """The name of the image, made by docker and loaded by us."""
    registry = start_registry(tmp_path, SEEDED_REGISTRY, read_only=True)
    try:
        docker("pull", "-q", "127.0.0.1:5000/library/debian")
    finally:
        stop_process(registry)
    name = "127.0.0.1:5000/library/debian"
    for number, script in enumerate(("first", "second", "third"), 1):
        docker("run", "--network=none", "--name", f"step{number}", name, "python3", "-c", _script(script))
        name = f"layered:{number}"
        docker("commit", f"step{number}", name)
    minidock("load", input=docker("save", name, text=False).stdout, text=False)
    return name


def _script(name: str) -> str:
    return (SCRIPTS / f"{name}.py").read_text()


def _ignored(path: str) -> bool:
    path = path.strip("/")
    return path in OURS_OR_THEIRS or path.startswith(("dev/", "proc/", "sys/"))


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    return [
        f"{path!r}\n  docker:   {theirs.get(path)}\n  minidock: {ours.get(path)}"
        for path in sorted(theirs.keys() | ours.keys())
        if theirs.get(path) != ours.get(path) and not _ignored(path)
    ]


def _exported(data: bytes) -> dict[str, Any]:
    """Path → what the archive says; names of one file are told as one set."""
    found: dict[str, Any] = {}
    groups: dict[str, set[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            path = entry.name.rstrip("/")
            if entry.islnk():
                group = groups.setdefault(entry.linkname, {entry.linkname})
                group.add(path)
                groups[path] = group
                found[path] = found[entry.linkname]
                continue
            content = hashlib.sha256(archive.extractfile(entry).read()).hexdigest() if entry.isreg() else ""  # type: ignore[union-attr]
            xattrs = {
                key: value for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")
            }
            device = (entry.devmajor, entry.devminor) if entry.isdev() else ()
            what = (entry.type, oct(entry.mode & 0o7777), entry.uid, entry.gid, entry.size, int(entry.mtime))
            found[path] = (*what, entry.linkname, device, content, xattrs)
    return {path: (value, sorted(groups.get(path, ()))) for path, value in found.items()}


def test_a_program_sees_the_same_files(layered: str, docker: Run, minidock: Run) -> None:
    theirs = json.loads(
        docker("run", "--rm", "--network=none", layered, "python3", "-c", _script("look")).stdout
    )
    ours = json.loads(minidock("run", "--rm", layered, "python3", "-c", _script("look")).stdout)
    assert len(theirs) > 3000
    # Writing to a file copies it up: it loses its capability, and the other names of the old one.
    assert not ours["/t/plain"]["xattrs"] and ours["/t/one"]["xattrs"]
    differences = _differences(theirs, ours)
    assert not differences, f"{len(differences)} differ:\n" + "\n".join(differences[:40])


def test_export_tells_the_same(layered: str, docker: Run, minidock: Run) -> None:
    docker("create", "--name", "whole", "--network=none", layered)
    minidock("create", "--name", "whole", layered)
    theirs = _exported(docker("export", "whole", text=False).stdout)
    ours = _exported(minidock("export", "whole", text=False).stdout)
    differences = _differences(theirs, ours)
    assert not differences, f"{len(differences)} differ:\n" + "\n".join(differences[:40])


def test_sizes_and_history_agree(layered: str, docker: Run, minidock: Run) -> None:
    for command in (
        ("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}", layered),
        ("image", "inspect", "-f", "{{.Id}} {{json .RootFS}} {{.Size}}", layered),
    ):
        # Docker keeps the line breaks of a step, which tears its own table apart.
        ours, theirs = ("".join(run(*command).stdout.split()) for run in (minidock, docker))
        assert ours == theirs
