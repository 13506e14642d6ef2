"""What we write, Docker and Podman accept and run; what they write, we accept and run.

The image that travels has a layer of our own making: `import` of a container's file system, with an
owner, a mode, a link and an xattr that must arrive.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]  # docker, podman, shared_registry

PROOF = "stat -c '%n %u:%g %a %F' /bin/tool /etc/link && cat /greeting && ls /removed 2>/dev/null; true"
EXPECTED = "/bin/tool 12:34 4755 regular file\n/etc/link 0:0 777 symbolic link\nhello 世界\n"
PREPARE = """
cp /bin/busybox /bin/tool && chown 12:34 /bin/tool && chmod 4755 /bin/tool
ln -s ../greeting /etc/link && printf 'hello 世界\\n' > /greeting && touch /removed && rm /removed
"""
Cli = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.fixture
def ours(busybox: Path, minidock: Cli) -> str:
    """The name of an image in our store whose only layer we packed."""
    minidock("run", "--name", "maker", "busybox", "sh", "-c", PREPARE)
    tree = minidock("export", "maker", text=False).stdout
    minidock("import", "-", "team/ours:1", input=tree, text=False)
    minidock("rm", "maker")
    return "team/ours:1"


def test_the_proof_holds_here(ours: str, minidock: Cli) -> None:
    assert minidock("run", "--rm", ours, "sh", "-c", PROOF).stdout == EXPECTED


def test_docker_loads_what_we_save(ours: str, minidock: Cli, docker: Cli, tmp_path: Path) -> None:
    minidock("save", "-o", tmp_path / "image.tar", ours)
    docker("load", "-i", tmp_path / "image.tar")
    assert docker("run", "--rm", "--network=none", ours, "sh", "-c", PROOF).stdout == EXPECTED
    # Docker agrees about what the image is, to the last byte of its config.
    theirs = docker("image", "inspect", "--format", "{{.Id}}", ours).stdout.strip()
    assert theirs == minidock("image", "inspect", "--format", "{{.Id}}", ours).stdout.strip()


def test_we_load_what_docker_saves(
    ours: str, minidock: Cli, docker: Cli, tmp_path: Path, make_root: Callable[[], Path]
) -> None:
    minidock("save", "-o", tmp_path / "ours.tar", ours)
    docker("load", "-i", tmp_path / "ours.tar")
    docker("run", "--name=again", "--network=none", ours, "sh", "-c", "echo more > /more; rm /greeting")
    docker("commit", "--change", 'CMD ["cat", "/more"]', "again", "team/theirs:2")
    docker("save", "-o", tmp_path / "theirs.tar", "team/theirs:2", ours)
    minidock("rmi", ours)
    assert minidock("load", "-i", tmp_path / "theirs.tar").stdout.count("Loaded image") == 2
    assert minidock("run", "--rm", "team/theirs:2").stdout == "more\n"
    assert minidock("run", "--rm", "team/theirs:2", "ls", "/greeting", check=False).returncode == 1
    assert minidock("run", "--rm", ours, "sh", "-c", PROOF).stdout == EXPECTED


def test_docker_pulls_what_we_push_and_back(
    ours: str, minidock: Cli, docker: Cli, shared_registry: str
) -> None:
    name = f"{shared_registry}/team/ours:1"
    minidock("tag", ours, name)
    minidock("push", name)
    docker("pull", name)
    assert docker("run", "--rm", "--network=none", name, "sh", "-c", PROOF).stdout == EXPECTED
    docker("run", "--name=again", "--network=none", name, "sh", "-c", "echo back > /back")
    docker("commit", "again", f"{shared_registry}/team/theirs:2")
    docker("push", f"{shared_registry}/team/theirs:2")
    assert minidock("run", "--rm", f"{shared_registry}/team/theirs:2", "cat", "/back").stdout == "back\n"


def test_podman_pulls_what_we_push_and_back(
    ours: str, minidock: Cli, podman: Cli, shared_registry: str
) -> None:
    name = f"{shared_registry}/team/ours:1"
    minidock("tag", ours, name)
    minidock("push", name)
    podman("pull", "-q", name)
    inspected = json.loads(podman("image", "inspect", name).stdout)[0]
    assert (
        f"sha256:{inspected['Id']}"
        == minidock("image", "inspect", "--format", "{{.Id}}", name).stdout.strip()
    )
    mounted = Path(podman("image", "mount", name).stdout.strip())
    tool = (mounted / "bin/tool").stat()
    assert (tool.st_uid, tool.st_gid, tool.st_mode & 0o7777) == (12, 34, 0o4755)
    podman("image", "umount", name)
    podman("push", "-q", name, f"{shared_registry}/team/theirs:2")
    theirs = f"{shared_registry}/team/theirs:2"
    assert minidock("run", "--rm", theirs, "sh", "-c", PROOF).stdout == EXPECTED


def test_podman_loads_what_we_save_and_back(ours: str, minidock: Cli, podman: Cli, tmp_path: Path) -> None:
    minidock("save", "-o", tmp_path / "ours.tar", ours)
    podman("load", "-q", "-i", tmp_path / "ours.tar")
    for kind in ("docker-archive", "oci-archive"):
        file = tmp_path / f"{kind}.tar"
        podman("save", "-q", "--format", kind, "-o", file, f"docker.io/{ours}")
        minidock("rmi", ours)
        minidock("load", "-i", file)
        assert minidock("run", "--rm", ours, "sh", "-c", PROOF).stdout == EXPECTED


def test_skopeo_copies_from_our_store_and_we_from_its_layout(
    ours: str, minidock: Cli, root: Path, tmp_path: Path
) -> None:
    def skopeo(*arguments: str) -> None:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    # Our store is an OCI layout under its own names; skopeo reads it where it lies.
    skopeo("copy", "-q", f"oci:{root}/images:docker.io/{ours}", f"docker-archive:{tmp_path}/a.tar:{ours}")
    minidock("rmi", ours)
    minidock("load", "-i", tmp_path / "a.tar")
    assert minidock("run", "--rm", ours, "sh", "-c", PROOF).stdout == EXPECTED
    # And writes to it.
    skopeo("copy", "-q", f"docker-archive:{tmp_path}/a.tar", f"oci:{root}/images:docker.io/team/copied:3")
    assert minidock("run", "--rm", "team/copied:3", "sh", "-c", PROOF).stdout == EXPECTED
