"""What goes and what stays: removing names, images, and at last the content that nothing needs.

Removing an image means removing names. Content goes when no name, no container and no operation under
way leads to it any more: mark everything reachable, sweep the rest.

Source: Docker Engine API, DELETE /images/{name} and POST /images/prune (whose rules these are).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from minidock import files
from minidock.errors import Conflict, MinidockError, NotFound
from minidock.images import layer, manifest, reference
from minidock.images.image import Image, unpacked_size
from minidock.images.layout import Entry
from minidock.images.store import Store, Use, find_name
from minidock.images.transaction import dead, leases


@dataclass(slots=True)
class Removed:
    """What a removal did, in Docker's words and order: ``untagged`` names, ``deleted`` digests.

    *freed* counts the bytes given back: compressed blobs and extracted layers.
    """

    untagged: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    freed: int = 0

    def lines(self) -> list[str]:
        """What `docker rmi` prints."""
        return [f"Untagged: {name}" for name in self.untagged] + [f"Deleted: {each}" for each in self.deleted]

    def add(self, other: Removed) -> None:
        self.untagged += other.untagged
        self.deleted += other.deleted
        self.freed += other.freed


def remove(store: Store, text: str, *, force: bool = False) -> Removed:
    """`rmi`: remove the name *text*; with its last name, or by id, the image itself.

    Raises NotFound; Conflict when a container uses the image (a stopped one yields to *force*, a
    running one does not) or when an id has names in several repositories (without *force*).
    """
    with store.lock():
        removed, garbage = _remove(store, text, force)
    _discard(garbage)
    return removed


def prune(store: Store, *, unused: bool = False, wanted: Callable[[Image], bool] | None = None) -> Removed:
    """Remove dangling images; with *unused*, every image that no container uses.

    *wanted* (the filters) chooses among them. What killed operations left behind goes in any case.
    """
    removed, garbage = Removed(), list[Path]()
    with store.lock():
        in_use = {use.image_id for use in store.uses()}
        for image in store.images(on_damage=lambda _: None):
            if image.id in in_use or not (unused or image.dangling) or (wanted and not wanted(image)):
                continue
            part, swept = _remove(store, image.id, force=True)
            removed.add(part)
            garbage += swept
        freed, swept = _sweep(store, store.layout.entries())
        removed.freed += freed
        garbage += swept
    _discard(garbage)
    return removed


def collect(store: Store) -> int:
    """Remove content that nothing leads to, and what killed operations left; returns the bytes freed."""
    with store.lock():
        freed, garbage = _sweep(store, store.layout.entries())
    _discard(garbage)
    return freed


def _remove(store: Store, text: str, force: bool) -> tuple[Removed, list[Path]]:
    entries = store.layout.entries()
    named = find_name(entries, text)
    try:
        image = store.resolve(text)
    except MinidockError:
        if named is None:
            raise
        return _remove_damaged(store, entries, named)
    users = [use for use in store.uses() if use.image_id == image.id]
    mine = [entry for entry in entries if entry.name in (*image.names, *image.repo_digests)]
    going = mine
    if named is not None:
        going = _names_to_remove(image, mine, named)
        if users and not force and _one_repository(image):
            raise _in_use(
                f'unable to remove repository reference "{text}" (must force) - container %s is using its '
                f"referenced image {image.short_id}",
                users[0],
            )
    else:
        _check_removable(image, users, force)
    removed = Removed(untagged=[_familiar(entry.name) for entry in going])
    if len(going) < len(mine):  # it has other names: only this one goes
        store.write_fewer([entry for entry in entries if entry not in going])
        return removed, []
    if any(use.running for use in users):  # forced off its last name: it lives on without one
        store.write_fewer([each for each in entries if each not in going] + [going[0].named("")])
        return removed, []
    garbage = _delete(store, image, [entry for entry in entries if entry not in mine], removed)
    return removed, garbage


def _delete(store: Store, image: Image, entries: list[Entry], removed: Removed) -> list[Path]:
    """Leave *image* out of *entries* and sweep; adds to *removed* what went."""
    remaining = [entry for entry in entries if not _is_image(store, entry, image)]
    store.write_fewer(remaining)
    here = {diff_id for diff_id in image.diff_ids if store.layer_path(diff_id).exists()}
    removed.freed, garbage = _sweep(store, remaining)
    removed.deleted = [image.id]
    stack = zip(layer.chain_ids(image.diff_ids), image.diff_ids, strict=True)
    for chain_id, diff_id in reversed(list(stack)):
        if diff_id in here and not store.layer_path(diff_id).exists():
            removed.deleted.append(chain_id)
    return garbage


def _check_removable(image: Image, users: list[Use], force: bool) -> None:
    """The conflicts that forbid removing an image by its id."""
    if not force and not _one_repository(image):
        raise Conflict(
            f"conflict: unable to delete {image.short_id} (must be forced) - image is referenced in "
            "multiple repositories",
            hint="Remove its names one by one, or use --force.",
        )
    for use in users:
        if use.running or not force:
            state, yields = ("running", "cannot be") if use.running else ("stopped", "must be")
            raise _in_use(
                f"unable to delete {image.short_id} ({yields} forced) - image is being used by {state} "
                "container %s",
                use,
            )


def _in_use(message: str, use: Use) -> Conflict:
    container = use.container[:12]
    remedy = f"minidock rm {'-f ' if use.running else ''}{container}"
    return Conflict(f"conflict: {message % container}", hint=f"Remove the container first: {remedy}")


def _remove_damaged(store: Store, entries: list[Entry], named: Entry) -> tuple[Removed, list[Path]]:
    """An image that cannot be read any more can still be removed: all its names go."""
    remaining = [entry for entry in entries if entry.digest != named.digest]
    names = [entry.name for entry in entries if entry.digest == named.digest and entry.name]
    store.write_fewer(remaining)
    freed, garbage = _sweep(store, remaining)
    return Removed([_familiar(name) for name in names], [named.digest], freed), garbage


def _is_image(store: Store, entry: Entry, image: Image) -> bool:
    """Whether a nameless entry holds *image*, perhaps under another manifest."""
    if not entry.label:
        with suppress(MinidockError):
            return store.layout.config_digest(entry.digest) == image.id
    return False


def _one_repository(image: Image) -> bool:
    """At most one tag, and all names in one repository: then removing one means removing all."""
    repositories = {reference.parse(name).name for name in image.names + image.repo_digests}
    return len(image.names) <= 1 and len(repositories) <= 1


def _names_to_remove(image: Image, mine: list[Entry], named: Entry) -> list[Entry]:
    """The named entry; with the last tag of a repository, the digests known there go, too."""
    wanted = reference.parse(named.name)
    tags = [each for each in map(reference.parse, image.names) if each.name == wanted.name]
    if wanted.digest or len(tags) > 1:
        return [entry for entry in mine if entry.name == named.name]
    # Nobody asked for those digests by name: they came along with the tag.
    return [entry for entry in mine if reference.parse(entry.name).name == wanted.name]


def _familiar(name: str) -> str:
    return reference.parse(name).familiar


# --- mark and sweep ------------------------------------------------------------------------------


def reachable(store: Store, entries: list[Entry]) -> set[str]:
    """The digests and diff ids that names, containers, builds and operations under way lead to."""
    found = leases(store.temporary) | set(store.roots())
    for use in store.uses():
        found.update(use.layers)
    for entry in entries:
        found.add(reference.parse(entry.name).digest if "@" in entry.name else "")
        _mark(store, entry.digest, found)
    return found


def _mark(store: Store, digest: str, found: set[str]) -> None:
    found.add(digest)
    try:
        content = manifest.parse(store.read_blob(digest))
    except MinidockError:
        return  # missing or damaged: it leads nowhere
    if isinstance(content, manifest.Index):
        for entry in content.manifests:
            _mark(store, entry.digest, found)
        return
    found.update((content.config.digest, *(layer.digest for layer in content.layers)))
    with suppress(MinidockError):
        found.update(store.layout.image(digest).diff_ids)


def _sweep(store: Store, entries: list[Entry]) -> tuple[int, list[Path]]:
    """Take out of the store what is not reachable: (bytes, what is left to delete without the lock)."""
    kept = {digest.removeprefix("sha256:") for digest in reachable(store, entries)}
    garbage = dead(store.temporary) + list(store.temporary.glob("garbage-*"))
    freed = 0
    away = store.temporary / f"garbage-{os.getpid()}-{os.urandom(4).hex()}"
    for directory in (store.layout.blobs, store.layers):
        for name in os.listdir(directory):
            digest = name.removesuffix(".json")
            if digest in kept or len(digest) != 64:
                continue
            away.mkdir(mode=0o700, exist_ok=True)
            path = directory / name
            if directory == store.layout.blobs:
                freed += path.stat().st_size
            elif not name.endswith(".json"):
                freed += unpacked_size(store.layers, digest) or 0
            os.rename(path, away / f"{directory.name}-{name}")
    return freed, [*garbage, away] if away.exists() else garbage


def _discard(garbage: list[Path]) -> None:
    for path in garbage:
        with suppress(NotFound, FileNotFoundError):
            files.remove_tree(path)
