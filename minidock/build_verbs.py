"""The engine's verbs that make images here: build, commit, import (see engine.py for the whole)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock.containers import state
from minidock.errors import InvalidInput
from minidock.image_verbs import ImageVerbs, Json, Progress
from minidock.images.image import Image
from minidock.network_verbs import NetworkVerbs

if TYPE_CHECKING:
    from typing import IO, BinaryIO

    from minidock.build.events import Event as BuildEvent
    from minidock.containers.spec import Limits
    from minidock.images.store import Store
    from minidock.trace import Step

# Docker's flags of build that are limits of the containers, under their names in `create`.
LIMITS = ["memory", "memory_swap", "cpu_period", "cpu_quota", "cpu_shares", "cpuset_cpus", "cpuset_mems"]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made. *trace* are the steps that it took, those of its containers apart."""

    id: str
    trace: list[Step] = field(repr=False)
    store: Store = field(repr=False)

    @property
    def image(self) -> Image:
        return self.store.resolve(self.id)


def _ignore(_: object) -> None:
    """Show nothing."""


class BuildVerbs(ImageVerbs, NetworkVerbs):
    """What an engine does to make images."""

    layers = ""  # the student's directory, where there is one

    def build(
        self,
        context: str | Path | BinaryIO,
        *,
        dockerfile: str | None = None,
        stdin: BinaryIO | None = None,
        tags: Sequence[str] = (),
        target: str = "",
        build_args: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        use_cache: bool = True,
        cache_from: Sequence[str] = (),
        pull: bool = False,
        platform: str = "",
        network: str = "",
        add_host: Sequence[str] = (),
        secrets: Sequence[str] | Mapping[str, bytes] = (),
        squash: bool = False,
        explain: bool = False,
        shm_size: int | None = None,
        ulimits: Mapping[str, tuple[int, int]] | None = None,
        on_event: Callable[[BuildEvent], object] = _ignore,
        progress: Progress | None = None,
        **limits: Any,
    ) -> Built:
        """Build an image from a Dockerfile and the files in *context*.

        *context* is a directory, the URL of an archive, ``-`` (then *stdin* has an archive, or a Dockerfile
        alone), or an open archive; *dockerfile* the file's name, ``-`` for *stdin*. *secrets* are as
        `--secret` takes them, or values by their ids. *network*, *add_host* and *limits* (memory="64m",
        …) are for the containers of RUN. *on_event* gets what happens (build/events.py), *progress* that
        of pulls.

        Raises what build/builder.py says; then the last good image is kept, and the hint names it.
        """
        from minidock import network_options, trace
        from minidock.build import builder, options

        arguments = dict(build_args or {})
        if not isinstance(secrets, Mapping):
            secrets = options.read_secrets(secrets)
        wanted = options.Options(
            tags=tuple(tags),
            target=target,
            build_args=arguments,
            labels=dict(labels or {}),
            use_cache=use_cache,
            cache_from=tuple(cache_from),
            pull=pull,
            platform=platform,
            network=network_options.mode({"network": network}, self._id_of, self.network_name),
            extra_hosts=tuple(map(network_options.extra_host, add_host)),
            secrets=secrets,
            squash=squash,
            limits=_limits(limits),
            shm_size=shm_size or 64 << 20,
            ulimits=dict(ulimits or {}),
            explain=explain,
            userns_remap=self.config.userns_remap,
            newest=options.newest_time(arguments),
        )

        def find(reference: str, own_platform: str) -> Image:
            return self._base_image(reference, own_platform or platform, pull, progress)

        with trace.recording(trace.Recorder()) as recorder:
            image_id = builder.build(
                self.store,
                builder.Source(context, dockerfile, stdin),
                wanted,
                find,
                on_event,
                self.layers,
            )
        for tag in tags:
            self._note("tag", image_id, self.familiar_name(tag))
        return Built(image_id, recorder.steps, self.store)

    def _base_image(self, reference: str, platform: str, pull: bool, progress: Progress | None) -> Image:
        """The image for FROM or --from: the local one, unless it is for another platform than wanted."""
        if not pull:
            found = self.store.find(reference)
            if found is not None and (not platform or _fits(found, platform)):
                return found
        return self.pull(reference, platform=platform or None, progress=progress)

    def prune_builds(self) -> tuple[int, int]:
        """Forget every step that builds remember, and what they cached: (steps, bytes freed)."""
        from minidock.build import cache
        from minidock.images import removal

        count, kept = cache.clear(self.root)
        return count, kept + removal.collect(self.store)

    def import_(
        self, file: IO[bytes], reference: str = "", *, changes: Sequence[str] = (), **options: Any
    ) -> Image:
        """Make an image of one layer from a tar archive of a filesystem.

        *changes* are Dockerfile instructions such as ``CMD ["sh"]``; *options*: see flat.import_.
        """
        from minidock.build import settings
        from minidock.images import flat

        wanted: Json = settings.with_changes({}, changes)
        image = flat.import_(self.store, file, reference, settings=wanted, **options)
        self._note("import", image.id, reference)
        return image

    def commit(
        self,
        text: str,
        reference: str = "",
        *,
        message: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> Image:
        """Make an image of a container: its image, and one layer with what it changed.

        A running container is paused meanwhile, unless *pause* is False. *changes* are Dockerfile
        instructions such as ``CMD ["sh"]``.
        """
        from minidock.build import commit

        container = state.find(self.root, text)
        image_id = commit.commit(
            self.store, container, reference, message=message, author=author, changes=changes, pause=pause
        )
        container.note("commit", comment=message, imageID=image_id, imageRef=reference)
        if reference:
            self._note("tag", image_id, self.familiar_name(reference))
        return self.store.resolve(image_id)


def _limits(given: Mapping[str, Any]) -> Limits:
    for name in given:
        if name not in LIMITS:
            raise InvalidInput(f"build: unknown option {name!r}", hint=f"Limits: {', '.join(LIMITS)}.")
    if not given:
        from minidock.containers.spec import Limits

        return Limits()
    from minidock import limits

    return limits.wanted(dict(given))


def _fits(image: Image, platform: str) -> bool:
    from minidock.images import manifest

    wanted = manifest.parse_platform(platform)
    return image.platform == "" or str(manifest.parse_platform(image.platform)) == str(wanted)
