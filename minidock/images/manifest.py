"""Manifests: the list of parts that makes an image, and the index that offers one image per platform.

A *manifest* names one config (what to run, the layers' diff ids) and the layers (compressed tars), each
by digest and size. An *index* (Docker: manifest list) names several manifests, one per platform. Both
exist in two spellings, OCI's and Docker's schema 2, which differ in their media types only.

Source: OCI image specification, manifest.md, image-index.md; Docker "Image Manifest V2, Schema 2".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from minidock import trace
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import distribution, image, reference
from minidock.images.image import INDEXES, MANIFESTS, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))

MAX_SIZE = 4 << 20  # bytes; the distribution specification's limit for a manifest

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm/v7",
    "armv7l": "arm/v7",
    "armel": "arm/v6",
    "armv6l": "arm/v6",
    "i386": "386",
    "i686": "386",
}
_KNOWN_ARCHITECTURES = frozenset(("386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"))
_KNOWN_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd"))


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor: ``linux/arm64``, ``linux/arm/v7``."""

    system: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.system, self.architecture, self.variant) if part)

    def accepts(self, offered: Platform) -> bool:
        """Whether code made for *offered* runs here."""
        return distribution.choose_platform([str(offered)], str(self)) is not None


def parse_platform(text: str) -> Platform:
    """Read ``--platform``: ``linux/arm64/v8``, ``arm64``, ``linux/x86_64``. Raises InvalidInput."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts = [parts[0], host_platform().architecture] if parts[0] in _KNOWN_SYSTEMS else ["linux", *parts]
    parts[1:2] = _ARCHITECTURES.get(parts[1], parts[1]).split("/")
    if parts[0] not in _KNOWN_SYSTEMS or parts[1] not in _KNOWN_ARCHITECTURES or len(parts) > 3:
        raise InvalidInput(
            f"{text!r}: unknown operating system or architecture",
            hint="For example linux/amd64, linux/arm64.",
        )
    variant = parts[2] if len(parts) == 3 else ""
    plain = variant == distribution.DEFAULT_VARIANT.get(parts[1]) and parts[1] != "arm"
    return Platform(parts[0], parts[1], "" if plain else variant)


def host_platform() -> Platform:
    """The platform of this machine."""
    return parse_platform(image.host_platform())


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: what it is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The descriptor as it stands in a manifest (without platform)."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform. *layers* are in order, bottom first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Several images under one name, one per platform."""

    media_type: str
    manifests: tuple[Descriptor, ...] = field(default=())


def parse(data: bytes, content_type: str = "") -> Manifest | Index:
    """Read a manifest or an index. *content_type* is what the registry called it.

    Raises MinidockError: malformed, ambiguous, an obsolete schema 1 image, or no container image at all.
    """
    try:
        value = json.loads(data)
    except ValueError:
        raise MinidockError("the manifest is not JSON: is this a registry?") from None
    if not isinstance(value, dict):
        raise MinidockError("the manifest is not a JSON object")
    declared = content_type.partition(";")[0].strip()
    if "distribution.manifest.v1+" in declared or value.get("schemaVersion") == 1:
        raise MinidockError(
            "this image has the obsolete schema 1 format", hint="Push it again with a current tool."
        )
    media_type = _media_type(value, declared)
    if media_type in INDEXES:
        return Index(media_type, tuple(map(_descriptor, _list(value, "manifests"))))
    if media_type not in MANIFESTS:
        raise MinidockError(f"no image: its manifest is of type {media_type or 'unknown'}")
    manifest = Manifest(
        media_type, _descriptor(value.get("config")), tuple(map(_descriptor, _list(value, "layers")))
    )
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise MinidockError(f"not a container image: its config is of type {manifest.config.media_type}")
    return manifest


def pair_layers(content: Manifest, config: dict[str, Any], where: str) -> list[image.Layer]:
    """The layers, each under both its names: the digest in the manifest, the diff id in the config.

    Raises MinidockError when the two documents do not list the same number of layers.
    """
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(content.layers):
        raise MinidockError(
            f"{where}: its manifest lists {len(content.layers)} layers, its config another number",
            hint="The image is malformed: build or push it again.",
        )
    for diff_id in diff_ids:
        reference.check_digest(str(diff_id))  # it becomes the name of a directory
    return [
        image.Layer(layer.digest, diff_id, layer.size, layer.media_type)
        for layer, diff_id in zip(content.layers, diff_ids, strict=True)
    ]


@trace.mechanism(lesson=6)
def choose_platform(index: Index, wanted: Platform) -> Descriptor:
    """Pick the image made for this machine: one name stands for several, one per platform.

    The nearest variant wins (arm/v7 also runs v6, amd64 never takes amd64/v3). Raises NotFound, which
    names the platforms there are.
    """
    entries = [str(entry.platform or "") for entry in index.manifests]
    position = distribution.choose_platform(entries, str(wanted))
    if position is None:
        offered = sorted({str(each.platform) for each in index.manifests if _is_image(each)})
        raise NotFound(
            f"no matching manifest for {wanted} in the manifest list entries",
            hint=f"Available: {', '.join(offered) or 'none'}.",
        )
    return index.manifests[position]


def _is_image(entry: Descriptor) -> bool:
    # Build attestations stand in an index as entries of platform unknown/unknown.
    return entry.platform is not None and entry.platform.system != "unknown"


def _media_type(value: dict[str, Any], declared: str) -> str:
    """One document must not be a manifest to one reader and an index to another (CVE-2021-41190)."""
    inside = value.get("mediaType", "")
    known = declared if declared in (*MANIFESTS, *INDEXES) else ""
    if inside and known and inside != known:
        raise MinidockError(f"the registry calls this manifest {known}, it calls itself {inside}")
    looks_like = OCI_INDEX if "manifests" in value else OCI_MANIFEST if "config" in value else ""
    media_type = str(known or inside or looks_like)
    forbidden = ("config", "layers") if media_type in INDEXES else ("manifests",)
    if any(key in value for key in forbidden):
        raise MinidockError("the manifest is ambiguous: it has the fields of an image and of an index")
    return media_type


def _list(value: dict[str, Any], key: str) -> list[Any]:
    items = value.get(key)
    if not isinstance(items, list):
        raise MinidockError(f"the manifest has no list {key!r}")
    return items


def _descriptor(value: Any) -> Descriptor:
    if not isinstance(value, dict):
        raise MinidockError("the manifest has a malformed descriptor")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not isinstance(media_type, str):
        raise MinidockError("the manifest has a descriptor without digest or media type")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise MinidockError(f"the manifest states no sensible size for {digest}")
    reference.check_digest(digest)
    platform = value.get("platform")
    return Descriptor(
        media_type,
        digest,
        size,
        platform_of(platform) if isinstance(platform, dict) else None,
        tuple(map(str, value.get("urls") or ())),
    )


def platform_of(value: dict[str, Any]) -> Platform:
    """The platform in an entry of an index, or in an image's config."""
    return Platform(*(str(value.get(key) or "") for key in ("os", "architecture", "variant")))
