"""Images on their way: all formats that docker, podman and skopeo write, and ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]

Run = Any
PROOF = "cat /proof && stat -c '%u:%g %a' /proof"
EXPECTED = "proven\n7:8 2640\n"


@pytest.fixture
def ours(busybox: Path, minidock: Run) -> str:
    """An image of two layers, one of them of our making, with a config that says what to run."""
    minidock(
        "run",
        "--name",
        "maker",
        "busybox",
        "sh",
        "-c",
        "echo proven > /proof; chown 7:8 /proof; chmod 2640 /proof",
    )
    tree = minidock("export", "maker", text=False).stdout
    changes = ["-c", f'CMD ["sh", "-c", {json.dumps(PROOF)}]', "-c", "ENV KEPT=yes", "-c", "LABEL made=here"]
    minidock("import", *changes, "-", "team/ours:1", input=tree, text=False)
    minidock("rm", "maker")
    return "team/ours:1"


@pytest.fixture
def layout(ours: str, minidock: Run, skopeo: Run, root: Path, tmp_path: Path) -> Path:
    """*ours* in an OCI layout of its own, copied out of our store by skopeo."""
    directory = tmp_path / "layout"
    skopeo("copy", "-q", f"oci:{root}/images:docker.io/{ours}", f"oci:{directory}:ours")
    return directory


FORMATS = {
    "docker schema 2": ["--format=v2s2"],
    "oci": ["--format=oci"],
    "zstd": ["--format=oci", "--dest-compress-format=zstd"],
    "gzip": ["--format=oci", "--dest-compress-format=gzip"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_we_pull_what_skopeo_pushes(
    name: str, ours: str, layout: Path, minidock: Run, skopeo: Run, shared_registry: str
) -> None:
    where = f"{shared_registry}/their/image:1"
    source = layout
    skopeo("copy", "-q", "--dest-tls-verify=false", *FORMATS[name], f"oci:{source}:ours", f"docker://{where}")
    kept = minidock("image", "inspect", "-f", "{{json .RootFS.Layers}}", ours).stdout
    minidock("rmi", ours)
    minidock("pull", where)
    assert minidock("image", "inspect", "-f", "{{json .RootFS.Layers}}", where).stdout == kept
    assert minidock("run", "--rm", where).stdout == EXPECTED
    raw = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{where}").stdout)
    if name == "zstd":
        assert all(layer["mediaType"].endswith("+zstd") for layer in raw["layers"]), "skopeo recompressed"


def test_we_pull_plain_layers(
    ours: str, minidock: Run, skopeo: Run, layout: Path, shared_registry: str, tmp_path: Path
) -> None:
    plain, where = tmp_path / "plain", f"{shared_registry}/their/plain:1"
    accept = "--dest-oci-accept-uncompressed-layers"
    skopeo("copy", "-q", "--dest-decompress", f"oci:{layout}:ours", f"dir:{tmp_path}/dir")
    skopeo("copy", "-q", accept, f"dir:{tmp_path}/dir", f"oci:{plain}:ours")
    skopeo(
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "--preserve-digests",
        f"oci:{plain}:ours",
        f"docker://{where}",
    )
    raw = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{where}").stdout)
    assert all(layer["mediaType"].endswith(".tar") for layer in raw["layers"]), raw
    minidock("rmi", ours)
    minidock("pull", where)
    assert minidock("run", "--rm", where).stdout == EXPECTED


def _blob(layout: Path, value: Any) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _make_index(layout: Path) -> None:
    """Turn the layout's image into two: for this machine and, with the same layers, for s390x."""
    index = json.loads((layout / "index.json").read_text())
    native = index["manifests"][0]
    read = lambda digest: json.loads((layout / "blobs/sha256" / digest.partition(":")[2]).read_text())  # noqa: E731
    manifest = read(native["digest"])
    config = read(manifest["config"]["digest"])
    own = {"architecture": config["architecture"], "os": "linux"}
    foreign_config = {**config, "architecture": "s390x"}
    foreign_manifest = {**manifest, "config": {**manifest["config"], **_blob(layout, foreign_config)}}
    foreign = {"mediaType": native["mediaType"], **_blob(layout, foreign_manifest)}
    both = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**foreign, "platform": {"architecture": "s390x", "os": "linux"}},
            {key: native[key] for key in ("mediaType", "digest", "size")} | {"platform": own},
        ],
    }
    entry = {"mediaType": both["mediaType"], **_blob(layout, both)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "both"}
    (layout / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_we_choose_from_an_index(
    form: str, ours: str, layout: Path, minidock: Run, skopeo: Run, docker: Run, shared_registry: str
) -> None:
    where = f"{shared_registry}/their/both:1"
    _make_index(layout)
    skopeo(
        "copy",
        "-q",
        "--all",
        f"--format={form}",
        "--dest-tls-verify=false",
        f"oci:{layout}:both",
        f"docker://{where}",
    )
    minidock("rmi", ours)
    minidock("pull", where)
    assert minidock("run", "--rm", where).stdout == EXPECTED
    docker("pull", where)
    mine, theirs = (
        run("image", "inspect", "-f", "{{.Id}} {{json .RepoDigests}}", where).stdout
        for run in (minidock, docker)
    )
    assert mine == theirs
    minidock("pull", "--platform", "linux/s390x", where)
    assert minidock("image", "inspect", "-f", "{{.Architecture}}", where).stdout == "s390x\n"


def test_what_we_push_is_the_same_image_everywhere(
    ours: str, minidock: Run, docker: Run, podman: Run, skopeo: Run, shared_registry: str, tmp_path: Path
) -> None:
    where = f"{shared_registry}/team/ours:1"
    minidock("tag", ours, where)
    minidock("push", where)
    image = minidock("image", "inspect", "-f", "{{.Id}}", where).stdout.strip()
    digests = minidock("image", "inspect", "-f", "{{json .RepoDigests}}", where).stdout
    docker("pull", where)
    assert docker("image", "inspect", "-f", "{{.Id}}", where).stdout.strip() == image
    assert docker("image", "inspect", "-f", "{{json .RepoDigests}}", where).stdout == digests
    assert docker("run", "--rm", "--network=none", where).stdout == EXPECTED
    podman("pull", "-q", where)
    assert "sha256:" + podman("image", "inspect", "-f", "{{.Id}}", where).stdout.strip() == image
    ran = podman("run", "--rm", "--network=none", "--runtime=runc", where)
    assert ran.stdout == EXPECTED
    skopeo(
        "copy", "-q", "--src-tls-verify=false", f"docker://{where}", f"docker-archive:{tmp_path}/a.tar:ours:2"
    )
    minidock("load", "-i", tmp_path / "a.tar")
    assert minidock("image", "inspect", "-f", "{{.Id}}", "ours:2").stdout.strip() == image


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_import_and_export(engine: str, ours: str, minidock: Run, request: pytest.FixtureRequest) -> None:
    peer = request.getfixturevalue(engine)
    minidock("create", "--name", "full", ours)
    ours_tree = minidock("export", "full", text=False).stdout
    peer("import", "-", "there:1", input=ours_tree, text=False)
    peer("create", "--network=none", "--name", "back", "there:1", "true")
    minidock("import", "-", "again:1", input=peer("export", "back", text=False).stdout, text=False)
    assert minidock("run", "--rm", "again:1", "sh", "-c", PROOF).stdout == EXPECTED


def test_the_config_arrives_whole(ours: str, minidock: Run, docker: Run, tmp_path: Path) -> None:
    docker("load", input=minidock("save", ours, text=False).stdout, text=False)
    for field in (".Config.Env", ".Config.Cmd", ".Config.Labels", ".RootFS.Layers", ".Architecture", ".Os"):
        shown = [
            run("image", "inspect", "-f", f"{{{{json {field}}}}}", ours).stdout for run in (minidock, docker)
        ]
        assert shown[0] == shown[1], field


def test_skopeo_lists_and_inspects_our_store(ours: str, minidock: Run, skopeo: Run, root: Path) -> None:
    for name in (f"docker.io/{ours}", "docker.io/library/busybox:latest"):
        told = json.loads(skopeo("inspect", f"oci:{root}/images:{name}").stdout)
        mine = json.loads(minidock("image", "inspect", name).stdout)[0]
        assert told["Architecture"] == mine["Architecture"]
        config = json.loads(skopeo("inspect", "--config", f"oci:{root}/images:{name}").stdout)
        assert config["rootfs"]["diff_ids"] == mine["RootFS"]["Layers"]
