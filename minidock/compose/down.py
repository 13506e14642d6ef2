"""Ending: `stop`, `kill`, `rm` and `down`. All of it works from labels, so it needs no compose file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from minidock.compose import creating, members, order, resources
from minidock.compose import images as image_names
from minidock.compose.members import Member
from minidock.compose.progress import Report
from minidock.errors import Conflict, MinidockError, NotFound

if TYPE_CHECKING:
    from minidock.compose.model import Project
    from minidock.engine import Engine


def in_order(found: list[Member], action: Callable[[Member], None], *, backwards: bool) -> None:
    """Do *action* for all containers, service by service; *backwards*: who needs others comes first."""
    needs = members.needs(found)
    order_of: order.Needs = order.reverse(needs) if backwards else needs

    def all_of(service: str) -> None:
        order.at_once([_bound(action, each) for each in found if each.service == service])

    order.run(order_of, all_of)


def _bound(action: Callable[[Member], None], member: Member) -> Callable[[], None]:
    return lambda: action(member)


def stop(engine: Engine, found: list[Member], report: Report, timeout: int | None) -> None:
    """Stop all that run."""

    def one(member: Member) -> None:
        report.step("Container", member.name, "Stopping")
        creating.stop(engine, member, timeout)
        report.step("Container", member.name, "Stopped")

    in_order([each for each in found if each.running], one, backwards=True)


def kill(engine: Engine, found: list[Member], signal: str, report: Report) -> None:
    """Send *signal* to all that run."""

    def one(member: Member) -> None:
        report.step("Container", member.name, "Killing")
        with contextlib.suppress(Conflict, NotFound):  # ended meanwhile
            engine.kill(member.id, signal=signal)
        report.step("Container", member.name, "Killed")

    in_order([each for each in found if each.running], one, backwards=True)


def remove(
    engine: Engine, found: list[Member], report: Report, *, volumes: bool, timeout: int | None = None
) -> None:
    """Stop and remove containers."""
    in_order(
        found,
        lambda member: creating.remove(engine, member, report, timeout, volumes=volumes),
        backwards=True,
    )


def down(
    engine: Engine,
    name: str,
    report: Report,
    *,
    services: Iterable[str] = (),
    project: Project | None = None,
    images: str = "",
    volumes: bool = False,
    remove_orphans: bool = False,
    timeout: int | None = None,
) -> None:
    """Remove containers and networks of the project *name*; with *volumes* its volumes.

    *services* limits it to some. *project* is the compose file, where there is one: who is not in it is an
    orphan, and goes only with *remove_orphans*. *images*: ``all`` of the services, ``local`` ones that bear
    no name of their own, or none ("").
    """
    chosen = set(services)
    found = members.find(engine, name, chosen, oneoff=None)
    if project is not None and not remove_orphans:
        known = {*project.services, *project.dormant}
        orphans = [each for each in found if each.service not in known]
        found = [each for each in found if each.service in known]
        if orphans:
            report.warn(
                f"orphan containers of this project: {', '.join(each.name for each in orphans)} "
                "(--remove-orphans removes them)"
            )
    doomed = _images(found, project, local=images == "local") if images else []
    remove(engine, found, report, volumes=volumes, timeout=timeout)
    if not chosen:
        resources.remove_networks(engine, name, report)
        if volumes:
            resources.remove_volumes(engine, name, report)
    for image in doomed:
        _remove_image(engine, image, report)


def _images(found: list[Member], project: Project | None, *, local: bool) -> list[str]:
    """The images that go with these containers, each once: those in use, and those of the compose file."""
    used = [str(each.container.spec.image) for each in found]
    if project is None:
        return list(dict.fromkeys(used))
    named = {str(service.get("image") or "") for service in (project.services | project.dormant).values()}
    mine = [image_names.name_of(project, each) for each in project.services]
    return [each for each in dict.fromkeys([*used, *mine]) if not (local and each in named)]


def _remove_image(engine: Engine, image: str, report: Report) -> None:
    if not engine.has_image(image):
        return
    report.step("Image", image, "Removing")
    try:
        engine.rmi(image)
    except MinidockError as error:
        report.step("Image", image, f"Kept: {error.message}")
    else:
        report.step("Image", image, "Removed")
