"""The engine: one object with every verb of the course. No printing, no flags: values in, values out.

    from minidock.engine import Engine

    engine = Engine()
    result = engine.run("busybox", ["echo", "hi"], memory="64m")
    print(result.output, result.exit_code)

The command line, notebooks, labs (and later the daemon and compose) are faces of this one object.
Failures are MinidockErrors. It may be used from several threads and inside Jupyter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import config as configuration
from minidock.build_verbs import BuildVerbs
from minidock.config import Config
from minidock.containers import state
from minidock.containers.state import Container
from minidock.errors import Conflict, MinidockError
from minidock.exec_verbs import ExecVerbs
from minidock.image_verbs import Json, Progress
from minidock.life_verbs import LifeVerbs
from minidock.network_verbs import NetworkVerbs
from minidock.storage_verbs import StorageVerbs

if TYPE_CHECKING:
    from minidock.activity import Usage as Activity
    from minidock.capture import Result as Result
    from minidock.containers.log_reader import Entry
    from minidock.containers.spec import Spec
    from minidock.containers.streams import Streams as Streams  # for the faces
    from minidock.diagnosis import Finding
    from minidock.images.transfer import Event as Event  # for the faces
    from minidock.leftovers import Leftover
    from minidock.overview import Usage
    from minidock.trace import Step

HUB = "docker.io"


def streams(**where: Any) -> Streams:
    """Where an attached container reads and writes: stdin, stdout, stderr, detach_keys, forward_signals."""
    from minidock.containers.streams import Streams

    return Streams(**where)


def shown_time(moment: int) -> str:
    """Nanoseconds since the epoch as RFC 3339."""
    from minidock.containers import timestamps

    return timestamps.from_nanoseconds(moment)


def parse_filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """``["status=exited"]`` → ``{"status": ["exited"]}``, the form that ps and images take."""
    from minidock import selection

    return selection.parse(texts)


class Engine(BuildVerbs, LifeVerbs, NetworkVerbs, StorageVerbs, ExecVerbs):
    """Every verb over one state root. Cheap to make: nothing is read before it is asked for.

    *root* is where images and containers live (default: as config.py says), *layers* a student's
    directory whose functions stand in for the library's (see layers.py).
    """

    def __init__(
        self, root: Path | str | None = None, *, config: Config | None = None, layers: str | None = None
    ) -> None:
        super().__init__(config or configuration.load(Path(root) if root else None))
        self.layers = os.path.abspath(os.path.expanduser(layers)) if layers else ""
        self.swapped = self._swap(self.layers) if self.layers else {}

    def _swap(self, directory: str) -> dict[str, list[str]]:
        from minidock import layers

        return layers.load(Path(directory))

    # ---- containers: making and finding ------------------------------------------------------------

    def create(
        self,
        image: str,
        command: Sequence[str] | None = None,
        *,
        pull: str = "missing",
        platform: str | None = None,
        progress: Progress | None = None,
        on_missing: Callable[[], None] | None = None,
        **options: Any,
    ) -> Container:
        """Make a container without starting it.

        *options* are Docker's flags with ``_`` for ``-``: ``memory="64m"``, ``env=["A=1"]``,
        ``volume=["/a:/b:ro"]``, … (creation.KNOWN). The image is pulled as *pull* says.
        """
        from minidock import creation
        from minidock.containers import lifecycle

        creation.check_known(options)  # before the pull, which may take long
        local = self.pull_if_missing(
            image, policy=pull, platform=platform, progress=progress, on_missing=on_missing
        )
        words = list(command) if command else None
        spec = creation.specification(
            local,
            image,
            words,
            options,
            self._id_of,
            self.network_name,
            lambda name: self.container(name).spec,
            self.layers,
            self.config.userns_remap,
        )
        trees = self.store.ensure_layers(local)
        with self.store.lock(shared=True):  # from here on the container counts as a user of its layers
            if not all(tree.is_dir() for tree in trees):
                raise Conflict(f"image {image} was removed meanwhile", hint="Try again.")
            container = lifecycle.create(self.root, spec)
        self.fill_volumes(container)
        return container

    def _spec_of(self, text: str) -> Spec:
        return self.container(text).spec

    def container(self, text: str) -> Container:
        """The container with this name, id, or unique beginning of an id. Raises NotFound."""
        return state.find(self.root, text)

    def containers(self, filters: dict[str, list[str]] | None = None, *, all: bool = True) -> list[Container]:
        """Containers, newest first; *all* of them, or those that run (or fit a filter on their state)."""
        from minidock import selection

        found = state.containers(self.root, self.on_damage)
        chosen = selection.containers(found, filters or {}, self.container, self._image_id)
        if all or (filters and ({"status", "exited"} & filters.keys())):
            return chosen
        return [container for container in chosen if container.running()]

    def _image_id(self, text: str) -> str | None:
        try:
            image = self.store.find(text)
        except MinidockError:  # damaged: containers are listed all the same
            return None
        return image.id if image else None

    def ps(
        self, filters: dict[str, list[str]] | None = None, *, all: bool = False, size: bool = False
    ) -> list[Json]:
        """Containers as `docker ps` lists them, in the shape of Docker's API."""
        from minidock import inspection

        rows = [inspection.summary(each, size=size) for each in self.containers(filters, all=all)]
        ids = {name: self._image_id(name) for name in {row["Image"] for row in rows}}
        for row in rows:
            if ids[row["Image"]] != row["ImageID"]:  # the name is gone, or belongs to another image by now
                row["Image"] = row["ImageID"]
        return rows

    def inspect(self, text: str, *, size: bool = False) -> Json:
        """One container in the shape of Docker's API."""
        from minidock import inspection

        return inspection.container_json(self.container(text), size=size)

    def run(
        self,
        image: str,
        command: Sequence[str] | str | None = None,
        *,
        input: bytes | str | None = None,
        show: Callable[[str], object] | None = None,
        **options: Any,
    ) -> Result:
        """Make a container, start it, wait for its end, and return what it wrote.

        *command* as text is for a shell: ``"ls | wc"`` means ``sh -c "ls | wc"``. *input* becomes its
        standard input, *show* (such as ``sys.stdout.write``) gets its output while it comes. *options*
        as for :meth:`create`. Interrupting it (Jupyter's Stop) kills the container.
        """
        words = ["sh", "-c", command] if isinstance(command, str) else command
        if input is not None:
            options = {"interactive": True, "stdin_once": True, **options}
        from minidock import capture

        container = self.create(image, words, **options)
        taken = capture.Capture(show)
        with capture.supply(input) as stdin:
            try:
                exit_code = self.start(container.id, attach=taken.streams(stdin))
            except KeyboardInterrupt:
                self.kill(container.id)
                raise
        return taken.result(container, exit_code or 0)

    def run_detached(
        self, image: str, command: Sequence[str] | str | None = None, **options: Any
    ) -> Container:
        """Make a container and start it in the background: `docker run -d`."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        container = self.create(image, words, **options)
        self.start(container.id)
        return container

    # ---- containers: living -------------------------------------------------------------------------

    def start(self, text: str, *, attach: Streams | None = None) -> int | None:
        """Start a container; with *attach* stay until it ends (or detaches) and return its exit code."""
        from minidock.containers import lifecycle

        return lifecycle.start(self.container(text), attach)

    def attach(
        self,
        text: str,
        streams: Streams,
        *,
        early: bool = False,
        on_joined: Callable[[], object] | None = None,
    ) -> int:
        """Join a running container's streams; its exit code, or -1 when the user left it (detach keys).

        With *early* one that does not run yet is waited for. *on_joined*: nothing can be missed from now on.
        """
        from minidock.containers import lifecycle, line

        container = self.container(text)
        if not early and not container.running():
            raise Conflict("You cannot attach to a stopped container, start it first")
        return lifecycle.attach_to(container, streams, early=early, on_joined=on_joined or line.nothing)

    def resize(self, text: str, rows: int, columns: int) -> None:
        """Tell a running container's terminal its size."""
        from minidock.containers import lifecycle

        lifecycle.resize(self.container(text), rows, columns)

    def logs(self, text: str, **options: Any) -> Iterator[Entry]:
        """What a container wrote: (stream, bytes, time). *options*: see lifecycle.read_logs."""
        from minidock.containers import lifecycle

        return lifecycle.read_logs(self.container(text), **options)

    def stop(self, text: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        """Ask the container to end (its stop signal), and after *timeout* seconds kill it."""
        from minidock.containers import lifecycle

        lifecycle.stop(self.container(text), timeout, signal)

    def restart(self, text: str, *, timeout: int | None = None, signal: str | None = None) -> None:
        """Stop, then start."""
        container = self.container(text)
        if container.running():
            self.stop(container.id, timeout=timeout, signal=signal)
        self.start(container.id)
        container.note("restart")

    def kill(self, text: str, *, signal: str = "SIGKILL") -> None:
        """Send a signal to the container's first process."""
        from minidock.containers import lifecycle

        lifecycle.kill(self.container(text), signal)

    def pause(self, text: str) -> None:
        """Freeze all processes of a container."""
        from minidock.containers import lifecycle

        lifecycle.pause(self.container(text))

    def unpause(self, text: str) -> None:
        """Let a paused container go on."""
        from minidock.containers import lifecycle

        lifecycle.unpause(self.container(text))

    def wait(self, text: str, condition: str = "not-running", **options: Any) -> int:
        """Wait for the container's end; returns its exit code. *condition*, *options*: see line.wait."""
        from minidock.containers import lifecycle

        return lifecycle.wait(self.container(text), condition, **options)

    def rename(self, text: str, name: str) -> None:
        """Give a container another name."""
        from minidock.containers import lifecycle

        lifecycle.rename(self.container(text), name)

    def rm(self, text: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; a running one only with *force*. *volumes*: its anonymous volumes as well."""
        from minidock.containers import lifecycle

        lifecycle.remove(self.container(text), force=force, with_volumes=volumes)

    def prune_containers(self, filters: dict[str, list[str]] | None = None) -> tuple[list[str], int]:
        """Remove all containers that do not run: (their ids, the bytes they took)."""
        from minidock import files, selection

        deleted, freed = [], 0
        for container in selection.prunable(self.containers(), filters or {}):
            size = files.disk_use(container.directory / "upper")
            self.rm(container.id, volumes=False)
            deleted.append(container.id)
            freed += size
        return deleted, freed

    def top(self, text: str, options: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
        """The processes of a container: titles and rows, as `ps` on the host shows them."""
        from minidock import activity

        container = self.container(text)
        found = activity.top(container, list(options))
        container.note("top")
        return found

    def stats(self, text: str) -> Activity:
        """One reading of what a container uses."""
        from minidock import activity

        return activity.usage(self.container(text))

    def explain(self, text: str) -> list[Step]:
        """The steps that made a container, as recorded while it started."""
        from minidock import trace

        try:
            return trace.read(self.container(text).directory / "trace.jsonl")
        except FileNotFoundError:
            return []

    # ---- the whole ----------------------------------------------------------------------------------

    def version(self) -> Json:
        """Versions of minidock, Python and the kernel."""
        from minidock import overview

        return overview.version()

    def info(self) -> Json:
        """Counts, drivers, limits of the machine, configuration; named as in Docker's API."""
        from minidock import overview

        return overview.info(self.config, self.images(), self.containers(), self.layers)

    def df(self) -> list[Usage]:
        """What images, containers, volumes and the build cache take on disk."""
        from minidock import overview

        return overview.disk_usage(self.root, self.images(), self.containers(), self.volumes())

    def df_in_detail(self) -> Json:
        """What every image, container and volume takes on disk."""
        from minidock import overview

        rows = self.ps(all=True, size=True)
        return overview.usage_in_detail(self.images(), self.image_summaries(), rows, self.volumes())

    def doctor(self) -> Iterator[Finding]:
        """Is this machine able to run containers? One finding after the other, as they are made."""
        from minidock import diagnosis

        return diagnosis.machine(self.config)

    def leftovers(self) -> list[Leftover]:
        """What killed processes left behind under this root."""
        from minidock import leftovers

        return list(leftovers.find(self.root))

    def reset(self, *, keep_images: bool = False) -> list[str]:
        """Remove everything that minidock made under this root; says what."""
        from minidock import leftovers

        return leftovers.reset(self.root, keep_images=keep_images)
