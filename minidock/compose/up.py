"""`compose up`: images, networks, volumes, containers, start; and in the foreground stay with them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minidock.compose import creating, down, images, members, order, resources, starting, support
from minidock.compose.creating import Maker, Wish
from minidock.compose.following import Audience, Page, short_name
from minidock.compose.members import Member
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError

if TYPE_CHECKING:
    from minidock.engine import Engine


@dataclass(slots=True)
class Plan:
    """What the flags of `up` and `create` ask for."""

    wish: Wish = field(default_factory=Wish)
    build: bool | None = None
    pull: str = ""
    alone: bool = False  # --no-deps
    remove_orphans: bool = False
    abort: bool = False  # --abort-on-container-exit
    exit_code_from: str = ""


def make(
    engine: Engine, project: Project, names: list[str], report: Report, plan: Plan
) -> tuple[list[str], Maker]:
    """Make everything but start nothing: (the services with all that they need, who made them)."""
    needs = project.needs()
    chosen = [name for name in needs if name in names] if plan.alone else order.with_needed(names, needs)
    support.check(project, chosen, report.warn)
    maker = Maker(engine, project, report, plan.wish)
    needed = [name for name in chosen if maker.scale_of(name) > 0]
    images.make_ready(engine, project, needed, report, build=plan.build, pull=plan.pull)
    resources.make(engine, project, chosen, report, anew=chosen)
    orphans(engine, project, report, remove=plan.remove_orphans)
    for name in set(chosen) - set(needed):
        for member in members.find(engine, project.name, [name]):
            creating.remove(engine, member, report, plan.wish.timeout)
    maker.make([name for name in chosen if name in needed])
    return [name for name in chosen if name in needed], maker


def orphans(engine: Engine, project: Project, report: Report, *, remove: bool) -> None:
    """Containers of services that the files do not have any more."""
    known = {*project.services, *project.dormant}
    found = [each for each in members.find(engine, project.name) if each.service not in known]
    if remove:
        order.at_once([_remover(engine, each, report) for each in found])
    elif found:
        names = ", ".join(each.name for each in found)
        report.warn(f"orphan containers of this project: {names} (--remove-orphans removes them)")


def _remover(engine: Engine, member: Member, report: Report) -> Callable[[], None]:
    return lambda: creating.remove(engine, member, report, None)


def start(
    engine: Engine,
    project: Project,
    names: list[str],
    maker: Maker,
    report: Report,
    on_start: starting.Started = lambda _: None,
) -> None:
    """Start them; those whose dependency was made anew, and who said so, are restarted."""
    restart = {
        name
        for name in names
        for other, condition in (project.services[name].get("depends_on") or {}).items()
        if other in maker.renewed and condition.get("restart")
    }
    starting.start(engine, project, names, report, restart=restart, on_start=on_start)


def wait_healthy(engine: Engine, project: Project, names: list[str], report: Report) -> None:
    """`up --wait`: until everything runs, and what has a health check is healthy."""
    found = members.find(engine, project.name, names)

    def one(member: Member) -> None:
        report.step("Container", member.name, "Waiting")
        starting.await_health(engine, member, or_running=True)
        report.step("Container", member.name, "Healthy")

    order.at_once([_bound(one, member) for member in found])


def _bound(action: Callable[[Member], None], member: Member) -> Callable[[], None]:
    return lambda: action(member)


def foreground(
    engine: Engine, project: Project, names: list[str], maker: Maker, report: Report, plan: Plan, page: Page
) -> int:
    """Start, show what the containers write, until all have ended or Ctrl-C; the exit code of `up`."""
    if plan.exit_code_from:
        project.service(plan.exit_code_from)
    silent = [name for name in names if project.services[name].get("attach") is False]
    found = members.find(engine, project.name, names)
    page.expect(short_name(each) for each in found)
    audience = Audience(engine, page, silent=silent)
    ended: dict[str, int] = {}
    awaited = _awaited(project)
    with _terminated():
        try:
            start(engine, project, names, maker, report, audience.watch)
            while len(ended) < len(audience.watched):
                member, code = audience.ends.get()
                ended[member.id] = code
                if (plan.abort or plan.exit_code_from) and not (code == 0 and member.service in awaited):
                    print("Aborting on container exit...", file=sys.stderr, flush=True)
                    _stop(engine, project, report, plan.wish.timeout)
                    _hear(audience, ended)
                    return _chosen_code(engine, project, plan, code)
        except KeyboardInterrupt:
            print("Gracefully stopping... (press Ctrl+C again to force)", file=sys.stderr, flush=True)
            try:
                _stop(engine, project, report, plan.wish.timeout)
                _hear(audience, ended)
            except KeyboardInterrupt:
                down.kill(engine, members.find(engine, project.name), "SIGKILL", report)
            return 130
    return 0


def _awaited(project: Project) -> set[str]:
    """The services that are meant to end: others wait for that."""
    return {
        other
        for service in project.services.values()
        for other, condition in (service.get("depends_on") or {}).items()
        if condition["condition"] == "service_completed_successfully"
    }


def _stop(engine: Engine, project: Project, report: Report, timeout: int | None) -> None:
    down.stop(engine, members.find(engine, project.name), report, timeout)


def _hear(audience: Audience, ended: dict[str, int]) -> None:
    """The last words of those that were just stopped."""
    while len(ended) < len(audience.watched):
        member, code = audience.ends.get()
        ended[member.id] = code


def _chosen_code(engine: Engine, project: Project, plan: Plan, first: int) -> int:
    if not plan.exit_code_from:
        return first
    found = members.find(engine, project.name, [plan.exit_code_from])
    if not found:
        raise ComposeError(f"--exit-code-from {plan.exit_code_from}: it has no container")
    return int(engine.wait(found[0].id))


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """`kill PID` means the same as Ctrl-C: whoever stops compose wants the services to stop."""

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
