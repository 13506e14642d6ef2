"""The containers of a project, found by their labels: whether or not its files are at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minidock.compose import labels
from minidock.compose.reading import ComposeError

if TYPE_CHECKING:
    from minidock.engine import Engine


@dataclass(slots=True)
class Member:
    """One container. *container* is the engine's; *number* counts those of its service from 1."""

    container: Any
    service: str
    number: int
    oneoff: bool

    @property
    def id(self) -> str:
        return str(self.container.id)

    @property
    def name(self) -> str:
        return str(self.container.spec.name)

    @property
    def label(self) -> dict[str, str]:
        found: dict[str, str] = self.container.spec.labels
        return found

    @property
    def running(self) -> bool:
        return bool(self.container.running())

    @property
    def needs(self) -> set[str]:
        """The services that this one depends on, as its labels say."""
        return {part.partition(":")[0] for part in self.label.get(labels.DEPENDS_ON, "").split(",") if part}


def find(
    engine: Engine, project: str, services: Collection[str] = (), *, oneoff: bool | None = False
) -> list[Member]:
    """The containers of *project* by service and number; *oneoff* False: no `run`s, True: only, None: all."""
    found = []
    for container in engine.containers({"label": [f"{labels.PROJECT}={project}"]}):
        known = container.spec.labels
        member = Member(
            container,
            known.get(labels.SERVICE, ""),
            int(known.get(labels.NUMBER, "0") or 0),
            known.get(labels.ONEOFF, "False").lower() == "true",
        )
        if (not services or member.service in services) and oneoff in (None, member.oneoff):
            found.append(member)
    return sorted(found, key=lambda each: (each.service, each.oneoff, each.number, each.name))


def one(engine: Engine, project: str, service: str, index: int = 0) -> Member:
    """The container of *service* with this number (0: the first that runs). Raises ComposeError."""
    found = find(engine, project, [service])
    running = [each for each in found if each.running]
    if index:
        chosen = [each for each in found if each.number == index]
        if not chosen:
            raise ComposeError(f'service "{service}" has no container {index}')
        return chosen[0]
    if not running:
        raise ComposeError(f'service "{service}" is not running', hint=f"minidock compose up -d {service}")
    return running[0]


def needs(members: Iterable[Member]) -> dict[str, set[str]]:
    """Which service needs which, as the labels of the containers say."""
    found: dict[str, set[str]] = {}
    for member in members:
        found.setdefault(member.service, set()).update(member.needs)
    return found


def projects(engine: Engine) -> dict[str, list[Member]]:
    """All projects under this root, with their containers."""
    names = {
        container.spec.labels[labels.PROJECT] for container in engine.containers({"label": [labels.PROJECT]})
    }
    return {name: find(engine, name) for name in sorted(names)}
