"""The engine's verbs on volumes and on files of containers (see engine.py for the whole)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock import events, files
from minidock.containers import state
from minidock.containers.state import Container
from minidock.errors import Conflict, MinidockError, NotFound

if TYPE_CHECKING:
    from typing import IO

    from minidock.containers.archives import Blocks, Files, PathStat, Write
    from minidock.containers.volumes import Volume
    from minidock.kernel.overlay import Change

Json = dict[str, Any]
Filters = dict[str, list[str]]


class StorageVerbs:
    """What an engine does with volumes, and with the files in containers."""

    root: Path
    on_damage: Callable[[MinidockError], None]

    # ---- volumes -------------------------------------------------------------------------------------

    def create_volume(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> Volume:
        """Make a volume, unless there is one of this name; without *name* an anonymous one."""
        from minidock.containers import volumes

        return volumes.create(self.root, name, driver=driver, labels=labels, options=options)

    def volumes(self, filters: Filters | None = None) -> list[Json]:
        """Volumes as `docker volume ls` lists them, sorted by name, in the shape of Docker's API."""
        from minidock import selection, volume_inspection
        from minidock.containers import volumes

        if volumes.unfinished(self.root):
            volumes.sweep(self.root)
        found = volumes.listed(self.root, self.on_damage)
        used = volumes.uses(self.root)
        chosen = selection.volumes(found, filters or {}, used)
        return [volume_inspection.volume_json(each, used.get(each.name, [])) for each in chosen]

    def inspect_volume(self, name: str) -> Json:
        """One volume, with the containers that use it (which Docker does not tell)."""
        from minidock import volume_inspection
        from minidock.containers import volumes

        found = volumes.find(self.root, name)
        return volume_inspection.volume_json(found, volumes.uses(self.root).get(name, []))

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container uses; with *force* one that is not there is no failure."""
        from minidock.containers import volumes

        try:
            volumes.remove(self.root, name)
        except NotFound:
            if not force:
                raise

    def prune_volumes(self, filters: Filters | None = None, *, all: bool = False) -> tuple[list[str], int]:
        """Remove the anonymous volumes (*all*: any) that no container uses: (names, bytes freed)."""
        from minidock import selection
        from minidock.containers import volumes

        volumes.sweep(self.root)
        found = volumes.listed(self.root, self.on_damage)
        deleted, freed = [], 0
        for volume in selection.prunable_volumes(found, filters or {}, all=all):
            size = files.disk_use(volume.path)
            try:
                volumes.remove(self.root, volume.name)
            except (Conflict, NotFound):  # in use, or removed just now
                continue
            deleted.append(volume.name)
            freed += size
        events.record(self.root, "volume", "prune", "", reclaimed=str(freed))
        return deleted, freed

    def fill_volumes(self, container: Container) -> None:
        """Copy into the empty volumes of a new container what its image has there; else it goes again."""
        if not any(mount.kind == "volume" for mount in container.spec.mounts):
            return
        from minidock import inspection
        from minidock.containers import filling, lifecycle

        try:
            filling.fill(container, inspection.layer_paths(container))
        except BaseException:
            lifecycle.remove(container, force=True, with_volumes=True)
            raise

    # ---- files of containers -------------------------------------------------------------------------

    def stat_path(self, text: str, path: str) -> PathStat:
        """What stands at *path* in a container: HEAD /containers/{id}/archive."""
        with self._files(text) as files:
            return files.look(path)

    def read_archive(
        self, text: str, path: str, write: Write, *, on_stat: Callable[[PathStat], object] | None = None
    ) -> PathStat:
        """Write what stands at *path* as a tar archive through *write*: GET /containers/{id}/archive.

        *on_stat* is told what it is before the first byte.
        """
        with self._files(text, "archive-path") as files:
            if on_stat:
                on_stat(files.look(path))
            return files.read(path, write)

    def write_archive(self, text: str, path: str, blocks: Blocks, *, no_overwrite: bool = True) -> None:
        """Unpack a tar archive into the directory *path* of a container: PUT /containers/{id}/archive.

        With *no_overwrite* no directory replaces a file, nor a file a directory.
        """
        with self._files(text, "extract-to-dir") as files:
            files.write(path, blocks, no_overwrite=no_overwrite)

    def copy_from(
        self, text: str, path: str, local: str, *, follow: bool = False, owners: bool = False
    ) -> int:
        """`cp CONTAINER:PATH LOCAL`; the bytes copied. Links in *path*'s end are followed with *follow*.

        What is copied is ours, or with *owners* belongs to whom it belonged.
        """
        from minidock import copying

        with self._files(text, "archive-path") as files:
            return copying.copy_from(files, path, local, follow=follow, owners=owners)

    def copy_to(self, text: str, path: str, local: str, *, follow: bool = False, owners: bool = False) -> int:
        """`cp LOCAL CONTAINER:PATH`; the bytes copied. As :meth:`copy_from`, the other way."""
        from minidock import copying

        with self._files(text, "extract-to-dir") as files:
            return copying.copy_to(files, path, local, follow=follow, owners=owners)

    def copy_stream_to(self, text: str, path: str, blocks: Blocks) -> int:
        """`cp - CONTAINER:PATH`: unpack a tar stream, with its owners; the bytes read."""
        from minidock import copying

        with self._files(text, "extract-to-dir") as files:
            return copying.copy_stream_to(files, path, blocks)

    def export(self, text: str, file: IO[bytes]) -> None:
        """Write a container's files, without its volumes, as a tar archive."""
        from minidock.containers import archives, user_namespace, view

        container = state.find(self.root, text)
        with view.layers(container) as root:
            archives.export(root, file, ids=user_namespace.ids_of(container.spec))
        container.note("export")

    def diff(self, text: str) -> list[Change]:
        """What a container changed in its filesystem."""
        from minidock import inspection
        from minidock.kernel import overlay

        container = state.find(self.root, text)
        return overlay.diff(container.directory / "upper", inspection.layer_paths(container))

    @contextmanager
    def _files(self, text: str, action: str = "") -> Iterator[Files]:
        """The files of a container; *action* is what `events` shows when all went well."""
        from minidock.containers import archives

        container = state.find(self.root, text)
        with archives.opened(container, text) as files:
            yield files
        if action:
            container.note(action)
