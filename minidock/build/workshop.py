"""What all stages of one build share: the store's transaction, the cache, and how files become a layer.

Everything that a build makes stands in its transaction's directory until the build is over: the layers
too, which later steps and their containers use from there. So the disk is synced once for a whole build,
and a build that is killed leaves one directory, which the next command sweeps.
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from minidock import files
from minidock.build.cache import Cache, Question
from minidock.build.context import Context
from minidock.build.draft import Draft, Step
from minidock.build.events import Event, OnEvent
from minidock.build.options import Options
from minidock.build.view import View
from minidock.containers import timestamps
from minidock.containers.state import Container
from minidock.errors import MinidockError
from minidock.images.image import OCI_LAYER, Image, Layer
from minidock.images.store import Store
from minidock.images.transaction import LayerTree, Transaction

_LONG = 3.0  # seconds of work that should survive a kill


class Stopped(MinidockError):
    """Another stage failed, or the user has had enough: this one is given up."""


@dataclass(slots=True)
class Workshop:
    """The tools of one build. Several stages may use it at the same time, each in a thread of its own."""

    store: Store
    new: Transaction
    cache: Cache
    context: Context
    options: Options
    on_event: OnEvent
    student_layers: str = ""
    stopped: bool = False
    alone: bool = True  # no stages side by side: then nobody starts a container while layers move
    _records: list[tuple[Draft, Question, Step]] = field(default_factory=list)
    _told: list[Event] = field(default_factory=list)
    _running: list[Container] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)
    _guard: _thread.LockType = field(default_factory=_thread.allocate_lock)  # what threading.Lock is

    def tell(self, event: Event) -> None:
        """Pass on one event at a time: who shows them need not know that stages run side by side."""
        with self._guard:
            self.on_event(event)

    def tell_once(self, event: Event) -> None:
        """Pass on what need not be said again in this build."""
        with self._guard:
            known = event in self._told
            self._told.append(event)
        if not known:
            self.tell(event)

    def now(self) -> str:
        """When a step happens, RFC 3339; with SOURCE_DATE_EPOCH all happen at once."""
        newest = self.options.newest
        return timestamps.now() if newest is None else timestamps.from_nanoseconds(newest * timestamps.SECOND)

    # --- layers ----------------------------------------------------------------------------------

    def trees(self, draft: Draft) -> list[Path]:
        """The extracted layers of *draft*, topmost first, wherever they are now."""
        return [self.new.tree_path(layer.diff_id) for layer in reversed(draft.layers)]

    def view(self, draft: Draft) -> View:
        """The files of *draft*."""
        return View(self.trees(draft))

    def view_of(self, image: Image) -> View:
        """The files of a local image."""
        draft = Draft.of(image)
        self.hold(draft)
        return self.view(draft)

    def hold(self, draft: Draft) -> None:
        """Make sure that the layers of *draft* are on disk and stay there. Raises NotFound."""
        below: list[Path] = []
        for layer in draft.layers:
            self.new.keep(layer.digest)
            if not self.new.keep_layer(layer.diff_id):
                self.store.ensure_layer(layer, parents=below[::-1])
            below.append(self.new.tree_path(layer.diff_id))

    def names_for_mount(self, draft: Draft) -> list[str]:
        """The layers of *draft* as a container's specification has them, bottom first.

        Those of this build are named by the path of their tree: they have no place in the store yet.
        """
        own = self.new.directory / "layers"
        names = ((layer.diff_id, own / layer.diff_id.removeprefix("sha256:")) for layer in draft.layers)
        return [str(path) if path.exists() else diff_id for diff_id, path in names]

    def take(self, tree: Path) -> tuple[Layer | None, int]:
        """Make *tree* a layer; it is moved away. Returns the layer and the bytes of its files.

        None for an empty tree: as in Docker, nothing happened, so nothing is added.
        """
        if not os.listdir(tree):
            return None, 0
        from minidock.images import layer as layers  # a build that finds all in the cache makes none

        archive = self.new.directory / "partial" / os.urandom(8).hex()
        with open(archive, "xb") as file:
            packed = layers.pack_layer(tree, file, newest=self.options.newest)
        self.new.add_blob(archive, packed.digest)
        self.new.keep(packed.digest)  # also after a save, as the next line does for the tree
        size = files.disk_use(tree)
        if not self.new.keep_layer(packed.diff_id):
            moved = self.new.directory / "trees" / os.urandom(8).hex()
            os.rename(tree, moved)
            self.new.add_layer(LayerTree(moved, size), packed.diff_id)
        return Layer(packed.digest, packed.diff_id, packed.size, f"{OCI_LAYER}+gzip"), size

    # --- the cache -------------------------------------------------------------------------------

    def find(self, draft: Draft, question: Question) -> tuple[Step | None, str]:
        """The cached step after *draft*, with its layer on disk; or None and the reason why not."""
        answer = self.cache.ask(draft, question)
        step = answer.step
        if step is None or step.layer is None:
            return step, answer.reason
        try:
            if not self.new.keep(step.layer.digest):
                raise MinidockError("gone")
            if not self.new.keep_layer(step.layer.diff_id):
                self.store.ensure_layer(step.layer, parents=self.trees(draft))
        except MinidockError:  # removed by hand, or damaged
            self.cache.forget(draft, question)
            return None, "the layer that it made is gone"
        return step, ""

    def remember(self, draft: Draft, question: Question, step: Step) -> None:
        """Note a step for the cache. It is written down with :meth:`save`, once its layer is safe.

        That is at the end, but what took long is not left to chance till then.
        """
        self._records.append((draft, question, step))
        if self.alone and time.monotonic() - self._saved_at > _LONG:
            self.save()

    def save(self) -> None:
        """Put what was made so far into the store, and the steps into the cache."""
        self.new.commit()
        for record in self._records:
            self.cache.remember(*record)
        self._records.clear()
        self._saved_at = time.monotonic()

    # --- containers ------------------------------------------------------------------------------

    @contextmanager
    def alive(self, container: Container) -> Iterator[None]:
        """*container* runs in this block; afterwards nothing of it is left."""
        from minidock.containers import lifecycle  # a build that finds all in the cache runs none

        with self._guard:
            self._running.append(container)
        try:
            if self.stopped:
                raise Stopped("the build was stopped")
            yield
        finally:
            lifecycle.remove(container, force=True)
            with self._guard:
                self._running.remove(container)

    def stop(self) -> None:
        """Give the build up: kill what runs, and let no stage begin another step."""
        from minidock.containers import lifecycle

        self.stopped = True
        with self._guard:
            running = list(self._running)
        for container in running:
            with suppress(MinidockError):  # it has ended by itself, or was not yet started
                lifecycle.kill(container)
