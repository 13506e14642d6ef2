"""What the tests of pull and push share: an empty registry of one's own, and images in it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from image_samples import Sample, digest
from worlds import start_registry, stop_process

from minidock.config import Config
from minidock.images import mirrors, transfer
from minidock.images.auth import Credentials
from minidock.images.registry import Registry
from minidock.images.session import Session
from minidock.images.store import Store
from minidock.images.transfer import Event


@contextmanager
def running_registry(directory: Path, port: int = 5005) -> Iterator[str]:
    """A real, empty docker-registry on 127.0.0.1:*port* of this network namespace."""
    data = directory / f"data-{port}"
    data.mkdir()
    process = start_registry(directory, data, read_only=False, port=port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop_process(process)


def connect(host: str, user: Credentials | None = None) -> Registry:
    return Registry(Session(mirrors.origin(host), user))


def upload(host: str, repository: str, sample: Sample, tag: str = "latest") -> str:
    """Put *sample* into the registry at *host*; returns its digest."""
    registry = connect(host)
    for content in (*sample.blobs.values(), sample.config):
        registry.upload_blob(repository, digest(content), len(content), io.BytesIO(content))
    return registry.put_manifest(repository, tag, sample.manifest, sample.media_type)


def upload_index(
    host: str, repository: str, samples: dict[str, Sample], tag: str = "latest", docker: bool = False
) -> str:
    """Put several samples under one name, one for each platform ("linux/arm64/v8")."""
    entries = []
    for platform, sample in samples.items():
        upload(host, repository, sample, sample.digest)
        names = ("os", "architecture", "variant")
        described = dict(zip(names, platform.split("/"), strict=False))
        entries.append(
            {
                "mediaType": sample.media_type,
                "digest": sample.digest,
                "size": len(sample.manifest),
                "platform": described,
            }
        )
    kind = "vnd.docker.distribution.manifest.list.v2" if docker else "vnd.oci.image.index.v1"
    document = {"schemaVersion": 2, "mediaType": f"application/{kind}+json", "manifests": entries}
    return connect(host).put_manifest(repository, tag, json.dumps(document).encode(), document["mediaType"])


class Puller:
    """Pulls into one root and remembers what was reported."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.store = Store(root)
        self.config = Config(root=root, **settings)
        self.events: list[Event] = []

    def pull(self, name: str, **options: Any) -> Any:
        self.events = []
        return transfer.pull(self.store, name, self.config, progress=self.events.append, **options)

    def push(self, name: str) -> str:
        self.events = []
        return transfer.push(self.store, name, self.config, progress=self.events.append)

    @property
    def statuses(self) -> list[str]:
        return [event.status for event in self.events]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if event.status == "Warning"]
