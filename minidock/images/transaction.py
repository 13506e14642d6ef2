"""Putting content into the store: all of it or none, once, durably, and safe from other processes.

A pull, load or build gathers blobs and layer trees in a directory of its own under ``<root>/tmp``.
On leaving the block, everything is synced to disk at once (one syncfs(2), however many thousand
files), moved into place by renames, and named in index.json. Therefore:

* what stands under ``blobs/`` and ``layers/`` is complete and on disk, after any crash;
* index.json never names what is not there: the layout is valid at every moment;
* a transaction holds a lock on its directory as long as it lives, and lists there what it counts on:
  a `minidock rmi` at the same time leaves that alone, and what a killed pull left behind is swept.

Only the file system carries the state: processes forked inside the block (one per layer, during a
pull) may call :meth:`Transaction.blob` and :meth:`Transaction.layer` too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import files
from minidock.errors import MinidockError
from minidock.images import manifest, reference
from minidock.images.home import Home
from minidock.images.image import OCI_CONFIG, OCI_MANIFEST, Layer, digest_of
from minidock.images.layout import Entry, is_taken

if TYPE_CHECKING:
    from typing import BinaryIO


@dataclass(slots=True)
class LayerTree:
    """A layer being extracted into *path*. Whoever extracts sets *size*, the bytes of its files."""

    path: Path
    size: int = 0


class BlobWriter:
    """Collects a blob, hashing as it goes. *path* is its temporary file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        import hashlib

        self.path = path
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        rest = memoryview(data)
        while len(rest):  # a nearly full disk takes a part; the next try raises the error
            rest = rest[self._file.write(rest) :]
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class Transaction:
    """Made by :meth:`Store.transaction`. Nothing is visible to others before the block ends well."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._staged: list[tuple[Entry, list[str]]] = []
        self.directory = home.temporary / f"transaction-{os.getpid()}-{os.urandom(4).hex()}"
        with home.lock(shared=True):  # a sweep must not find the directory before it is locked
            for name in ("partial", "blobs", "trees", "layers"):
                (self.directory / name).mkdir(parents=True, mode=0o700)
            self._alive = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    # --- what is there already --------------------------------------------------------------------

    def keep(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is in the store (or in this transaction); if so, nobody removes it meanwhile.

        With *size*, a blob of another size counts as missing: the new copy replaces it.
        """
        if (self.directory / "blobs" / digest.removeprefix("sha256:")).exists():
            return True
        with self._home.lock(shared=True):
            self._lease(digest)
            return self._home.layout.has_blob(digest, size)

    def keep_layer(self, diff_id: str) -> bool:
        """Whether the layer's extracted tree is there; if so, nobody removes it meanwhile."""
        if (self.directory / "layers" / diff_id.removeprefix("sha256:")).exists():
            return True
        with self._home.lock(shared=True):
            self._lease(diff_id)
            return self._home.layer_path(diff_id).is_dir()

    def _lease(self, digest: str) -> None:
        reference.check_digest(digest)
        descriptor = os.open(self.directory / "keep", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, digest.encode() + b"\n")
        finally:
            os.close(descriptor)

    # --- new content ------------------------------------------------------------------------------

    @contextmanager
    def scratch(self) -> Iterator[BlobWriter]:
        """Write a temporary file, hashed; it goes with the transaction unless :meth:`add_blob` takes it."""
        path = self.directory / "partial" / os.urandom(8).hex()
        with open(path, "xb", buffering=0) as file:
            yield BlobWriter(file, path)

    @contextmanager
    def blob(self, digest: str | None = None, size: int | None = None) -> Iterator[BlobWriter]:
        """Write one blob. At the end of the block its digest (and size) must be the expected ones.

        Without *digest* the content names itself: read ``writer.digest`` afterwards.
        """
        with self.scratch() as writer:
            yield writer
        if digest is not None and writer.digest != digest:
            raise MinidockError(f"digest mismatch: expected {digest}, got {writer.digest}")
        if size is not None and writer.size != size:
            raise MinidockError(f"{writer.digest}: expected {size} bytes, got {writer.size}")
        self.add_blob(writer.path, writer.digest)

    def add_blob(self, path: Path, digest: str) -> None:
        """Take the file *path* as blob *digest*, which the caller has computed while writing it."""
        reference.check_digest(digest)
        os.rename(path, self.directory / "blobs" / digest.removeprefix("sha256:"))

    def blob_file(self, digest: str) -> Path:
        """Where the blob can be read now: in this transaction, else in the store."""
        own = self.directory / "blobs" / digest.removeprefix("sha256:")
        return own if own.exists() else self._home.layout.blob_path(digest)

    def tree_path(self, diff_id: str) -> Path:
        """Where the layer's extracted tree is now: in this transaction, else in the store."""
        own = self.directory / "layers" / diff_id.removeprefix("sha256:")
        return own if own.exists() else self._home.layer_path(diff_id)

    def put(self, data: bytes) -> str:
        """Add a small blob (a manifest, index or config); returns its digest."""
        with self.blob() as writer:
            writer.write(data)
        return writer.digest

    @contextmanager
    def tree(self) -> Iterator[LayerTree]:
        """A fresh directory for a layer's files; it goes with the block unless :meth:`add_layer` takes it."""
        tree = LayerTree(self.directory / "trees" / os.urandom(8).hex())
        tree.path.mkdir(mode=0o755)
        try:
            yield tree
        finally:
            files.remove_tree(tree.path)

    def add_layer(self, tree: LayerTree, diff_id: str) -> None:
        """Take *tree* as the extracted form of the layer *diff_id*."""
        reference.check_digest(diff_id)
        name = diff_id.removeprefix("sha256:")
        note = json.dumps({"diff_id": diff_id, "size": tree.size}).encode()
        (self.directory / "layers" / f"{name}.json").write_bytes(note)
        try:
            os.rename(tree.path, self.directory / "layers" / name)
        except OSError as error:
            if not is_taken(error):
                raise

    @contextmanager
    def layer(self, diff_id: str) -> Iterator[LayerTree]:
        """A fresh directory to extract layer *diff_id* into; when the block fails, it is removed."""
        with self.tree() as tree:
            yield tree
            self.add_layer(tree, diff_id)

    def put_image(self, data: bytes, media_type: str = "", names: Iterable[str] = ()) -> str:
        """Add the image whose manifest is *data*; config and layers are in the store or in this transaction.

        *names* are references in full: tags (``docker.io/library/busybox:latest``) and digests
        (``docker.io/library/busybox@sha256:…``, under which a registry knows the image). An image
        without names is dangling. Returns the manifest's digest. Raises MinidockError when a part
        is missing.
        """
        content = manifest.parse(data, media_type)
        checked = [str(reference.parse(name).pinned()) for name in names]
        digest = self.put(data)
        # A manifest needs all its parts; an index may list platforms that were not pulled.
        parts = (content.config, *content.layers) if isinstance(content, manifest.Manifest) else ()
        for part in parts:
            if not self.keep(part.digest):
                raise MinidockError(f"manifest {digest}: {part.digest} is missing")
        descriptor = {"mediaType": content.media_type, "digest": digest, "size": len(data)}
        self._staged.append((Entry(descriptor), checked))
        return digest

    def put_made_image(
        self, config: dict[str, Any], layers: Sequence[Layer], names: Iterable[str] = ()
    ) -> str:
        """Add an image that was made here: its config document and its layers, bottom first.

        Returns its id, the digest of the config. See :meth:`put_image` for *names*.
        """
        data = json.dumps(config).encode()
        self.put(data)
        self.put_image(made_manifest(data, layers), OCI_MANIFEST, names)
        return digest_of(data)

    # --- the end ----------------------------------------------------------------------------------

    def commit(self) -> None:
        """Sync once, move everything into place, then name it."""
        blobs = os.listdir(self.directory / "blobs")
        # A tree without its note stayed here when another process had the same one there first.
        notes = [name for name in os.listdir(self.directory / "layers") if name.endswith(".json")]
        layers = [name.removesuffix(".json") for name in notes]
        if blobs or layers:
            self._home.sync()
        with self._home.lock():
            killed = dead(self._home.temporary)
            self._move_in(blobs, layers)
            if self._staged:
                entries = self._home.layout.entries()
                for entry, names in self._staged:
                    entries = with_names(entries, entry, names)
                self._home.layout.write_entries(entries)
        for directory in killed:  # what a killed pull or load had unpacked
            files.remove_tree(directory)

    def _move_in(self, blobs: list[str], layers: list[str]) -> None:
        for name in blobs:  # replaces a damaged copy, too
            os.rename(self.directory / "blobs" / name, self._home.layout.blobs / name)
        for name in layers:
            os.rename(self.directory / "layers" / f"{name}.json", self._home.layers / f"{name}.json")
            try:
                os.rename(self.directory / "layers" / name, self._home.layers / name)
            except OSError as error:
                if not is_taken(error):  # else another process extracted the same layer first
                    raise
        if blobs:
            files.sync_directory(self._home.layout.blobs)
        if layers:
            files.sync_directory(self._home.layers)

    def keep_finished_blobs(self) -> None:
        """After a failure: what was fetched and checked stays, so that the next try need not fetch it."""
        blobs = os.listdir(self.directory / "blobs")
        if blobs:
            self._home.sync()
            with self._home.lock():
                self._move_in(blobs, [])

    def close(self) -> None:
        """Give up what was not committed, and the leases."""
        with suppress(OSError):
            self._remove()
        os.close(self._alive)

    def _remove(self) -> None:
        try:  # mostly all is empty by now; to import what removes trees takes longer than this
            for name in os.listdir(self.directory):
                if name not in ("lock", "keep"):
                    os.rmdir(self.directory / name)
            (self.directory / "keep").unlink(missing_ok=True)
            (self.directory / "lock").unlink()
            os.rmdir(self.directory)
        except OSError:
            files.remove_tree(self.directory)


def made_manifest(config: bytes, layers: Sequence[Layer]) -> bytes:
    """The manifest of an image that was made here. The same parts give the same bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [
            {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers
        ],
    }
    return json.dumps(document).encode()


def with_names(entries: list[Entry], entry: Entry, names: list[str]) -> list[Entry]:
    """*entries* after *names* were made to point to the content of *entry*.

    Content that loses its last name stays listed without one: it is dangling, not gone.
    """
    moved = [each for each in entries if each.label in names or each.name in names]
    kept = [each for each in entries if each not in moved]
    for each in moved:
        if each.digest != entry.digest and all(other.digest != each.digest for other in kept):
            kept.append(each.named(""))
    if names:
        kept = [each for each in kept if each.digest != entry.digest or each.label]
        return kept + [entry.named(name) for name in names]
    return kept if any(each.digest == entry.digest for each in kept) else [*kept, entry.named("")]


def leases(temporary: Path) -> set[str]:
    """The digests that living transactions count on."""
    held: set[str] = set()
    for directory in living(temporary):
        with suppress(FileNotFoundError):
            held.update((directory / "keep").read_text().split())
    return held


def living(temporary: Path) -> list[Path]:
    return [each for each in temporary.glob("transaction-*") if files.is_locked(each / "lock")]


def dead(temporary: Path) -> list[Path]:
    """What killed processes left behind. Call with the exclusive lock held."""
    return [each for each in temporary.glob("transaction-*") if not files.is_locked(each / "lock")]
