"""`compose run`: a container of a service for one command."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minidock.compose import grants, images, labels, options, resources, starting, support, up
from minidock.compose.creating import Maker
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import Map

if TYPE_CHECKING:
    from minidock.engine import Engine


@dataclass(slots=True)
class Run:
    """What the flags of `run` ask for; *changes* are options of ``engine.create``."""

    command: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    service_ports: bool = False
    use_aliases: bool = False
    alone: bool = False  # --no-deps
    remove_orphans: bool = False
    build: bool = False
    pull: str = ""


def make(engine: Engine, project: Project, name: str, report: Report, run: Run) -> str:
    """Start what the service needs, and make the container: its id. It does not run yet."""
    service = project.service(name)
    plan = up.Plan(build=True if run.build else None, pull=run.pull, remove_orphans=run.remove_orphans)
    needed = [] if run.alone else list(service.get("depends_on") or {})
    if needed:
        chosen, maker = up.make(engine, project, needed, report, plan)
        up.start(engine, project, chosen, maker, report)
        for other, condition in (service.get("depends_on") or Map()).items():
            starting.await_condition(engine, project, name, other, condition, report)
    else:
        maker = Maker(engine, project, report, plan.wish)
    support.check(project, [name], report.warn)
    images.make_ready(engine, project, [name], report, build=plan.build, pull=plan.pull)
    resources.make(engine, project, [name], report)
    slug = os.urandom(6).hex()
    own_name = run.name or f"{project.name}-{name}-run-{slug}"
    asked = options.of(project, name, maker.first, own_name="" if run.use_aliases else own_name)
    for key in ("restart", "interactive", "tty"):
        asked.pop(key, None)
    if not run.service_ports:
        asked.pop("publish", None)
    asked["mount"] = [*(asked.get("mount") or []), *grants.mounts(project, service)]
    for key, value in run.changes.items():
        asked[key] = (
            [*(asked.get(key) or []), *value] if isinstance(value, list) and key != "entrypoint" else value
        )
    asked["env"] = list({entry.partition("=")[0]: entry for entry in asked.get("env") or []}.values())
    image = images.name_of(project, name)
    own = {key: value or "" for key, value in (service.get("labels") or {}).items()}
    known = labels.of_container(project, name, 1, engine.image(image).id, oneoff=True)
    command = run.command or (None if "entrypoint" in run.changes else options.command(service))
    container = engine.create(
        image,
        command,
        pull="never",
        name=own_name,
        label={**own, **run.labels, **known, labels.SLUG: slug},
        **asked,
    )
    try:
        grants.write(engine, project, service, container.id)
    except BaseException:
        engine.rm(container.id, force=True, volumes=True)
        raise
    return str(container.id)
