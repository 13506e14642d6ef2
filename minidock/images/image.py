"""What an image is: a manifest that lists layers, and a config that says how to run them.

    name ──▶ manifest ──▶ config   (Env, Cmd, …, the diff ids of the layers)
                     └──▶ layers   (compressed tars, bottom first)

Every arrow after the name is a digest. So the image's id, the digest of its config, pins everything
that the container will see: the config holds the *diff ids*, the hashes of the uncompressed layers.

Source: OCI image specification (manifest.md, config.md, image-index.md); Docker's image manifest v2.2.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidock.errors import MinidockError

try:  # OpenSSL's, in hashlib, is faster, but takes longer to load than a document takes to hash.
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:  # before Python 3.12
    from _sha256 import sha256  # type: ignore[import-not-found]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"  # also with +gzip, +zstd
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)

# What uname calls the processor → what Go, and so every registry, calls it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. *digest* and *size* (bytes) are those of the compressed blob, *diff_id* of the bare tar."""

    digest: str
    diff_id: str
    size: int
    media_type: str


@dataclass(slots=True)
class Image:
    """One local image.

    *names* are tag references in full (``docker.io/library/busybox:latest``), *repo_digests* the
    digests under which registries know it (``docker.io/library/busybox@sha256:…``). *config* is the whole
    config document; what a container starts with (Env, Cmd, …) is :attr:`settings`.
    """

    id: str  # "sha256:…", the digest of the config
    digest: str  # "sha256:…", the digest of the manifest
    media_type: str
    config: dict[str, Any]
    layers: list[Layer]  # bottom first
    names: list[str] = field(default_factory=list)
    repo_digests: list[str] = field(default_factory=list)
    trees: Path | None = field(default=None, repr=False)  # where the extracted layers stand

    @property
    def short_id(self) -> str:
        return short(self.id)

    @property
    def settings(self) -> dict[str, Any]:
        """The config's ``config`` member: Env, Cmd, Entrypoint, WorkingDir, User, Labels, …"""
        return self.config.get("config") or {}

    @property
    def created(self) -> str:
        """RFC 3339, as the builder wrote it; empty when it did not."""
        return self.config.get("created") or ""

    @property
    def history(self) -> list[dict[str, Any]]:
        """How the image was made, oldest step first."""
        return self.config.get("history") or []

    @property
    def platform(self) -> str:
        """``linux/amd64``, ``linux/arm64/v8``."""
        parts = [self.config.get(key) for key in ("os", "architecture", "variant")]
        return "/".join(str(part) for part in parts if part)

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    @property
    def dangling(self) -> bool:
        """No tag points here any more: ``<none>:<none>`` in `minidock images`."""
        return not self.names

    @property
    def size(self) -> int:
        """Bytes that the files of all layers take, unpacked."""
        return sum(self.layer_size(layer) for layer in self.layers)

    def layer_size(self, layer: Layer) -> int:
        """Bytes unpacked; the compressed size while the layer has not been extracted."""
        unpacked = unpacked_size(self.trees, layer.diff_id) if self.trees else None
        return layer.size if unpacked is None else unpacked


def unpacked_size(trees: Path, diff_id: str) -> int | None:
    """Bytes of a layer's files, as noted beside its tree when it was extracted; None when it was not."""
    try:
        note = json.loads((trees / f"{diff_id.removeprefix('sha256:')}.json").read_bytes())
        return int(note["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def short(digest: str) -> str:
    """The 12 digits that `docker images` shows."""
    return digest.partition(":")[2][:12]


def digest_of(data: bytes) -> str:
    """The digest of a document."""
    return f"sha256:{sha256(data).hexdigest()}"


def parse_document(data: bytes, where: str) -> dict[str, Any]:
    """A manifest, index or config as a dictionary. Raises MinidockError that names *where* it stood."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise MinidockError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise MinidockError(f"{where}: must hold a JSON object, not {type(document).__name__}")
    return document


# Go's types of these fields: what does not fit them, Docker does not read either.
_TEXT = frozenset(("created", "author", "architecture", "os", "variant", "User", "WorkingDir", "StopSignal"))
_TEXTS = frozenset(("Env", "Cmd", "Entrypoint", "OnBuild", "Shell"))
_OBJECTS = frozenset(("config", "rootfs", "Labels", "ExposedPorts", "Volumes", "Healthcheck"))


def check_config(config: dict[str, Any], where: str) -> None:
    """Raise MinidockError when a field of an image's config has a type that makes no sense.

    The config comes from strangers, and everything above reads it without asking.
    """
    settings = config.get("config")
    for key, value in [*config.items(), *(settings.items() if isinstance(settings, dict) else ())]:
        fits = (
            value is None
            or (key in _TEXT and isinstance(value, str))
            or (key in _TEXTS and _is_list(value, str))
            or (key in _OBJECTS and isinstance(value, dict))
            or (key == "history" and _is_list(value, dict))
            or key not in _TEXT | _TEXTS | _OBJECTS | {"history"}
        )
        if not fits:
            raise MinidockError(f"{where}: malformed: {key} cannot be {json.dumps(value)[:60]}")


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def host_platform() -> str:
    """This machine as registries call it: ``linux/amd64``, ``linux/arm64/v8``."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return f"linux/{architecture}" + (f"/{variant}" if variant else "")
