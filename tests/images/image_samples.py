"""Small images made on the spot, so that tests of the store need no registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock.images import layer
from minidock.images.image import DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Image
from minidock.images.layout import Layout
from minidock.images.store import Store
from minidock.images.transaction import Transaction

BUSYBOX = "docker.io/library/busybox:latest"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Sample:
    """An image as bytes, in no store yet."""

    manifest: bytes
    media_type: str
    config: bytes
    blobs: dict[str, bytes]
    diff_ids: list[str]

    @property
    def id(self) -> str:
        return digest(self.config)

    @property
    def digest(self) -> str:
        return digest(self.manifest)


def sample(
    *layers: dict[str, bytes], created: str = "2020-01-01T00:00:00Z", docker: bool = False, **settings: Any
) -> Sample:
    """An image with one layer for each dictionary of files."""
    tars = [tar_of(files) for files in layers or ({"hello": b"hello\n"},)]
    packed = [gzip.compress(each, mtime=0) for each in tars]
    config = json.dumps(
        {
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in tars]},
            "history": [{"created": created, "created_by": "sample"} for _ in tars],
        }
    ).encode()
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else f"{OCI_LAYER}+gzip"
    config_type = "application/vnd.docker.container.image.v1+json" if docker else OCI_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": layer_type, "digest": digest(each), "size": len(each)} for each in packed],
    }
    return Sample(
        json.dumps(document).encode(),
        media_type,
        config,
        {digest(each): each for each in packed},
        [digest(each) for each in tars],
    )


def bring(new: Transaction, made: Sample, *names: str) -> None:
    """What a pull does with an image: leases, blobs, layers, manifest."""
    if not new.keep(made.id):
        new.put(made.config)
    for (name, data), diff_id in zip(made.blobs.items(), made.diff_ids, strict=True):
        if not new.keep(name, len(data)):
            with new.blob(name, len(data)) as file:
                file.write(data)
        if not new.keep_layer(diff_id):
            with new.layer(diff_id) as tree:
                tree.size = layer.apply_layer(io.BytesIO(data), tree.path)
    new.put_image(made.manifest, made.media_type, names)


def add(store: Store, made: Sample, *names: str) -> Image:
    with store.transaction() as new:
        bring(new, made, *names)
    return store.resolve(made.id)


def check_layout(path: Path) -> int:
    """Assert that *path* is a valid OCI image layout, everything named being there; counts the entries."""
    assert json.loads((path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    layout = Layout(path)
    entries = layout.entries()
    for entry in entries:
        data = layout.blob_path(entry.digest).read_bytes()
        assert digest(data) == entry.digest and len(data) == entry.descriptor["size"]
        document = json.loads(data)
        for part in [document["config"], *document["layers"]] if "config" in document else []:
            content = layout.blob_path(part["digest"]).read_bytes()
            assert digest(content) == part["digest"] and len(content) == part["size"]
    return len(entries)
