"""Starting in order: a container starts when those that it depends on are as far as it wants them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from minidock.compose import members, order
from minidock.compose.members import Member
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError, Map
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.engine import Engine

Started = Callable[[Member], object]


def start(
    engine: Engine,
    project: Project,
    names: list[str],
    report: Report,
    *,
    restart: Collection[str] = (),
    on_start: Started = lambda _: None,
) -> None:
    """Start the containers of the services *names*, each after its dependencies.

    Those of the services *restart* are started again if they run. *on_start* is told of each that runs.
    """

    def begin(name: str) -> None:
        for other, condition in (project.services[name].get("depends_on") or Map()).items():
            await_condition(engine, project, name, other, condition, report)
        for member in members.find(engine, project.name, [name]):
            again = name in restart and member.running
            if member.running and not again:
                report.step("Container", member.name, "Running")
            else:
                report.step("Container", member.name, "Restarting" if again else "Starting")
                if again:
                    engine.restart(member.id)
                else:
                    engine.start(member.id)
                report.step("Container", member.name, "Started")
            on_start(member)

    order.run(project.needs(names), begin)


def await_condition(
    engine: Engine, project: Project, name: str, other: str, condition: Map, report: Report
) -> None:
    """Wait until *other* is as far as *name* wants it. Raises ComposeError when it never will be."""
    found = members.find(engine, project.name, [other])
    wanted = condition["condition"]
    if not found:
        if wanted == "service_started" or condition.get("required") is False:
            return
        raise ComposeError(f'services.{name}: "{other}", which it depends on, has no container')
    for member in found:
        try:
            if wanted == "service_healthy":
                report.step("Container", member.name, "Waiting")
                await_health(engine, member)
                report.step("Container", member.name, "Healthy")
            elif wanted == "service_completed_successfully":
                report.step("Container", member.name, "Waiting")
                code = engine.wait(member.id)
                if code != 0:
                    raise ComposeError(
                        f'services.{name}: "{other}" did not complete successfully: exit code {code}',
                        hint=f"minidock compose logs {other}",
                    )
                report.step("Container", member.name, "Exited")
        except MinidockError as error:
            if condition.get("required") is not False:
                raise
            report.warn(f"{error.message} (it is not required)")


def await_health(engine: Engine, member: Member, *, or_running: bool = False) -> None:
    """Wait until a container is healthy. Raises ComposeError when it is unhealthy, or has ended.

    With *or_running* one without a health check needs only to run.
    """
    since = f"{time.time():.9f}"
    if _is_healthy(member, or_running):
        return
    chosen = {"container": [member.id], "event": ["health_status", "die", "destroy"]}
    for event in engine.events(since=since, filters=chosen):
        # Whoever dies says so with its last breath: for a moment it still counts as running.
        if not event["Action"].startswith("health_status"):
            if member.container.spec.restart_policy in ("", "no") or event["Action"] == "destroy":
                code = event["Actor"]["Attributes"].get("exitCode", "?")
                raise _ended(member, code)
        elif _is_healthy(member, or_running):
            return


def _is_healthy(member: Member, or_running: bool) -> bool:
    container = member.container
    check = container.spec.health_check.get("Test") or ["NONE"]
    if not container.running():
        raise _ended(member, container.state().exit_code)
    if check == ["NONE"]:
        if or_running:
            return True
        raise ComposeError(
            f"container {member.name} has no healthcheck",
            hint="service_healthy needs one in the file or the image.",
        )
    status = health_of(container)
    if status == "unhealthy":
        raise ComposeError(
            f"container {member.name} is unhealthy", hint=f"minidock inspect {member.name}: State.Health.Log"
        )
    return status == "healthy"


def _ended(member: Member, code: object) -> ComposeError:
    return ComposeError(
        f"container {member.name} has ended (exit code {code})", hint=f"minidock logs {member.name}"
    )


def health_of(container: Any) -> str:
    """starting, healthy or unhealthy; empty without a health check."""
    return str(container.state().health.get("Status", "")) if container.running() else ""
