"""A whole filesystem as one archive: `export` writes a container's, `import` makes an image of one.

Both forget: no layers, no history, no config. That is their use (a flat image, a look inside) and their
cost (nothing is shared any more). `save` and `load` keep all of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Any

from minidock.errors import InvalidInput
from minidock.images import compression, layer, manifest, reference, tar
from minidock.images.image import OCI_LAYER, Image, Layer
from minidock.images.pack import Packer
from minidock.images.store import Store

LAYER_TYPES = {"": OCI_LAYER, "gzip": f"{OCI_LAYER}+gzip", "zstd": f"{OCI_LAYER}+zstd"}


def layer_type(path: Path) -> str:
    """The media type of a layer's archive, by its first bytes. Raises InvalidInput for xz and bzip2."""
    with open(path, "rb") as file:
        name = compression.detect(file.read(6))
    if name not in LAYER_TYPES:
        raise InvalidInput(
            f"a layer compressed by {name} is not possible in an image",
            hint=f"Images know gzip and zstd: recompress it, or unpack it before ({name} -dc FILE | …).",
        )
    return LAYER_TYPES[name]


def import_(
    store: Store,
    file: IO[bytes],
    name: str = "",
    *,
    settings: dict[str, Any] | None = None,
    message: str = "",
    platform: str | None = None,
) -> Image:
    """Make an image of one layer from *file*, a tar of a root filesystem, plain, gzip or zstd.

    *name* is a reference (none: the image is dangling); *settings* what a container starts with (Env,
    Cmd, …); *message* goes into the history. Raises InvalidInput for a damaged or hostile archive.
    """
    names = [str(reference.parse(name).pinned())] if name else []
    made_for = manifest.parse_platform(platform) if platform else manifest.host_platform()
    with store.transaction() as new:
        with new.scratch() as writer:
            for block in compression.blocks(file):
                writer.write(block)
        if not writer.size:
            raise InvalidInput("import: the archive is empty")
        media_type = layer_type(writer.path)
        new.add_blob(writer.path, writer.digest)
        diff_id = _diff_id(new.blob_file(writer.digest))
        if not new.keep_layer(diff_id):
            with open(new.blob_file(writer.digest), "rb") as blob, new.layer(diff_id) as tree:
                tree.size = layer.apply_layer(
                    blob, tree.path, media_type=media_type, max_size=store.max_layer_size
                )
        created = _now()
        comment = message or "Imported from -"
        config = {
            "created": created,
            "architecture": made_for.architecture,
            "os": made_for.system,
            **({"variant": made_for.variant} if made_for.variant else {}),
            "config": settings or {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "comment": comment}],
        }
        imported = Layer(writer.digest, diff_id, writer.size, media_type)
        image_id = new.put_made_image(config, [imported], names)
    return store.resolve(image_id)


def _diff_id(path: Path) -> str:
    found = compression.new_hash()
    with open(path, "rb") as file:
        for block in compression.decompress(file):
            found.update(block)
    return "sha256:" + found.hexdigest()


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def export(tree: Path | int, file: IO[bytes]) -> None:
    """Write the filesystem below *tree* to *file* as a tar archive.

    The same tree gives the same bytes: entries are sorted, hard links point to their first name. Owners,
    modes, times (nanoseconds), extended attributes and device nodes are kept; sockets are left out.
    """
    archive = tar.Writer(file.write)
    Packer(archive, layer=False).add_tree(tree, itself=False)
    archive.close()
