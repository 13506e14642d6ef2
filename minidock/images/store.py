"""The local images: found by name, tag, digest or id; tagged; their layers ready to be mounted.

The store is plain files that a student can read (see home.py, layout.py). New content comes in by a
transaction (transaction.py); what is removed and what stays is decided in removal.py.

    store = Store(Path("/var/lib/minidock"))
    image = store.resolve("busybox")            # NotFound when there is none
    lower = store.ensure_layers(image)          # extracted trees, bottom first
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import reference
from minidock.images.home import Home
from minidock.images.image import Image, Layer, short
from minidock.images.layout import Entry

if TYPE_CHECKING:
    from minidock.images.transaction import LayerTree, Transaction

_DISK_TROUBLE = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the filesystem is read-only",
}


@dataclass(frozen=True, slots=True)
class Use:
    """A container that needs an image: *layers* (diff ids) stay on disk as long as it exists."""

    container: str  # long id
    image_id: str
    layers: tuple[str, ...]
    running: bool = False


class Store(Home):
    """All images below one root directory. Cheap to make: nothing is read or created until needed.

    *uses* tells which containers exist, *roots* what else is to stay (digests and diff ids: the build
    cache). The engine knows both, this floor does not; nothing of it is ever removed. *max_layer_size*
    bounds an extracted layer, in bytes.
    """

    def __init__(
        self,
        root: Path,
        *,
        uses: Callable[[], Iterable[Use]] = tuple,
        roots: Callable[[], Iterable[str]] = tuple,
        max_layer_size: int = 64 << 30,
    ) -> None:
        super().__init__(root)
        self.uses = uses
        self.roots = roots
        self.max_layer_size = max_layer_size

    # --- finding images ---------------------------------------------------------------------------

    def resolve(self, text: str) -> Image:
        """The image that *text* means: a name, name@digest, id, or the beginning of an id.

        A name wins over an id that begins alike. Raises NotFound ("No such image: …"), InvalidInput
        when the id is ambiguous, MinidockError when the image is damaged.
        """
        entries = self.layout.entries()
        entry = find_name(entries, text)
        if entry is not None:
            return self._named(self.layout.image(entry.digest), entries)
        candidates = {image.id: image for image in self._matching(entries, text)}
        if len(candidates) > 1:
            ids = ", ".join(sorted(short(each) for each in candidates))
            raise InvalidInput(f"image id {text!r} is ambiguous: {ids}", hint="Type more of its digits.")
        for image in candidates.values():
            return image
        raise NotFound(
            f"No such image: {_shown(text)}",
            hint="`minidock images` lists what is here; `minidock pull` fetches more.",
        )

    def find(self, text: str) -> Image | None:
        """As :meth:`resolve`, but None when there is no such image."""
        try:
            return self.resolve(text)
        except NotFound:
            return None

    def images(self, on_damage: Callable[[MinidockError], None] | None = None) -> list[Image]:
        """Every image once, newest first, dangling ones included.

        A damaged image raises MinidockError; with *on_damage* that gets the error, and the list goes on.
        """
        entries = self.layout.entries()
        found: dict[str, Image] = {}
        for digest in dict.fromkeys(entry.digest for entry in entries):
            try:
                image = self.layout.image(digest)
            except MinidockError as error:
                if on_damage is None:
                    raise
                on_damage(error)
                continue
            known = found.setdefault(image.id, image)
            self._add_names(known, [each for each in entries if each.digest == digest])
        return sorted(found.values(), key=lambda image: (image.created, image.id), reverse=True)

    def _named(self, image: Image, entries: list[Entry]) -> Image:
        leading = {digest for digest in {entry.digest for entry in entries} if self._leads_to(digest, image)}
        self._add_names(image, [entry for entry in entries if entry.digest in leading])
        return image

    def _leads_to(self, digest: str, image: Image) -> bool:
        """Whether *digest* is another way to *image*: an index, or the same config with layers repacked."""
        if digest == image.digest:
            return True
        try:
            return self.layout.config_digest(digest) == image.id
        except MinidockError:
            return False

    def _add_names(self, image: Image, entries: list[Entry]) -> None:
        image.trees = self.layers
        for name in filter(None, (entry.name for entry in entries)):
            names = image.repo_digests if "@" in name else image.names
            if name not in names:
                names.append(name)

    def _matching(self, entries: list[Entry], text: str) -> list[Image]:
        """The images whose id begins with *text*, or that have it as manifest digest (with the name)."""
        name, _, digest = text.rpartition("@")
        digits = digest.removeprefix("sha256:")
        if not re.fullmatch("[0-9a-f]{1,64}", digits):
            return []
        images = self.images(on_damage=lambda _: None)
        if name:  # busybox@sha256:…: the digest of a manifest that is here under that name
            wanted = reference.parse(name).name
            return [
                image
                for image in images
                if digits == image.digest.removeprefix("sha256:")
                and wanted in {reference.parse(each).name for each in image.names + image.repo_digests}
            ]
        if any(entry.digest == f"sha256:{digits}" for entry in entries):  # of a manifest or an index
            return [self._named(self.layout.image(f"sha256:{digits}"), entries)]
        return [image for image in images if image.id.startswith(f"sha256:{digits}")]

    # --- names ------------------------------------------------------------------------------------

    def tag(self, source: str, target: str) -> Image:
        """Give the image *source* the additional name *target* (``latest`` when it has no tag).

        Raises InvalidInput when *target* holds a digest: a digest is computed, never given.
        """
        parsed = reference.parse(target)
        if parsed.digest:
            raise InvalidInput(f"{target}: refusing to create a tag with a digest reference")
        from minidock.images.transaction import with_names

        with self.lock():
            entries = self.layout.entries()
            image = self.resolve(source)
            entry = next(each for each in entries if self._leads_to(each.digest, image))
            self.layout.write_entries(with_names(entries, entry, [str(parsed.pinned())]))
        return self.resolve(image.id)

    # --- new content ------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Add blobs, layers and images: all or nothing, durable once the block has ended.

        with store.transaction() as new:
            with new.blob(digest) as file: file.write(...)
            with new.layer(diff_id) as tree: tree.size = apply_layer(..., tree.path, ...)
            new.put_image(manifest, media_type, ["docker.io/library/busybox:latest"])
        """
        from minidock.images.transaction import Transaction

        new = Transaction(self)
        try:
            yield new
            new.commit()
        except Exception as error:
            with suppress(OSError, MinidockError):  # the first error counts, not this one
                new.keep_finished_blobs()
            if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
                raise MinidockError(
                    f"{self.root}: {_DISK_TROUBLE[error.errno]}",
                    hint="`minidock system df` shows what takes space.",
                ) from None
            raise
        finally:
            new.close()

    @contextmanager
    def new_layer(self, diff_id: str) -> Iterator[LayerTree]:
        """Extract one layer into ``tree.path``; it appears as ``layers/<diff id>`` when the block ends.

        Two processes may do this for the same layer at once: the first to finish is kept.
        """
        with self.transaction() as new, new.layer(diff_id) as tree:
            yield tree

    def put_image(self, manifest: bytes, media_type: str = "", names: Iterable[str] = ()) -> Image:
        """Add an image whose config and layers are in the store (see Transaction.put_image)."""
        with self.transaction() as new:
            digest = new.put_image(manifest, media_type, names)
        return self.resolve(digest)

    # --- blobs, by way of the layout --------------------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        return self.layout.blob_path(digest)

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        return self.layout.has_blob(digest, size)

    def open_blob(self, digest: str) -> BufferedReader:
        return self.layout.open_blob(digest)

    def read_blob(self, digest: str) -> bytes:
        return self.layout.read_blob(digest)

    # --- layers -----------------------------------------------------------------------------------

    def ensure_layers(self, image: Image) -> list[Path]:
        """The extracted trees of *image*, bottom first. A tree that is missing is extracted again."""
        trees: list[Path] = []
        for layer in image.layers:
            trees.append(self.ensure_layer(layer, parents=trees[::-1]))
        return trees

    @contextmanager
    def hold(self, image: Image) -> Iterator[list[Path]]:
        """The extracted trees of *image*, bottom first, which nobody removes while the block runs.

        `create` writes the container's config inside: from then on :attr:`uses` protects the layers.
        """
        while True:
            paths = self.ensure_layers(image)
            with self.lock(shared=True):
                if all(path.is_dir() for path in paths):  # not removed between the two lines above
                    yield paths
                    return

    def ensure_layer(self, layer: Layer, parents: Sequence[Path] = ()) -> Path:
        """The extracted tree of one layer, made from its blob when it is missing.

        *parents* are the trees of the layers below it, topmost first (see layer.inherit_parents).

        Raises NotFound when the blob is missing too, MinidockError when it is damaged.
        """
        path = self.layer_path(layer.diff_id)
        if path.is_dir():
            return path
        from minidock.images import layer as extraction

        try:
            with self.open_blob(layer.digest) as blob, self.new_layer(layer.diff_id) as tree:
                tree.size = extraction.apply_layer(
                    blob,
                    tree.path,
                    media_type=layer.media_type,
                    expected_digest=layer.digest,
                    expected_diff_id=layer.diff_id,
                    max_size=self.max_layer_size,
                    parents=parents,
                )
        except InvalidInput:
            self.layout.verify(layer.digest)  # a damaged file is named, with what to do about it
            raise
        return path


def find_name(entries: list[Entry], text: str) -> Entry | None:
    """The entry that *text* names, or None when it is no name here (it may still be an id)."""
    try:
        wanted = str(reference.parse(text).pinned())
    except InvalidInput:
        return None
    for entry in entries:
        if entry.label == wanted:
            return entry
    # Other tools write names as they were typed: compare those in full.
    return next((entry for entry in entries if entry.label and entry.name == wanted), None)


def _shown(text: str) -> str:
    try:
        return reference.parse(text).pinned().familiar
    except InvalidInput:
        return text
