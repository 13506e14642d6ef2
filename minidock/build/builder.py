"""A build from its beginning to its end: Dockerfile → stages → steps → image.

1. The context is opened and the whole Dockerfile is read: most mistakes end here, in no time.
2. The stages become a graph; the images that they start from are fetched if they are not here.
3. Stage after stage is built (stage_builder.py), side by side where they do not need each other.
4. The last draft becomes an image with its names.

All of it in one transaction of the store: what is made shows up at the end, at once and complete. When a
step fails, the image before it is kept, too: a shell in it is the quickest way to see why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minidock import trace
from minidock.build import cache, parser, stages
from minidock.build.context import open_context
from minidock.build.draft import Draft
from minidock.build.events import ImageWritten, Note, OnEvent
from minidock.build.instructions import Arg, Instruction
from minidock.build.known import Known
from minidock.build.options import Options
from minidock.build.parser import Dockerfile
from minidock.build.scope import PREDEFINED, Variables, platform_arguments
from minidock.build.stage_builder import StageBuilder
from minidock.build.stages import FindImage, Stage
from minidock.build.workshop import Stopped, Workshop
from minidock.errors import InvalidInput, MinidockError
from minidock.images import reference
from minidock.images.image import Image, digest_of, short
from minidock.images.store import Store
from minidock.images.transaction import made_manifest

if TYPE_CHECKING:
    import threading

_NOT_MISSED = PREDEFINED | {"SOURCE_DATE_EPOCH"}  # a --build-arg of this name needs no ARG


@dataclass(frozen=True, slots=True)
class Source:
    """What to build: *context* as `docker build` takes it, *dockerfile* the value of -f."""

    context: str | Path | BinaryIO
    dockerfile: str | None = None
    stdin: BinaryIO | None = None


def build(
    store: Store,
    source: Source,
    options: Options,
    find_image: FindImage,
    on_event: OnEvent,
    student_layers: str = "",
) -> str:
    """Build an image; returns its id. *find_image* finds, or pulls, the images that FROM and --from name.

    Raises SyntaxProblem for a mistake in the Dockerfile, CommandFailed for a RUN that fails, MinidockError
    for all else. Whatever happens, no container and no part of an image is left.
    """
    names = [_checked_name(each) for each in options.tags]
    failure: BaseException | None = None
    image_id = ""
    with store.transaction() as new:
        scratch = new.directory / "context"
        scratch.mkdir(mode=0o700)
        context, text, name = open_context(source.context, source.dockerfile, scratch, source.stdin)
        known = Known(cache.digests(store.root, context.root))
        dockerfile = parser.parse(text, name)
        others = _present(store, options.cache_from, on_event) if options.cache_from else None
        steps = cache.Cache(store.root, others, used=options.use_cache, newest=options.newest)
        shop = Workshop(store, new, steps, replace(context, known=known), options, on_event, student_layers)
        building = _Building(shop, dockerfile, find_image)
        try:
            draft = building.run()
            image_id = _write(shop, draft, names)
        except BaseException as error:
            failure = error
            _keep_the_last(building, error)
        # A failing disk must not hide what failed first.
        with suppress(*((MinidockError, OSError) if failure else ())):
            shop.save()
            known.save()
        if failure:
            raise failure  # inside, so that a full disk gets the store's words
    on_event(ImageWritten(image_id, tuple(reference.parse(each).familiar for each in names)))
    return image_id


class _Building:
    """The stages at work. *failed* is the one in which something went wrong first."""

    def __init__(self, shop: Workshop, dockerfile: Dockerfile, find_image: FindImage) -> None:
        options = shop.options
        outside = platform_arguments(options.platform)
        before = Variables(options.build_args, outside)
        before.arguments.update(outside)
        everything = stages.read(dockerfile, before)
        self._shop, self._dockerfile = shop, dockerfile
        self._known = {**outside, **before.arguments}
        self._target = stages.target(everything, options.target)
        self._order = stages.connect(everything, self._target, find_image)
        self._missing = _never_asked_for(options, before, everything)
        self._done: dict[int, Draft] = {}
        self._variables: dict[int, Variables] = {}
        self.failed: StageBuilder | None = None

    def run(self) -> Draft:
        """Build all that is needed; returns the target's draft."""
        if self._one_after_the_other():
            for stage in self._order:
                self._build(stage)
        else:
            self._side_by_side()
        draft = self._done[self._target.number]
        if self._missing:
            names = " ".join(sorted(self._missing))
            text = f"[Warning] One or more build-args [{names}] were not consumed"
            self._shop.tell(Note(text, warning=True))
        if not self._shop.options.squash:
            return draft
        from minidock.build import squash

        return squash.squash(self._shop, self._base(), draft)

    def _base(self) -> Draft:
        """What --squash leaves alone: the image that the target's first stage is made from."""
        stage = self._target
        while isinstance(stage.base, Stage):
            stage = stage.base
        return Draft.of(stage.base) if isinstance(stage.base, Image) else Draft.scratch()

    def _build(self, stage: Stage) -> None:
        shop, labels = self._shop, self._shop.options.labels
        numbered = sorted(self._order, key=lambda each: each.number)
        first = 1 + sum(1 + len(each.steps) for each in numbered if each.number < stage.number)
        more: list[Instruction] = []
        if labels and stage is self._target:
            more = [stages.label_step(dict(labels))]
        below = self._variables[stage.base.number] if isinstance(stage.base, Stage) else None
        self._variables[stage.number] = Variables(shop.options.build_args, self._known, below)
        builder = StageBuilder(
            shop,
            stage,
            self._variables[stage.number],
            self._dockerfile.escape,
            self._done,
            first,
            stages.total(self._order, len(labels)),
        )
        try:
            self._done[stage.number] = builder.build(more)
        except BaseException as error:
            if not isinstance(error, Stopped):
                self.failed = builder
            raise

    def _one_after_the_other(self) -> bool:
        """Whether each stage needs the one before: then no thread would gain anything."""
        pairs = zip(self._order, self._order[1:], strict=False)
        return all(before in after.needs for before, after in pairs)

    def _side_by_side(self) -> None:
        """A thread for each stage; each waits until those that it needs are complete."""
        import threading

        self._shop.alone = False
        ready = {stage.number: threading.Event() for stage in self._order}
        failures: list[BaseException] = []

        def work(stage: Stage) -> None:
            try:
                for each in stage.needs:
                    ready[each.number].wait()
                if not self._shop.stopped:
                    self._build(stage)
            except BaseException as error:
                failures.append(error)
                self._shop.stop()
            finally:
                ready[stage.number].set()

        threads = [
            threading.Thread(target=copy_context().run, args=(work, stage), daemon=True)
            for stage in self._order
        ]
        for thread in threads:
            thread.start()
        try:
            _join(threads)
        except BaseException:  # Ctrl-C
            self._shop.stop()
            _join(threads)
            raise
        for error in sorted(failures, key=lambda each: isinstance(each, Stopped)):
            raise error


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


# --- before and after -----------------------------------------------------------------------------


def _checked_name(text: str) -> str:
    parsed = reference.parse(text)
    if parsed.digest:
        raise InvalidInput(f"{text}: refusing to create a tag with a digest reference")
    return str(parsed.pinned())


def _present(store: Store, names: Iterable[str], on_event: OnEvent) -> list[Image]:
    """The images of --cache-from that are here; as in Docker, the others do not count."""
    found = []
    for name in names:
        image = store.find(name)
        if image is None:
            on_event(Note(f"--cache-from {name}: not here, so it is no help; pull it first", warning=True))
        else:
            found.append(image)
    return found


def _never_asked_for(options: Options, before: Variables, everything: Iterable[Stage]) -> set[str]:
    """The --build-args for which there is no ARG."""
    asked = {
        name.partition("=")[0]
        for stage in everything
        for step in stage.steps
        if isinstance(step, Arg)
        for name, _ in step.pairs
    }
    return set(options.build_args) - asked - before.declared - _NOT_MISSED


@trace.mechanism(lesson=8)
def _write(shop: Workshop, draft: Draft, names: list[str]) -> str:
    """Make the last draft an image. What is there already is not written again."""
    store = shop.store
    if draft.origin:  # a Dockerfile that is FROM and nothing else: the image is that of its base
        for name in names:
            store.tag(draft.origin, name)
        return draft.origin
    if not draft.history:
        raise InvalidInput("No image was generated. Is your Dockerfile empty?")
    config = json.dumps(draft.config).encode()
    digest = digest_of(made_manifest(config, draft.layers))
    entries = store.layout.entries()
    labels = {entry.label: entry.digest for entry in entries}
    known = all(labels.get(name) == digest for name in names) if names else digest in labels.values()
    if not (known and store.has_blob(draft.id)):
        shop.new.put_made_image(draft.config, draft.layers, names)
    return draft.id


def _keep_the_last(building: _Building, error: BaseException) -> None:
    """Keep the image before the step that failed, and say how to look into it."""
    failed = building.failed
    if failed is None or isinstance(error, KeyboardInterrupt) or not failed.draft.layers:
        return
    draft = failed.draft
    if not draft.origin:
        with suppress(MinidockError, OSError):  # the disk may be what failed
            failed.shop.new.put_made_image(draft.config, draft.layers)
    if isinstance(error, MinidockError):
        look = (
            f"The image before this step is kept. To look into it: minidock run -it --rm {short(draft.id)} sh"
        )
        error.hint = f"{error.hint}\n{look}" if error.hint else look
