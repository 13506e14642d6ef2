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
from minidock.errors import InvalidInput
from minidock.images import compression, tar
from minidock.images.compression import Stream
from minidock.images.extract import Extractor, too_large

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
    *parents* are the trees of the layers below, topmost first (see :func:`inherit_parents`); who unpacks
    layers in parallel leaves it empty and calls that function when all are there.
    Nothing is synced to disk: the caller does so once for all layers.

    Raises InvalidInput for an archive that is damaged, hostile or too large, or that is not what its
    digest promises; MinidockError when the disk refuses.
    Source: OCI image-spec, layer.md, "Applying Changesets".
    """
    digest = compression.new_hash(expected_digest or "sha256:")
    diff_id = compression.new_hash(expected_diff_id or "sha256:")
    compressed = compression.blocks(stream)
    if expected_digest:
        compressed = compression.hashed(compressed, digest.update)
    with trace.step("unpack layer", digest=expected_digest or "", target=str(target)) as taken:
        try:
            unpacked = bounded(compression.decompress(compressed, media_type), max_size)
            if expected_diff_id:
                unpacked = compression.hashed(unpacked, diff_id.update)
            target.mkdir(exist_ok=True)
            with Extractor(target, layer=True, max_size=max_size) as extractor:
                extractor.extract(tar.Reader(unpacked))
        except InvalidInput:
            # A damaged download shows as nonsense in the archive: name the cause, not its effect.
            if expected_digest:
                for _ in compressed:
                    pass
                check("digest", expected_digest, digest)
            raise
        if expected_digest:
            for _ in compressed:
                pass
            check("digest", expected_digest, digest)
        if expected_diff_id:
            check("diff id", expected_diff_id, diff_id)
        taken.result = f"{extractor.size} bytes"
    return extractor.size


def bounded(unpacked: Iterator[bytes], max_size: int) -> Iterator[bytes]:
    """*unpacked* as it is, up to *max_size* bytes: a bomb of a megabyte can inflate to a gigabyte."""
    left = max_size
    for block in unpacked:
        left -= len(block)
        if left < 0:
            raise too_large(max_size)
        yield block


def check(what: str, expected: str, actual: compression.Hash) -> None:
    """Raise InvalidInput unless the hash of what was read is *expected* ("sha256:…")."""
    found = f"{expected.partition(':')[0]}:{actual.hexdigest()}"
    if found != expected:
        raise InvalidInput(
            f"layer: its {what} should be {expected}, but what was read has {found}",
            hint="The transfer or the registry damaged it: pull again, or ask another mirror.",
        )
