"""An OCI image layout: a directory of blobs named by their hash, and one index that gives them names.

    oci-layout              {"imageLayoutVersion": "1.0.0"}
    index.json              names → manifests
    blobs/sha256/<hex>      manifests, configs and layers, each named by the hash of its content

The standard's own directory format is minidock's database of images: `cat` reads it, `skopeo` copies
from and to it (`skopeo inspect oci:/var/lib/minidock/images:docker.io/library/busybox:latest`).

Source: OCI image specification, image-layout.md.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from minidock import files
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import manifest, reference
from minidock.images.image import OCI_INDEX, Image, Layer, check_config, digest_of, parse_document

NAME = "org.opencontainers.image.ref.name"  # the annotation that holds an entry's name
DOCUMENT_LIMIT = 16 << 20  # bytes: no honest manifest or config is larger


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of index.json: what a name points to. *label* is the name as it was written, or empty."""

    descriptor: dict[str, Any]

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])

    @property
    def label(self) -> str:
        return annotation(self.descriptor, NAME)

    @property
    def name(self) -> str:
        """The name in full: other tools may have written ``busybox``. Empty when it is no reference."""
        try:
            return str(reference.parse(self.label).pinned()) if self.label else ""
        except InvalidInput:
            return ""

    def named(self, name: str) -> Entry:
        """The same content under another name (empty: under none)."""
        annotations = self.descriptor.get("annotations")
        annotations = dict(annotations) if isinstance(annotations, dict) else {}
        annotations.pop(NAME, None)
        if name:
            annotations[NAME] = name
        descriptor = {key: value for key, value in self.descriptor.items() if key != "annotations"}
        return Entry({**descriptor, "annotations": annotations} if annotations else descriptor)


def annotation(descriptor: dict[str, Any], key: str) -> str:
    """One annotation of an entry, empty when it has none."""
    annotations = descriptor.get("annotations")
    return str(annotations.get(key) or "") if isinstance(annotations, dict) else ""


class Layout:
    """One OCI image layout on disk. Reading needs no lock: files appear complete, by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.index_file = path / "index.json"

    # --- blobs: content addressed by its hash -----------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        """Where the blob stands or would stand. Raises InvalidInput for a malformed digest."""
        reference.check_digest(digest)
        return self.blobs / digest.removeprefix("sha256:")

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is there (and has *size* bytes, when given)."""
        try:
            found = os.stat(self.blob_path(digest))
        except FileNotFoundError:
            return False
        return size is None or found.st_size == size

    def open_blob(self, digest: str) -> BufferedReader:
        """The blob for reading, unchecked: who reads it hashes it. Raises NotFound."""
        path = self.blob_path(digest)
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise NotFound(f"{path}: the blob is missing", hint=_REPAIR) from None

    def read_blob(self, digest: str) -> bytes:
        """A manifest or config, checked against its digest. Raises NotFound, MinidockError when damaged."""
        with self.open_blob(digest) as file:
            data = file.read(DOCUMENT_LIMIT + 1)
        if len(data) > DOCUMENT_LIMIT or digest_of(data) != digest:
            raise damaged(self.blob_path(digest))
        return data

    def verify(self, digest: str) -> None:
        """Raise MinidockError, which names the file, unless the blob's content matches its digest."""
        import hashlib

        with self.open_blob(digest) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest.removeprefix("sha256:"):
            raise damaged(self.blob_path(digest))

    # --- the index: names for blobs ---------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """What index.json lists, in its order. Raises MinidockError when the file is damaged."""
        try:
            data = self.index_file.read_bytes()
        except FileNotFoundError:
            return []
        where = str(self.index_file)
        try:
            listed = parse_document(data, where)
            if not isinstance(manifest.parse(data), manifest.Index):
                raise MinidockError("it is no index of images")
            return [Entry(descriptor) for descriptor in listed["manifests"]]
        except MinidockError as error:
            raise MinidockError(
                f"{where}: the list of images is damaged: {str(error).removeprefix(where + ': ')}",
                hint=f"Move {where} away: the list is then empty, and pulling again is quick because "
                "the blobs are still there.",
            ) from None

    def write_entries(self, entries: list[Entry]) -> None:
        """Replace index.json, atomically and durably. The caller holds the exclusive lock."""
        for left in self.path.glob(".index.json.*"):  # by a process that was killed here
            left.unlink(missing_ok=True)
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry.descriptor for entry in entries],
        }
        files.write_json(self.index_file, index, mode=0o644)

    def exists(self) -> bool:
        return self.index_file.exists() and self.blobs.is_dir()

    def create(self) -> None:
        """Make the layout when it is not there yet. The caller holds the exclusive lock."""
        files.make_private(self.path)  # an image may hold what is nobody else's business
        self.blobs.mkdir(parents=True, exist_ok=True)
        if not (self.path / "oci-layout").exists():
            version = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
            files.write_bytes(self.path / "oci-layout", version, mode=0o644, sync=False)
        if not self.index_file.exists():
            self.write_entries([])

    # --- images -----------------------------------------------------------------------------------

    def image(self, digest: str) -> Image:
        """The image behind a manifest's or index's *digest*, without its names.

        Raises NotFound when a part is missing, MinidockError when one is damaged; both name the file.
        """
        data, content = self._image_manifest(digest)
        config = self.read_blob(content.config.digest)
        return read_image(data, config, content.media_type, str(self.blob_path(digest)))

    def config_digest(self, digest: str) -> str:
        """The id of the image behind a manifest's or index's *digest*."""
        return self._image_manifest(digest)[1].config.digest

    def _image_manifest(self, digest: str) -> tuple[bytes, manifest.Manifest]:
        data, content = self._manifest(digest)
        if isinstance(content, manifest.Index):
            data, content = self._manifest(self._choose(content, digest))
        if not isinstance(content, manifest.Manifest):
            raise MinidockError(f"{self.blob_path(digest)}: an index in an index is no image")
        return data, content

    def _choose(self, index: manifest.Index, digest: str) -> str:
        """Of an index the image for this machine, else one that is here at all."""
        present = [entry for entry in index.manifests if entry.platform and self.has_blob(entry.digest)]
        if not present:
            raise NotFound(f"{self.blob_path(digest)}: none of the images it lists is here", hint=_REPAIR)
        try:
            here = manifest.Index(index.media_type, tuple(present))
            return manifest.choose_platform(here, manifest.host_platform()).digest
        except NotFound:
            return present[0].digest

    def _manifest(self, digest: str) -> tuple[bytes, manifest.Manifest | manifest.Index]:
        data = self.read_blob(digest)
        try:
            return data, manifest.parse(data)
        except MinidockError as error:
            raise MinidockError(f"{self.blob_path(digest)}: {error}", hint=error.hint) from None


def read_image(manifest_data: bytes, config_data: bytes, media_type: str, where: str) -> Image:
    """Put manifest and config together. Both must have been checked against their digests already.

    Raises MinidockError, which names *where* the manifest came from, when the two do not match.
    """
    content = manifest.parse(manifest_data, media_type)
    if not isinstance(content, manifest.Manifest):
        raise MinidockError(f"{where}: an index where the manifest of an image belongs")
    config = parse_document(config_data, f"the config of {where}")
    check_config(config, f"the config of {where}")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(content.layers):
        raise MinidockError(
            f"{where}: lists {len(content.layers)} layers, its config does not list the same",
            hint="The image is malformed: build or pull it again.",
        )
    layers = []
    for part, diff_id in zip(content.layers, map(str, diff_ids), strict=True):
        reference.check_digest(diff_id)
        layers.append(Layer(part.digest, diff_id, part.size, part.media_type))
    return Image(content.config.digest, digest_of(manifest_data), content.media_type, config, layers)


_REPAIR = "Pull the image again, or remove its name with `minidock rmi`."


def damaged(path: Path) -> MinidockError:
    """The error for a blob whose content is not what its name promises."""
    return MinidockError(
        f"{path}: the content does not match its digest (the file is damaged)",
        hint=f"Delete it (rm {path}), then pull or load the image again.",
    )


def is_taken(error: OSError) -> bool:
    """Whether a rename failed because somebody else put the same directory there first."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST)
