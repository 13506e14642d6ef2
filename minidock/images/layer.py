"""What a layer is: a tar archive of changes, and the directory that overlayfs makes of it (lesson 05).

A layer travels as a compressed tar archive that lists what one build step added, changed or deleted. A
deletion is an empty file named ``.wh.NAME``, a *whiteout*; ``.wh..wh..opq`` in a directory says that
nothing of the layers below shows in it. On disk a layer is a directory, ``layers/<diff id>``, which
overlayfs stacks on others: there a whiteout is a character device 0:0, an opaque directory has the
attribute trusted.overlay.opaque. :func:`apply_layer` goes from the first form to the second,
:func:`pack_layer` back. Two hashes name a layer: its *digest* the compressed bytes, its *diff id* the bare
archive. A third, the *chain id*, names a layer together with all layers below it.

Source: OCI image-spec, layer.md; kernel documentation, filesystems/overlayfs.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, NamedTuple

from minidock import trace
from minidock.errors import InvalidInput, MinidockError
from minidock.images import compression, tar
from minidock.images.compression import Stream
from minidock.images.extract import Extractor, too_large
from minidock.images.image import digest_of
from minidock.images.owners import Owners
from minidock.images.pack import Packer
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
    parents: Sequence[Path] | None = None,
) -> int:
    """Turn a layer's archive into a directory that overlayfs can stack; returns the bytes of its files.

    *stream* yields the compressed bytes. *target* is created when missing; it should be a temporary
    directory: whatever goes wrong, also a wrong digest found at the end, leaves a part of the layer in
    it, and the caller throws it away. Digests are "sha256:…"; None leaves the check to the caller.
    *max_size* bounds both the unpacked archive and the files in it, in bytes.
    *parents* are the trees of the layers below, topmost first (see `settle.py`), none for a first layer;
    who unpacks layers in parallel leaves it out and calls settle() from the bottom up when all are there.
    Nothing is synced to disk: the caller does so once for all layers.

    Raises InvalidInput for an archive that is damaged, hostile or too large, or that is not what its
    digest promises; MinidockError when the disk refuses.
    Source: OCI image-spec, layer.md, "Applying Changesets".
    """
    source = compression.blocks(stream)
    packed = compression.Incoming(verified(source, expected_digest) if expected_digest else source)
    inflated = bounded(compression.decompress(packed, media_type), max_size)
    unpacked = verified(inflated, expected_diff_id, "diff id") if expected_diff_id else inflated
    target.mkdir(exist_ok=True)
    with trace.step("unpack layer", digest=expected_digest or "", target=str(target)) as taken:
        try:
            with closing(compression.ahead(unpacked)) as blocks:
                size = unpack(compression.Source(blocks), target, max_size)
            _read_on(unpacked)  # an archive may end before its stream does
        except MinidockError:
            # A broken or damaged download shows as nonsense in the archive: name the cause, not its effect.
            if expected_digest and not packed.failure:
                _read_on(packed)
            if packed.failure:
                raise packed.failure from None
            raise
        _read_on(packed)
        taken.result = f"{size} bytes of files"
    if parents is not None:
        settle(target, parents)
    return size


def _read_on(blocks: Iterator[bytes]) -> None:
    """Read to the end, where :func:`verified` has its say."""
    for _ in blocks:
        pass


def verified(blocks: Iterable[bytes], digest: str, what: str = "digest") -> Iterator[bytes]:
    """Pass *blocks* on, and see that together they are what *digest* ("sha256:…") promises.

    Nothing is kept: a layer may be larger than memory. The answer comes at the end; who stops earlier has
    read bytes that nobody vouches for. *what* is how a message calls the digest.

    Raises InvalidInput at the end when the hash is another one, and for an algorithm that is not trusted.
    Source: OCI image-spec, descriptor.md, "Verification".
    """
    computed = compression.new_hash(digest)
    for block in blocks:
        computed.update(block)
        yield block
    found = f"{digest.partition(':')[0]}:{computed.hexdigest()}"
    if found != digest:
        raise InvalidInput(
            f"layer: its {what} should be {digest}, but what was read has {found}",
            hint="The transfer or the registry damaged it: pull again, or ask another mirror.",
        )


@trace.mechanism(lesson=5)
def unpack(archive: compression.Readable, target: Path, max_size: int) -> int:
    """Make files of a layer's tar *archive* in *target*, in its order; returns their bytes.

    Whiteouts get overlayfs's form. Whatever the archive says, nothing outside *target* is touched, and
    the files together take no more than *max_size* bytes.

    Raises InvalidInput for a damaged or hostile archive. Source: OCI image-spec, layer.md.
    """
    with Extractor(target, layer=True, max_size=max_size) as extractor:
        extractor.extract(tar.Reader(compression.blocks(archive)))
    return extractor.size


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The name of each layer *on top of those below it*; *diff_ids* are an image's layers, bottom first.

    Two images share a stack of layers exactly when they share its chain id.
    Source: OCI image specification, config.md, "Layer ChainID".
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def bounded(unpacked: Iterator[bytes], max_size: int) -> Iterator[bytes]:
    """*unpacked* as it is, up to *max_size* bytes: a bomb of a megabyte can inflate to a gigabyte."""
    left = max_size
    for block in unpacked:
        left -= len(block)
        if left < 0:
            raise too_large(max_size)
        yield block


class Packed(NamedTuple):
    """What a descriptor says of a layer: digests are "sha256:…", *size* counts the compressed bytes."""

    diff_id: str
    digest: str
    size: int


@trace.mechanism(lesson=5)
def pack_layer(
    tree: Path,
    out: IO[bytes],
    *,
    compress: str = "gzip",
    newest: int | None = None,
    owners: Owners | None = None,
) -> Packed:
    """Turn a container's changes into a layer's archive: the way back from :func:`apply_layer`.

    *tree* is an overlay's upper directory (its whiteouts become ``.wh.`` files) or a plain directory. The
    archive goes to *out* while it is made, compressed as *compress* says ("gzip", "zstd" or "").
    The same tree always gives the same bytes; with *newest* (seconds since the epoch, as in
    SOURCE_DATE_EPOCH) no time in it is later than that. *owners* says how the users and groups of the
    files are called in the layer, where a container's root was somebody else here.

    Raises InvalidInput for what a layer cannot express, MinidockError when a file cannot be read or
    changes while it is read. Source: OCI image-spec, layer.md, "Creating".
    """
    with trace.step("pack layer", tree=str(tree)) as taken:
        outgoing = compression.Outgoing(out.write, compress)
        writer = tar.Writer(outgoing.write)
        Packer(writer, layer=True, newest=newest, owners=owners).add_tree(tree)
        writer.close()
        outgoing.finish()
        taken.result = f"{outgoing.digest}, {outgoing.size} bytes"
    return Packed(outgoing.diff_id, outgoing.digest, outgoing.size)
