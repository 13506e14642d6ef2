"""``minidock compose``: the flags that all its verbs share, and the way to each verb."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from minidock.cli import flags
from minidock.cli.context import Context, say, width
from minidock.cli.flags import Action, Command, Flag, Values, repeated
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.compose.members import Member
    from minidock.compose.model import Project
    from minidock.compose.progress import Report
    from minidock.compose.project import Asked

# verb of compose -> the module of minidock.cli that defines it
VERBS = {
    **dict.fromkeys(("up", "create", "scale", "down", "run", "build", "pull", "push"), "compose_making"),
    **dict.fromkeys(
        ("start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm", "exec", "cp"), "compose_living"
    ),
    **dict.fromkeys(
        ("ps", "logs", "top", "stats", "events", "images", "volumes", "port", "ls"), "compose_looking"
    ),
    **dict.fromkeys(("config", "convert", "version"), "compose_config"),
}
# Verbs of docker compose that need more than an engine on one machine, or another tool.
_MISSING = ("attach", "bridge", "commit", "export", "publish", "watch")

FLAGS = (
    repeated("file", "f", "Compose configuration files"),
    Flag("project-name", "p", help="Project name"),
    Flag("project-directory", help="Working directory (default: that of the first compose file)"),
    repeated("profile", help="Specify a profile to enable"),
    repeated("env-file", help="Specify an alternate environment file"),
    Flag("ansi", help="Control colours: auto, never, always", default="auto"),
    Flag("progress", help="Progress output: auto, plain, quiet", default="auto"),
)


class Session(Context):
    """A context that knows which project is meant. The files are read when somebody asks for them."""

    def __init__(self, context: Context, values: Values) -> None:
        self.__dict__.update(context.__dict__)
        self.values = values
        self._warned = set[str]()

    @property
    def asked(self) -> Asked:
        from minidock.compose.project import Asked

        return Asked(
            self.values["file"],
            self.values["project-name"] or "",
            self.values["profile"],
            self.values["env-file"],
            self.values["project-directory"] or "",
        )

    def warn(self, text: str) -> None:
        """Once is enough, also when the files are read twice."""
        if text not in self._warned:
            self._warned.add(text)
            say(f"WARNING: {text}")

    def project(self, wanted: Sequence[str] = (), *, resolve: bool = True) -> Project:
        """The project of the compose files; *wanted* are services that the command names."""
        from minidock.compose import project

        return project.load(self.asked, self.warn, wanted=wanted, resolve=resolve)

    def known(self, services: Sequence[str] = ()) -> Project | None:
        """The project, or None when only its name is known: its containers tell the rest."""
        asked = self.asked
        named = asked.name or os.environ.get("COMPOSE_PROJECT_NAME")
        try:
            found = self.project(services, resolve=False)
        except MinidockError as error:
            if named and not asked.files and error.message.startswith("no compose file"):
                return None
            raise
        for name in services:
            if name not in found.dormant:
                found.service(name)
        return found

    def name(self, services: Sequence[str] = ()) -> str:
        """The project's name; *services* are checked when the files are there."""
        found = self.known(services)
        return found.name if found else self.asked.name or os.environ["COMPOSE_PROJECT_NAME"]

    def members(self, services: Sequence[str] = (), *, oneoff: bool | None = False) -> list[Member]:
        """The containers of the project, or of some of its services."""
        from minidock.compose import members

        return members.find(self.engine, self.name(services), services, oneoff=oneoff)

    def report(self, *, quiet: bool = False, quiet_pull: bool = False) -> Report:
        """Where progress goes."""
        from minidock.compose.progress import Report

        quiet = quiet or self.values["progress"] == "quiet"
        return Report(sys.stderr, quiet, lambda: self._pulling(quiet or quiet_pull), lambda: _building(quiet))

    def _pulling(self, quiet: bool) -> AbstractContextManager[Any]:
        from minidock.cli import progress

        return progress.showing(quiet, sys.stderr)

    def colours(self, wanted: bool = True) -> bool:
        """Whether names of services are painted."""
        kind = self.values["ansi"]
        return wanted and (kind == "always" or (kind == "auto" and sys.stdout.isatty()))


class _Building:
    """Shows one build on standard error."""

    def __init__(self, quiet: bool) -> None:
        from minidock import build_page

        self._page = build_page.Page(sys.stderr.buffer.write, say, quiet=quiet, colours=sys.stderr.isatty())

    def __enter__(self) -> Callable[[Any], None]:
        return self._page.show

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._page.failed()


def _building(quiet: bool) -> AbstractContextManager[Any]:
    return _Building(quiet)


def verb(
    usage: str,
    summary: str,
    action: Callable[[Session, Values, list[str]], int],
    own: Sequence[Flag] = (),
    **more: Any,
) -> Command:
    """A verb of compose: its action gets a Session."""
    return Command(f"compose {usage}", summary, cast(Action, action), own, **more)


def compose(context: Context, values: Values, arguments: list[str]) -> int:
    """Find the verb and do it."""
    if values["ansi"] not in ("auto", "never", "always"):
        raise flags.UsageError(f"invalid value {values['ansi']!r} for --ansi", hint="auto, never or always.")
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print(overview(), end="")
        return 0
    name, *words = arguments
    command = load(name)
    try:
        own, rest = flags.parse(words, command.flags, interspersed=command.interspersed)
        if own["help"]:
            print(flags.help_text(command, width()), end="")
            return 0
        flags.check_count(command, rest)
        return command.action(Session(context, values), own, rest)
    except flags.UsageError as error:
        error.hint = error.hint or f"See 'minidock compose {name} --help'."
        raise


def load(name: str) -> Command:
    """The command of one verb. Raises MinidockError for one that is unknown."""
    if name in VERBS:
        module = importlib.import_module(f"minidock.cli.{VERBS[name]}")
        return cast(Command, module.COMMANDS[name])
    if name in _MISSING:
        raise MinidockError(f"'compose {name}' is not in minidock.", exit_code=1)
    close = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    raise MinidockError(
        f"'compose {name}' is not a minidock command.",
        hint=f"{hint}See 'minidock compose --help'.",
        exit_code=1,
    )


def overview() -> str:
    """The page of ``minidock compose --help``."""
    lines = [f"  {name:<10} {load(name).summary}" for name in sorted(VERBS)]
    page = flags.help_text(COMMANDS["compose"], width())
    return page + "\nCommands:\n" + "\n".join(lines) + "\n"


COMMANDS = {
    "compose": Command(
        "compose [OPTIONS] COMMAND",
        "Define and run several containers with one file",
        compose,
        FLAGS,
        interspersed=False,
    )
}
