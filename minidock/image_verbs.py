"""The engine's verbs on images: pull, push, tag, remove, save, load, … (see engine.py for the whole)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import events
from minidock.config import Config
from minidock.containers import state
from minidock.errors import MinidockError, NotFound
from minidock.images.image import Image
from minidock.images.store import Store, Use

if TYPE_CHECKING:
    from typing import IO

    from minidock.images.removal import Removed
    from minidock.images.search import Results
    from minidock.images.sources import Offer
    from minidock.images.transfer import Event
    from minidock.layer_tree import Tree

Json = dict[str, Any]
Progress = Callable[["Event"], None]


def _warn(error: MinidockError) -> None:
    import warnings

    warnings.warn(f"{error.message} {error.hint or ''}", stacklevel=3)


class ImageVerbs:
    """What an engine does with the images of one state root."""

    def __init__(self, config: Config) -> None:
        self.config = config
        if config.proxies:
            from minidock.images import proxies

            proxies.use(config.proxies)
        self.root = config.root
        self.store = Store(
            self.root, uses=self._uses, roots=self._roots, max_layer_size=config.max_layer_size
        )
        # Lists leave out what is damaged and tell this; a face shows it in its own way.
        self.on_damage: Callable[[MinidockError], None] = _warn

    def _uses(self) -> Iterator[Use]:
        """Which containers need which images: nothing of these is ever removed."""
        for container in state.containers(self.root):
            spec = container.spec
            yield Use(spec.id, spec.image_id, tuple(spec.layers), container.running())

    def _roots(self) -> Iterator[str]:
        """What the steps that builds remember need."""
        from minidock.build import cache

        return cache.roots(self.root)

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Progress | None = None,
        login: Json | None = None,
    ) -> Image:
        """Fetch an image from its registry (mirrors first).

        *login* is for the registry in the place of what is saved: username and password, or identitytoken.
        """
        from minidock.images import credentials, transfer

        image = transfer.pull(
            self.store,
            reference,
            self.config,
            platform=platform,
            progress=progress or transfer.ignore,
            login=credentials.given(login),
        )
        self._note("pull", self.familiar_name(reference))
        return image

    def offered(self, reference: str, *, login: Json | None = None) -> Offer:
        """What the registry (its mirrors first) has under this name. *login*: see pull."""
        from minidock.images import credentials, mirrors, sources
        from minidock.images.reference import parse

        name = parse(reference).pinned()
        return sources.look(name, self.config, mirrors.Dead(self.root), credentials.given(login))

    def _note(self, action: str, identifier: str, name: str = "", **attributes: str) -> None:
        """Add a line to what `events` shows of images."""
        events.record(self.root, "image", action, identifier, name=name or identifier, **attributes)

    def full_name(self, reference: str) -> str:
        """``busybox`` → ``docker.io/library/busybox:latest``. Raises InvalidInput."""
        from minidock.images import reference as references

        return str(references.parse(reference).pinned())

    def familiar_name(self, reference: str) -> str:
        """``docker.io/library/busybox`` → ``busybox:latest``, as people write it."""
        from minidock.images import reference as references

        return references.parse(reference).pinned().familiar

    def has_image(self, text: str) -> bool:
        """Whether the image is here."""
        return self.store.find(text) is not None

    def pull_if_missing(
        self,
        reference: str,
        *,
        policy: str = "missing",
        platform: str | None = None,
        progress: Progress | None = None,
        on_missing: Callable[[], None] | None = None,
    ) -> Image:
        """The local image; pulled when it is not here for *platform* (*policy* missing), always, or never.

        *on_missing* is called before a pull that the image's absence made necessary.
        """
        if policy == "always":
            return self.pull(reference, platform=platform, progress=progress)
        try:
            image = self.store.resolve(reference)
            if platform:
                from minidock.images import manifest, transfer

                wanted = manifest.parse_platform(platform)
                transfer.check_platform(image, wanted, asked=True, progress=transfer.ignore)
            return image
        except NotFound:
            if policy == "never":
                raise
        if on_missing:
            on_missing()
        return self.pull(reference, platform=platform, progress=progress)

    def push(self, reference: str, *, progress: Progress | None = None, login: Json | None = None) -> str:
        """Send a local image to the registry that its name says; returns the digest. *login*: see pull."""
        from minidock.images import credentials, transfer

        digest = transfer.push(
            self.store,
            reference,
            self.config,
            progress=progress or transfer.ignore,
            login=credentials.given(login),
        )
        self._note("push", self.familiar_name(reference))
        return digest

    def login(self, server: str, username: str, password: str) -> Path:
        """Check the password with the registry and remember it; returns the file that holds it now."""
        from minidock.images import credentials

        return credentials.login(server, username, password, trusted_hosts=self.config.insecure_registries)

    def check_login(self, server: str, username: str, password: str) -> None:
        """Check a password with the registry, and remember nothing. Raises Denied."""
        from minidock.images import credentials

        credentials.check(server, username, password, trusted_hosts=self.config.insecure_registries)

    def logout(self, server: str) -> bool:
        """Forget a registry's password; False when none was known."""
        from minidock.images import credentials

        return credentials.logout(server)

    def search(self, term: str, *, limit: int = 25, filters: dict[str, list[str]] | None = None) -> Results:
        """Look for images by name: on Docker Hub, or in the catalogue of the registry in *term*."""
        from minidock import selection
        from minidock.images import search

        selection.found([], filters or {})  # wrong filters are told before anybody is asked
        answer = search.search(term, self.config, limit=limit)
        answer.results = selection.found(answer.results, filters or {})
        return answer

    def images(self, filters: dict[str, list[str]] | None = None) -> list[Image]:
        """The local images, newest first."""
        from minidock import selection

        return selection.images(self.store.images(self.on_damage), filters or {}, self.store.resolve)

    def image(self, text: str) -> Image:
        """One image by name, digest, id, or unique beginning of an id."""
        return self.store.resolve(text)

    def image_inspect(self, text: str) -> Json:
        """One image in the shape of Docker's API."""
        from minidock import inspection

        image = self.store.resolve(text)
        return {**inspection.image_json(image), "Parent": self._parent(image)}

    def _parent(self, image: Image) -> str:
        """The id of the local image that *image* goes on from: its layers and its history, and more."""
        below = [
            each
            for each in self.store.images(lambda _: None)  # a damaged one is no reason to fail
            if 0 < len(each.history) < len(image.history)
            and each.history == image.history[: len(each.history)]
            and each.diff_ids == image.diff_ids[: len(each.diff_ids)]
        ]
        return max(below, key=lambda each: len(each.history)).id if below else ""

    def image_summaries(self, filters: dict[str, list[str]] | None = None) -> list[Json]:
        """The local images as `docker images` lists them, in the shape of Docker's API."""
        from minidock import inspection, selection

        used: dict[str, int] = {}
        for use in self._uses():
            used[use.image_id] = used.get(use.image_id, 0) + 1
        found = self.images(filters)
        for image in found:  # of an image with many names, those that were asked for
            image.names = selection.named(image.names, filters or {})
        return [inspection.image_summary(image, used.get(image.id, 0)) for image in found]

    def image_tree(self) -> Tree:
        """The layers of all local images as a tree, with what each image costs."""
        from minidock import layer_tree

        return layer_tree.of(self.images())

    def history(self, text: str) -> list[Json]:
        """How an image was made, newest step first."""
        from minidock import inspection

        return inspection.history(self.store.resolve(text))

    def tag(self, source: str, target: str) -> Image:
        """Give an image one more name."""
        image = self.store.tag(source, target)
        self._note("tag", image.id, self.familiar_name(target))
        return image

    def rmi(self, text: str, *, force: bool = False) -> Removed:
        """Remove a name, and with its last name the image."""
        from minidock.images import removal

        removed = removal.remove(self.store, text, force=force)
        self._note_removal(removed)
        return removed

    def _note_removal(self, removed: Removed) -> None:
        for name in removed.untagged:
            self._note("untag", name)
        if removed.deleted:  # the image first, then its layers
            self._note("delete", removed.deleted[0])

    def prune_images(self, filters: dict[str, list[str]] | None = None, *, unused: bool = False) -> Removed:
        """Remove dangling images; with *unused* all that no container uses."""
        from minidock import selection
        from minidock.images import removal

        candidates = self.store.images(self.on_damage)
        chosen = {image.id for image in selection.images(candidates, filters or {}, self.image)}
        removed = removal.prune(self.store, unused=unused, wanted=lambda image: image.id in chosen)
        self._note_removal(removed)
        self._note("prune", "", reclaimed=str(removed.freed))
        return removed

    def save(self, names: Sequence[str], file: IO[bytes]) -> None:
        """Write images as one tar archive that docker and OCI tools read."""
        from minidock.images import archive

        archive.save(self.store, list(names), file)
        for name in names:
            self._note("save", self.image(name).id, name)

    def load(self, file: IO[bytes]) -> list[str]:
        """Read such an archive; returns the names (or ids) of its images."""
        from minidock.images import archive

        loaded = archive.load(self.store, file)
        for name in loaded:
            self._note("load", self.image(name).id, name)
        return loaded
