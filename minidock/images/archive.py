"""Images as one file: `save` and `load`, for machines that no registry connects.

Two formats exist. In Docker's, ``manifest.json`` lists config, names and layers; in OCI's, the archive is
an image layout (index.json, oci-layout, blobs/). Both can share one archive, as current Docker writes
it: that is what :func:`save` does. :func:`load` reads either, new or old, plain or compressed.

Source: OCI image specification, image-layout.md; moby, image/spec/v1.2.md ("Combined Image JSON").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minidock.errors import InvalidInput, MinidockError
from minidock.images import compression, manifest, reference, tar
from minidock.images import layer as extraction
from minidock.images.flat import export, import_, layer_type
from minidock.images.header import DIRECTORY, FILE, Entry
from minidock.images.image import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Image, Layer
from minidock.images.layout import NAME, annotation, read_image
from minidock.images.members import Members
from minidock.images.store import Store
from minidock.images.transaction import Transaction

CONTAINERD_NAME = "io.containerd.image.name"  # where Docker and containerd write the full name


# --- save ----------------------------------------------------------------------------------------


def save(store: Store, names: list[str], file: IO[bytes]) -> None:
    """Write the images *names* to *file* as one tar archive that Docker and OCI tools read.

    An image given by name keeps that name, one given by id has none; a repository without a tag
    means all its tags, as in Docker. The same images give the same bytes. Raises NotFound.
    """
    chosen = [pair for name in names for pair in _chosen(store, name)]
    if not chosen:
        raise InvalidInput("save: no image was named")
    archive = tar.Writer(file.write)
    _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    for directory in ("blobs", "blobs/sha256"):
        archive.add(Entry(f"{directory}/".encode(), DIRECTORY, 0o755))
    digests = [digest for image, _ in chosen for digest in _blobs(image)]
    for digest in sorted(set(digests)):
        _add_blob(archive, store, digest)
    _add(archive, "index.json", json.dumps(_index(store, chosen)).encode())
    _add(archive, "manifest.json", json.dumps(_docker_manifest(chosen)).encode())
    archive.close()


def _chosen(store: Store, text: str) -> list[tuple[Image, str]]:
    """Image and name for each that *text* means."""
    try:
        parsed = reference.parse(text)
    except InvalidInput:
        return [(store.resolve(text), "")]
    if not parsed.tag and not parsed.digest:
        tags = [
            (image, name)
            for image in store.images(on_damage=lambda _: None)
            for name in image.names
            if reference.parse(name).name == parsed.name
        ]
        if tags:
            return sorted(tags, key=lambda pair: pair[1])
    image = store.resolve(text)
    return [(image, str(parsed.pinned()) if str(parsed.pinned()) in image.names else "")]


def _blobs(image: Image) -> list[str]:
    return [image.digest, image.id, *(each.digest for each in image.layers)]


def _index(store: Store, chosen: list[tuple[Image, str]]) -> dict[str, Any]:
    entries = []
    for image, name in chosen:
        size = store.blob_path(image.digest).stat().st_size
        entry: dict[str, Any] = {"mediaType": image.media_type, "digest": image.digest, "size": size}
        if name:
            entry["annotations"] = {CONTAINERD_NAME: name, NAME: reference.parse(name).tag}
        entries.append(entry)
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


def _docker_manifest(chosen: list[tuple[Image, str]]) -> list[dict[str, Any]]:
    listed: dict[str, dict[str, Any]] = {}
    for image, name in chosen:
        layers = [_path(each.digest) for each in image.layers]
        item = listed.setdefault(image.id, {"Config": _path(image.id), "RepoTags": [], "Layers": layers})
        if name:
            item["RepoTags"].append(reference.parse(name).familiar)
    return list(listed.values())


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _add(archive: tar.Writer, name: str, data: bytes) -> None:
    archive.add(Entry(name.encode(), FILE, 0o644, size=len(data)), data)


def _add_blob(archive: tar.Writer, store: Store, digest: str) -> None:
    """Copy one blob, checking it on the way: a damaged image must not travel further."""
    found = compression.new_hash()
    with store.open_blob(digest) as blob:
        size = store.blob_path(digest).stat().st_size
        content = compression.hashed(compression.blocks(blob), found.update)
        archive.add(Entry(_path(digest).encode(), FILE, 0o644, size=size), content)
    if found.hexdigest() != digest.removeprefix("sha256:"):
        raise MinidockError(
            f"{store.blob_path(digest)}: the content does not match its digest (the file is damaged)",
            hint="Delete the file, then pull or load the image again. The archive is incomplete.",
        )


# --- load ----------------------------------------------------------------------------------------


def load(store: Store, file: IO[bytes]) -> list[str]:
    """Read every image of an archive; returns their names, or ids (``sha256:…``) where they have none.

    Takes Docker's format (old and new) and OCI's, plain or compressed. All images come or none. Raises
    InvalidInput when the archive is hostile, incomplete, or does not match its digests.
    """
    loaded: list[str] = []
    with store.transaction() as new:
        members = Members(file, new, store.max_layer_size)
        if members.get("oci-layout") and members.get("index.json"):
            images = list(_oci_images(members))
        elif members.get("manifest.json"):
            images = list(_docker_images(members))
        else:
            raise InvalidInput(
                "load: neither manifest.json nor index.json in the archive: these are no saved images",
                hint="For the files of a whole system, use `minidock import`.",
            )
        for document, media_type, names in images:
            image_id = _take_image(store, new, members, document)
            new.put_image(document, media_type, names)
            loaded += [reference.parse(name).familiar for name in names] or [image_id]
    return loaded


def _take_image(store: Store, new: Transaction, members: Members, document: bytes) -> str:
    """Move the parts of one image into the transaction and extract its layers; returns the image's id."""
    content = manifest.parse(document)
    if not isinstance(content, manifest.Manifest):
        raise InvalidInput("load: an index where the manifest of an image belongs")
    by_digest = {member.digest: member for member in members.files.values()}
    for part in (content.config, *content.layers):
        member = by_digest.get(part.digest)
        if member is None and not new.keep(part.digest, part.size):
            raise InvalidInput(f"load: {part.digest} is missing in the archive, or damaged")
        if member is not None and member.path.exists():
            new.add_blob(member.path, part.digest)
    config = new.blob_file(content.config.digest).read_bytes()
    image = read_image(document, config, content.media_type, "load: the archive")
    trees: list[Path] = []
    for each in image.layers:
        if not new.keep_layer(each.diff_id):
            _extract(store, new, each, trees)
        trees.append(new.tree_path(each.diff_id))
    return image.id


def _extract(store: Store, new: Transaction, each: Layer, parents: list[Path]) -> None:
    with open(new.blob_file(each.digest), "rb") as blob, new.layer(each.diff_id) as tree:
        tree.size = extraction.apply_layer(
            blob,
            tree.path,
            media_type=each.media_type,
            expected_digest=each.digest,
            expected_diff_id=each.diff_id,
            max_size=store.max_layer_size,
            parents=parents[::-1],
        )


Found = tuple[bytes, str, list[str]]  # manifest, media type, names in full


def _oci_images(members: Members) -> Iterator[Found]:
    data = members["index.json"].read()
    if not isinstance(manifest.parse(data), manifest.Index):  # it is malformed, else
        raise InvalidInput("load: index.json lists no images")
    tags = _repository_tags(members)
    listed: dict[str, list[str]] = {}
    for entry in json.loads(data)["manifests"]:
        name = annotation(entry, CONTAINERD_NAME) or annotation(entry, NAME)
        listed.setdefault(entry["digest"], []).extend([name] if name else [])
    for digest, names in listed.items():
        document = _blob(members, digest)
        content = manifest.parse(document)
        if isinstance(content, manifest.Index):  # one image for several platforms: take what is here
            here = [each for each in content.manifests if members.get(_path(each.digest)) and each.platform]
            found = manifest.Index(content.media_type, tuple(here))
            document = _blob(members, manifest.choose_platform(found, manifest.host_platform()).digest)
            content = manifest.parse(document)
        assert isinstance(content, manifest.Manifest)
        full = [_full(name) for name in names]
        yield document, content.media_type, list(dict.fromkeys(full + tags.get(content.config.digest, [])))


def _repository_tags(members: Members) -> dict[str, list[str]]:
    """Names by image id, where Docker's manifest.json stands beside the OCI index."""
    if not members.get("manifest.json"):
        return {}
    return {
        members[item.get("Config")].digest: [_full(tag) for tag in item.get("RepoTags") or []]
        for item in _items(members)
    }


def _docker_images(members: Members) -> Iterator[Found]:
    for item in _items(members):
        config = members[item.get("Config")]
        layers = [members[name] for name in item.get("Layers") or []]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
            "layers": [
                {"mediaType": layer_type(each.path), "digest": each.digest, "size": each.size}
                for each in layers
            ],
        }
        names = [_full(tag) for tag in item.get("RepoTags") or []]
        yield json.dumps(document).encode(), OCI_MANIFEST, names


def _items(members: Members) -> list[dict[str, Any]]:
    """What Docker's manifest.json lists, each field of the type that it must have."""
    try:
        items = json.loads(members["manifest.json"].read())
    except ValueError as error:
        raise InvalidInput(f"load: manifest.json: not valid JSON: {error}") from None
    if not isinstance(items, list):
        raise InvalidInput("load: manifest.json is not a list of images")
    for item in items:
        lists = [item.get(key) or [] for key in ("RepoTags", "Layers")] if isinstance(item, dict) else [None]
        if not all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists):
            raise InvalidInput("load: manifest.json is malformed")
    return items


def _blob(members: Members, digest: str) -> bytes:
    reference.check_digest(digest)
    member = members[_path(digest)]
    if member.digest != digest:
        raise InvalidInput(f"load: {digest}: the content does not match its digest")
    return member.read()


def _full(name: str) -> str:
    parsed = reference.parse(name).pinned()
    if parsed.digest:
        raise InvalidInput(f"load: {name!r}: an archive cannot give an image a digest reference")
    return str(parsed)


__all__ = ["export", "import_", "load", "save"]
