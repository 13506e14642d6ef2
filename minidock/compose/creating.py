"""Containers as the project wants them: what is right stays, what differs is made anew, the rest goes."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minidock.compose import grants, images, labels, members, options, order
from minidock.compose.members import Member
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError
from minidock.compose.relations import wanted_scale
from minidock.errors import MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.engine import Engine


@dataclass(slots=True)
class Wish:
    """What the command says about making containers."""

    force: bool = False  # --force-recreate
    keep: bool = False  # --no-recreate
    fresh_volumes: bool = False  # --renew-anon-volumes
    scale: dict[str, int] = field(default_factory=dict)
    timeout: int | None = None  # seconds


class Maker:
    """Brings the containers of some services to what the project says. They are not started here."""

    def __init__(self, engine: Engine, project: Project, report: Report, wish: Wish) -> None:
        self.engine, self.project, self.report, self.wish = engine, project, report, wish
        self.renewed = set[str]()  # services of which a container was made anew
        self._lock = threading.Lock()

    def make(self, names: list[str]) -> None:
        """Raises ComposeError, and what the engine raises."""
        order.run(self.project.needs(names), self._settle)

    def scale_of(self, name: str) -> int:
        if name in self.wish.scale:
            count = self.wish.scale[name]
            if count > 1 and self.project.services[name].get("container_name"):
                raise ComposeError(f"services.{name}: {count} containers cannot share one container_name")
            return count
        return wanted_scale(self.project.services[name])

    def first(self, name: str) -> str:
        """The id of the first container of a service: for those that use its namespaces or volumes."""
        found = members.find(self.engine, self.project.name, [name])
        if not found:
            raise ComposeError(
                f'the service "{name}" has no container', hint=f"minidock compose up -d {name}"
            )
        return found[0].id

    def _settle(self, name: str) -> None:
        existing = members.find(self.engine, self.project.name, [name])
        count = self.scale_of(name)
        image = self.engine.image(images.name_of(self.project, name))
        wanted: dict[str, Any] = options.of(self.project, name, self.first)
        wanted.setdefault("mount", []).extend(grants.mounts(self.project, self.project.services[name]))
        numbers = {member.number for member in existing}
        for member in existing[count:]:
            remove(self.engine, member, self.report, self.wish.timeout)
        for member in existing[:count]:
            if self._differs(member, name, image.id, wanted):
                self._renew(member, name, image.id, wanted)
        free = (number for number in range(1, count + len(numbers) + 1) if number not in numbers)
        for number, _ in zip(free, range(count - len(existing)), strict=False):
            container_name = options.container_name(self.project, name, number)
            self.report.step("Container", container_name, "Creating")
            self._create(name, number, container_name, image.id, wanted)
            self.report.step("Container", container_name, "Created")

    def _differs(self, member: Member, name: str, image_id: str, wanted: dict[str, Any]) -> bool:
        if self.wish.keep:
            return False
        spec = member.container.spec
        network = (wanted.get("network") or [""])[0]  # as text: a mode, perhaps of a service made anew
        shared = network if isinstance(network, str) and network.startswith("container:") else ""
        return (
            self.wish.force
            or member.label.get(labels.HASH) != labels.config_hash(self.project, name)
            or spec.image_id != image_id
            or bool(shared and spec.namespaces.network != shared)
        )

    def _create(
        self,
        name: str,
        number: int,
        container_name: str,
        image_id: str,
        wanted: dict[str, Any],
        old: Any = None,
    ) -> str:
        service = self.project.services[name]
        own = {key: value or "" for key, value in (service.get("labels") or {}).items()}
        asked = {**wanted, "mount": [dict(each) for each in wanted.get("mount") or []]}  # changed below
        if old is not None and not self.wish.fresh_volumes:
            asked["mount"] += _inherited(old, asked["mount"])
        container = self.engine.create(
            images.name_of(self.project, name),
            options.command(service),
            pull="never",
            name=container_name,
            label={**own, **labels.of_container(self.project, name, number, image_id)},
            **asked,
        )
        try:
            grants.write(self.engine, self.project, service, container.id)
        except BaseException:
            self.engine.rm(container.id, force=True, volumes=True)
            raise
        return str(container.id)

    def _renew(self, member: Member, name: str, image_id: str, wanted: dict[str, Any]) -> None:
        """The new container takes name and anonymous volumes of the old one, which goes when it is made."""
        container_name = options.container_name(self.project, name, member.number)
        self.report.step("Container", container_name, "Recreate")
        old_name = member.name
        self.engine.rename(member.id, f"{member.id[:12]}_{old_name}")
        try:
            self._create(name, member.number, container_name, image_id, wanted, member.container.spec)
        except BaseException:
            with contextlib.suppress(MinidockError):
                self.engine.rename(member.id, old_name)
            raise
        stop(self.engine, member, self.wish.timeout)
        self.engine.rm(member.id, force=True, volumes=self.wish.fresh_volumes)
        with self._lock:
            self.renewed.add(name)
        self.report.step("Container", container_name, "Recreated")


def _inherited(old: Any, mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The anonymous volumes of the container *old*, unless something else is to be mounted there now."""
    taken = {each["target"] for each in mounts if each.get("source") or each["kind"] != "volume"}
    again = {each["target"]: each for each in mounts if each["target"] not in taken}
    found = []
    for mount in old.mounts:
        if mount.kind != "volume" or not mount.anonymous or mount.target in taken:
            continue
        if mount.target in again:  # written in the file as `- /data`
            again[mount.target].update(source=mount.source, anonymous=True)
        else:  # a VOLUME of the image
            found.append(
                {"kind": "volume", "source": mount.source, "target": mount.target, "anonymous": True}
            )
    return found


def stop(engine: Engine, member: Member, timeout: int | None) -> None:
    """Stop a container; one that is gone, or stopped already, is no failure."""
    with contextlib.suppress(NotFound):
        if member.running:
            engine.stop(member.id, timeout=timeout)


def remove(
    engine: Engine, member: Member, report: Report, timeout: int | None, *, volumes: bool = False
) -> None:
    """Stop and remove one container."""
    if member.running:
        report.step("Container", member.name, "Stopping")
        stop(engine, member, timeout)
        report.step("Container", member.name, "Stopped")
    report.step("Container", member.name, "Removing")
    with contextlib.suppress(NotFound):
        engine.rm(member.id, force=True, volumes=volumes)
    report.step("Container", member.name, "Removed")
