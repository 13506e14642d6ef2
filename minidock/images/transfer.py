"""Pull and push: what the two verbs do, step by step, in Docker's order and words.

A pull asks for the manifest, then for the config, then for the layers that are not here yet, all at
once. Nothing of an image is visible before everything is checked, unpacked and on disk; then all of
it is, by one rename (transaction.py). What a broken pull has fetched is kept for the next one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.config import Config
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import credentials, download, manifest, mirrors, reference, settle, sources, workers
from minidock.images.auth import Credentials
from minidock.images.download import Job
from minidock.images.image import Image, digest_of, parse_document, short
from minidock.images.layout import DOCUMENT_LIMIT
from minidock.images.manifest import Platform
from minidock.images.reference import DEFAULT_TAG, Reference
from minidock.images.registry import Registry
from minidock.images.session import Session
from minidock.images.sources import Found
from minidock.images.store import Store
from minidock.images.transaction import LayerTree, Transaction
from minidock.kernel import syscalls

WRITE_BEHIND = 0.2  # seconds between two early syncs
STALE_PARTIAL = 7 * 24 * 3600.0  # seconds after which an abandoned download is given up


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of progress. *id* is a layer's short digest, a tag, or "" (*status* is then a whole line).

    *status* is Docker's: Pulling fs layer, Waiting, Downloading, Download complete, Extracting, Pull
    complete, Already exists; Preparing, Pushing, Pushed, Layer already exists, Mounted from …; Warning.
    *current* of *total* in bytes. *message* says what the status alone does not.
    """

    id: str
    status: str
    current: int = 0
    total: int = 0
    message: str = ""


Progress = Callable[[Event], None]


def ignore(_: Event) -> None:
    """The progress of those who do not look."""


# ── pull ─────────────────────────────────────────────────────────────────────────────────────────────


@trace.mechanism(lesson=6)
def pull(
    store: Store,
    text: str,
    config: Config,
    *,
    platform: str | None = None,
    progress: Progress = ignore,
    login: Credentials | None = None,
) -> Image:
    """Bring an image from a registry: manifest, config, then the missing layers side by side.

    *text* is a reference as typed, *platform* e.g. ``linux/arm64`` (default: this machine's). Returns
    the local image, which is durable then. Raises MinidockError in one line whatever goes wrong.
    """
    name = reference.parse(text).pinned()
    wanted = manifest.parse_platform(platform) if platform else manifest.host_platform()
    store.create()
    download.sweep(store.temporary, STALE_PARTIAL)
    progress(Event(name.tag or name.digest, f"Pulling from {name.path}"))
    found = sources.find(
        name,
        wanted,
        config,
        mirrors.Dead(store.root),
        lambda text: progress(Event("", "Warning", message=text)),
        login,
    )
    names = _names(name, found.digest)
    known = _is_known(store, name, names)
    with store.transaction() as new:
        image = _read(store, new, name, found)
        check_platform(image, wanted, asked=platform is not None, progress=progress)
        jobs = _bring_layers(store, new, found, image, name, config, progress)
        if jobs or image.digest != known:
            new.put_image(found.data, found.media_type, names)
    # From here on the image is on disk, under its name.
    for job in jobs:
        download.forget(Path(job.partial), Path(job.blob))
        progress(Event(short(job.digest), "Pull complete", job.size, job.size))
    progress(Event("", f"Digest: {found.digest}"))
    news = "Image is up to date for" if image.digest == known and not jobs else "Downloaded newer image for"
    progress(Event("", f"Status: {news} {name.familiar}"))
    if found.registry.session.rate_limit:
        progress(Event("", f"Rate limit: {found.registry.session.rate_limit}"))
    return store.resolve(str(name))


def _read(store: Store, new: Transaction, name: Reference, found: Found) -> Image:
    """The image's config, from the store or the registry, put together with the manifest."""
    wanted = found.manifest.config
    if new.keep(wanted.digest, wanted.size):
        data = store.read_blob(wanted.digest)
    else:
        if wanted.size > DOCUMENT_LIMIT:
            raise MinidockError(f"{name.familiar}: its config of {wanted.size} bytes is too large")
        data = found.registry.blob(name.path, wanted.digest, wanted.size)
        new.put(data)
    document = parse_document(data, f"the config of {name.familiar}")
    layers = manifest.pair_layers(found.manifest, document, name.familiar)
    return Image(wanted.digest, digest_of(found.data), found.media_type, document, layers)


def check_platform(image: Image, wanted: Platform, *, asked: bool, progress: Progress) -> None:
    """Raise NotFound when *image* is not made for the platform that was *asked* for; else only warn."""
    parts = [str(image.config.get(key) or "") for key in ("os", "architecture", "variant")]
    offered = Platform(*parts)
    if wanted.accepts(offered) or not all(parts[:2]):
        return
    if asked:
        raise NotFound(
            f"image was found but does not match the specified platform: wanted {wanted}, actual: {offered}",
            hint=f"This image exists for {offered} only.",
        )
    progress(
        Event(
            "",
            "Warning",
            message=f"the image is made for {offered}, this machine is {wanted}: it may not run",
        )
    )


def _names(name: Reference, digest: str) -> list[str]:
    by_digest = f"{name.name}@{digest}"
    return [f"{name.name}:{name.tag}", by_digest] if name.tag else [by_digest]


def _is_known(store: Store, name: Reference, names: list[str]) -> str:
    """The manifest's digest of the image that bears all *names* already; empty when there is none."""
    try:
        image = store.find(str(name))
    except MinidockError:  # damaged: the pull repairs it
        return ""
    return image.digest if image and set(names) <= {*image.names, *image.repo_digests} else ""


def _bring_layers(
    store: Store,
    new: Transaction,
    found: Found,
    image: Image,
    name: Reference,
    config: Config,
    progress: Progress,
) -> list[Job]:
    """Fetch and unpack what is missing, into the transaction; returns what was done, bottom layer first."""
    jobs = _plan(store, new, found, image, name, config, progress)
    if not jobs:
        return []
    # The largest first: the last one to end is then a small one.
    order = sorted(jobs, key=lambda job: -job.size)
    size = min(len(order), os.cpu_count() or 1, max(1, config.max_concurrent_downloads))
    for job in order:
        job.alone = size == 1
    for job in order[size:]:
        progress(Event(short(job.digest), "Waiting", 0, job.size))

    def report(digest: str, status: str, current: int, total: int) -> None:
        progress(Event(short(digest), status, current, total))

    with ExitStack() as trees:
        growing: dict[str, LayerTree] = {}
        for job in jobs:
            if job.unpack:
                growing[job.digest] = trees.enter_context(new.layer(job.diff_id))
                job.target = str(growing[job.digest].path)

        def finished(job: Job, unpacked: int) -> None:
            if job.unpack:
                growing[job.digest].size = unpacked
            progress(Event(short(job.digest), "Extracting", job.size, job.size))

        with _writing_behind(store.root), workers.Pool(size, report) as pool:
            pool.run(order, finished)
        _take(new, order)
        _settle(store, image, growing)
    return jobs


@contextmanager
def _writing_behind(root: Path) -> Iterator[None]:
    """Keep the disk busy while the layers are unpacked: the sync at the end has little left to do then.

    Only a head start: what makes the image durable is the transaction's own sync.
    """
    done = threading.Event()

    def run() -> None:
        while not done.wait(WRITE_BEHIND):
            with suppress(MinidockError):
                syscalls.syncfs(root)

    thread = threading.Thread(target=run, name="write behind")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _plan(
    store: Store,
    new: Transaction,
    found: Found,
    image: Image,
    name: Reference,
    config: Config,
    progress: Progress,
) -> list[Job]:
    """What is to be done for each layer that is not here, packed and unpacked; bottom layer first."""
    jobs: dict[str, Job] = {}
    for part, described in zip(image.layers, found.manifest.layers, strict=True):
        if part.digest in jobs:
            continue
        if described.urls or "nondistributable" in part.media_type or "foreign" in part.media_type:
            raise InvalidInput(
                f"{name.familiar}: layer {short(part.digest)} is not distributed by registries"
            )
        packed, unpacked = new.keep(part.digest, part.size), new.keep_layer(part.diff_id)
        if packed and unpacked:
            progress(Event(short(part.digest), "Already exists"))
            continue
        progress(Event(short(part.digest), "Pulling fs layer", 0, part.size))
        jobs[part.digest] = Job(
            repository=name.path,
            digest=part.digest,
            diff_id=part.diff_id,
            size=part.size,
            media_type=part.media_type,
            partial=str(download.partial_file(store.temporary, part.digest)),
            unpack=not unpacked,
            fetched=str(new.directory / "partial" / part.digest.removeprefix("sha256:")),
            blob=str(store.blob_path(part.digest)),
            max_size=config.max_layer_size,
            sources=found.sources,
        )
    return list(jobs.values())


def _settle(store: Store, image: Image, growing: dict[str, LayerTree]) -> None:
    """Once all layers are there: directories that a layer did not list look as in the layers below."""
    below: list[Path] = []
    for part in image.layers:
        new = growing.get(part.digest)
        path = new.path if new else store.layer_path(part.diff_id)
        if new:
            settle.settle(path, below)
        below.insert(0, path)


def _take(new: Transaction, jobs: list[Job]) -> None:
    """Put the fetched files into the transaction; the partial files stay until it is durable."""
    for job in jobs:
        fetched = Path(job.fetched)
        if fetched.exists():
            fetched.chmod(0o644)
            new.add_blob(fetched, job.digest)
        elif not new.keep(job.digest, job.size):
            raise MinidockError(f"layer {short(job.digest)}: its file vanished", hint="Pull again.")


# ── push ─────────────────────────────────────────────────────────────────────────────────────────────


@trace.mechanism(lesson=6)
def push(
    store: Store,
    text: str,
    config: Config,
    *,
    progress: Progress = ignore,
    login: Credentials | None = None,
) -> str:
    """Send an image to the registry that its name says: the missing layers, the config, last the manifest.

    Returns the digest under which the registry now has it. Raises NotFound when the image is not here.
    """
    typed = reference.parse(text)
    if typed.digest:
        raise InvalidInput(
            "cannot push a digest reference", hint="Give the image a tag: minidock tag IMAGE NAME:TAG"
        )
    name = typed.pinned()
    image = store.find(str(name))
    if image is None:
        raise NotFound(
            f"An image does not exist locally with the tag: {name.familiar_name}",
            hint=f"Give it that name first: minidock tag IMAGE {name.familiar}",
        )
    data = store.read_blob(image.digest)
    document = json.loads(data)
    endpoint = mirrors.origin(name.domain, config.insecure_registries)
    registry = Registry(Session(endpoint, login or credentials.find(name.domain)))
    progress(Event("", f"The push refers to repository [{name.name}]"))
    parts = {part.digest: part for part in image.layers}.values()
    for part in parts:
        progress(Event(short(part.digest), "Preparing", 0, part.size))
    neighbours = _neighbours(store, name)
    for part in parts:
        _push_blob(store, registry, name, part.digest, part.size, neighbours.get(part.digest, ()), progress)
    config_size = int(document["config"]["size"])
    _push_blob(store, registry, name, image.id, config_size, neighbours.get(image.id, ()), ignore)
    digest = registry.put_manifest(name.path, name.tag or DEFAULT_TAG, data, image.media_type)
    with store.transaction() as new:
        new.put_image(data, image.media_type, [f"{name.name}@{digest}"])
    progress(Event("", f"{name.tag}: digest: {digest} size: {len(data)}"))
    return digest


def _push_blob(
    store: Store,
    registry: Registry,
    name: Reference,
    digest: str,
    size: int,
    neighbours: tuple[str, ...] | list[str],
    progress: Progress,
) -> None:
    """Send one part, unless the registry has it: in this repository, or in one we may mount it from."""
    identity = short(digest)
    if registry.has_blob(name.path, digest):
        progress(Event(identity, "Layer already exists", size, size))
        return
    for neighbour in neighbours:
        if registry.mount_blob(name.path, digest, neighbour):
            progress(Event(identity, f"Mounted from {neighbour}", size, size))
            return
    with store.open_blob(digest) as file:
        progress(Event(identity, "Pushing", 0, size))
        registry.upload_blob(
            name.path, digest, size, file, lambda sent: progress(Event(identity, "Pushing", sent, size))
        )
    progress(Event(identity, "Pushed", size, size))


def _neighbours(store: Store, name: Reference) -> dict[str, list[str]]:
    """For each blob, other repositories of the same registry that should have it: we know their images."""
    found: dict[str, list[str]] = {}
    for image in store.images(on_damage=lambda _: None):
        known = {reference.parse(text) for text in image.repo_digests}
        paths = sorted({each.path for each in known if each.domain == name.domain and each.path != name.path})
        for digest in (image.id, *(part.digest for part in image.layers)):
            found.setdefault(digest, []).extend(path for path in paths if path not in found.get(digest, []))
    return found
