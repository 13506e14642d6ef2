"""What a layer is: a tar archive of changes, and the directory that overlayfs makes of it (lesson 05).

A layer travels as a compressed tar archive that lists what one build step added, changed or deleted. A
deletion is an empty file named ``.wh.NAME``, a *whiteout*; ``.wh..wh..opq`` in a directory says that
nothing of the layers below shows in it. On disk a layer is a directory, ``layers/<diff id>``, which
overlayfs stacks on others: there a whiteout is a character device 0:0, an opaque directory has the
attribute trusted.overlay.opaque. :func:`apply_layer` goes from the first form to the second,
:func:`pack_layer` back.

Source: OCI image-spec, layer.md; kernel documentation, filesystems/overlayfs.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from minidock import trace
from minidock.errors import MinidockError
from minidock.images import compression, tar
from minidock.images.compression import Stream
from minidock.images.extract import Extractor, too_large
from minidock.images.settle import settle

DEFAULT_MAX_SIZE = 64 << 30  # as max-layer-size in daemon.json


@trace.mechanism(lesson=5)
def apply_layer(
    stream: Stream,
    target: Path,
    *,
    media_type: str = "",
    expected_digest: str | None = None,
    expected_diff_id: str | None = None,
    max_size: int = DEFAULT_MAX_SIZE,
    parents: Sequence[Path] = (),
) -> int:
    """Turn a layer's archive into a directory that overlayfs can stack; returns the bytes of its files.

    *stream* yields the compressed bytes. *target* is created when missing; it should be a temporary
    directory: whatever goes wrong, also a wrong digest found at the end, leaves a part of the layer in
    it, and the caller throws it away. Digests are "sha256:…"; None leaves the check to the caller.
    *max_size* bounds both the unpacked archive and the files in it, in bytes.
    *parents* are the trees of the layers below, topmost first (see `settle.py`); who unpacks
    layers in parallel leaves it empty and calls settle() from the bottom up when all are there.
    Nothing is synced to disk: the caller does so once for all layers.

    Raises InvalidInput for an archive that is damaged, hostile or too large, or that is not what its
    digest promises; MinidockError when the disk refuses.
    Source: OCI image-spec, layer.md, "Applying Changesets".
    """
    compressed = compression.Incoming(stream, expected_digest)
    inflated = compression.decompress(compressed, media_type)
    unpacked = compression.Incoming(bounded(inflated, max_size), expected_diff_id)
    target.mkdir(exist_ok=True)
    with trace.step("unpack layer", digest=expected_digest or "", target=str(target)) as taken:
        try:
            with Extractor(target, layer=True, max_size=max_size) as extractor:
                extractor.extract(tar.Reader(unpacked))
            unpacked.finish("diff id")
        except MinidockError:
            if compressed.failure:
                raise compressed.failure from None
            # A damaged download shows as nonsense in the archive: name the cause, not its effect.
            if expected_digest:
                compressed.finish("digest")
            raise
        compressed.finish("digest")
        taken.result = f"{extractor.size} bytes of files"
    settle(target, parents)
    return extractor.size


def bounded(unpacked: Iterator[bytes], max_size: int) -> Iterator[bytes]:
    """*unpacked* as it is, up to *max_size* bytes: a bomb of a megabyte can inflate to a gigabyte."""
    left = max_size
    for block in unpacked:
        left -= len(block)
        if left < 0:
            raise too_large(max_size)
        yield block
