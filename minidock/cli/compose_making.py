"""``minidock compose up create scale down run build pull push``: what makes and removes."""

from __future__ import annotations

import os
import sys
from typing import Any

from minidock import notation
from minidock.cli.compose import Session, verb
from minidock.cli.flags import Flag, UsageError, Values, boolean, integer, repeated
from minidock.compose import down as ending
from minidock.compose import images, oneoff, order, support, up
from minidock.compose.creating import Wish
from minidock.compose.following import Page
from minidock.compose.up import Plan
from minidock.engine import streams
from minidock.errors import MinidockError


def up_(session: Session, values: Values, services: list[str]) -> int:
    """Make and start everything; without -d stay with it."""
    detached = values["detach"] or values["wait"] or values["no-start"]
    for flag in ("abort-on-container-exit", "exit-code-from"):
        if detached and values[flag]:
            raise UsageError(f"--{flag} and --detach are incompatible", exit_code=1)
    project = session.project(services)
    plan, report = _plan(values), session.report(quiet_pull=values["quiet-pull"])
    for name in plan.wish.scale:
        project.service(name)
    chosen, maker = up.make(session.engine, project, project.chosen(services), report, plan)
    if values["no-start"]:
        return 0
    if not detached:
        page = Page(
            sys.stdout,
            prefix=not values["no-log-prefix"],
            colours=session.colours(not values["no-color"]),
            timestamps=values["timestamps"],
        )
        return up.foreground(session.engine, project, chosen, maker, report, plan, page)
    up.start(session.engine, project, chosen, maker, report)
    if values["wait"]:
        up.wait_healthy(session.engine, project, chosen, report)
    return 0


def create(session: Session, values: Values, services: list[str]) -> int:
    """Make everything, start nothing."""
    project = session.project(services)
    report = session.report()
    up.make(session.engine, project, project.chosen(services), report, _plan(values))
    return 0


def scale(session: Session, values: Values, arguments: list[str]) -> int:
    """Bring services to a number of containers; the others stay as they are."""
    wanted = dict(map(_scale, arguments))
    project, report = session.project(list(wanted)), session.report()
    plan = Plan(Wish(scale=wanted), alone=values["no-deps"])
    chosen, maker = up.make(session.engine, project, project.chosen(wanted), report, plan)
    up.start(session.engine, project, chosen, maker, report)
    return 0


def _plan(values: Values) -> Plan:
    if values["force-recreate"] and values["no-recreate"]:
        raise UsageError("--force-recreate and --no-recreate are incompatible", exit_code=1)
    if values["build"] and values["no-build"]:
        raise UsageError("--build and --no-build are incompatible", exit_code=1)
    pull = values["pull"] or ""
    if pull not in ("", "always", "missing", "never", "policy", "build"):
        raise UsageError(
            f"invalid --pull option {pull!r}", hint="always, missing, never or policy.", exit_code=1
        )
    wish = Wish(
        force=values["force-recreate"],
        keep=values["no-recreate"],
        fresh_volumes=bool(values.get("renew-anon-volumes")),
        scale=dict(map(_scale, values["scale"])),
        timeout=values.get("timeout"),
    )
    return Plan(
        wish,
        build=True if values["build"] or pull == "build" else False if values["no-build"] else None,
        pull="" if pull in ("policy", "build") else pull,
        alone=bool(values.get("no-deps")),
        remove_orphans=values["remove-orphans"],
        abort=bool(values.get("abort-on-container-exit")),
        exit_code_from=values.get("exit-code-from") or "",
    )


def _scale(text: str) -> tuple[str, int]:
    name, equals, count = text.partition("=")
    if not equals or not count.isdecimal():
        raise UsageError(f"invalid scale {text!r}", hint="Write SERVICE=NUMBER.", exit_code=1)
    return name, int(count)


def down(session: Session, values: Values, services: list[str]) -> int:
    """Stop and remove containers and networks, and with -v volumes."""
    if values["rmi"] not in (None, "all", "local"):
        raise UsageError(f"invalid value for --rmi: {values['rmi']!r}", hint="all or local.", exit_code=1)
    project = session.known(services)
    ending.down(
        session.engine,
        project.name if project else session.name(),
        session.report(),
        services=services,
        project=project,
        images=values["rmi"] or "",
        volumes=values["volumes"],
        remove_orphans=values["remove-orphans"],
        timeout=values["timeout"],
    )
    return 0


def run(session: Session, values: Values, arguments: list[str]) -> int:
    """Run one command in a container of a service."""
    name, *command = arguments
    project = session.project([name])
    tty = not values["no-tty"] and not values["detach"] and os.isatty(0) and os.isatty(1)
    interactive = values["interactive"] and not values["detach"]
    changes: dict[str, Any] = {"rm": values["rm"], "tty": tty}
    if interactive:
        changes.update(interactive=True, stdin_once=True)
    environment = [entry for file in values["env-from-file"] for entry in notation.variables_file(file)]
    environment += [entry for text in values["env"] if (entry := notation.variable(text)) is not None]
    for key, value in (
        ("env", environment),
        ("publish", values["publish"]),
        ("volume", values["volume"]),
        ("user", values["user"]),
        ("workdir", values["workdir"]),
        ("cap_add", values["cap-add"]),
        ("cap_drop", values["cap-drop"]),
    ):
        if value:
            changes[key] = value
    if values["entrypoint"] is not None:
        import shlex

        changes["entrypoint"] = shlex.split(values["entrypoint"])
    wish = oneoff.Run(
        command,
        changes,
        values["name"] or "",
        dict(map(notation.assignment, values["label"])),
        values["service-ports"],
        values["use-aliases"],
        values["no-deps"],
        values["remove-orphans"],
        values["build"],
        values["pull"] or "",
    )
    container = oneoff.make(
        session.engine, project, name, session.report(quiet_pull=values["quiet-pull"]), wish
    )
    if values["detach"]:
        session.engine.start(container)
        print(container)
        return 0
    use = streams(stdin=0 if interactive else None, forward_signals=True)
    return max(session.engine.start(container, attach=use) or 0, 0)


def build(session: Session, values: Values, services: list[str]) -> int:
    """Build the images of services."""
    project = session.project(services)
    chosen = project.chosen(services)
    report = session.report(quiet=values["quiet"])
    support.check(project, chosen, report.warn)
    arguments = dict(
        entry.partition("=")[::2] for text in values["build-arg"] if (entry := notation.variable(text))
    )
    if not any(project.services[name].get("build") for name in chosen):
        report.warn("no service here is built")
    images.build_all(
        session.engine,
        project,
        chosen,
        report,
        no_cache=values["no-cache"],
        pull=values["pull"],
        args=arguments,
        memory=values["memory"],
    )
    if values["push"]:
        images.push_all(session.engine, project, chosen, report)
    return 0


def pull(session: Session, values: Values, services: list[str]) -> int:
    """Pull the images of services."""
    project = session.project(services)
    chosen = project.chosen(services)
    if values["include-deps"]:
        chosen = order.with_needed(chosen, project.needs())
    report = session.report(quiet_pull=values["quiet"])
    if values["policy"] not in (None, "always", "missing"):
        raise UsageError(f"invalid --policy {values['policy']!r}", hint="always or missing.", exit_code=1)
    return images.pull_all(
        session.engine,
        project,
        chosen,
        report,
        policy=values["policy"] or "always",
        ignore=values["ignore-pull-failures"],
    )


def push(session: Session, values: Values, services: list[str]) -> int:
    """Push the images of services."""
    project = session.project(services)
    report = session.report(quiet_pull=values["quiet"])
    try:
        images.push_all(session.engine, project, project.chosen(services), report)
    except MinidockError as error:
        if not values["ignore-push-failures"]:
            raise
        report.warn(error.message)
    return 0


TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing a container", None, integer)
_ORPHANS = boolean("remove-orphans", help="Remove containers of services that are not in the file any more")
_QUIET_PULL = boolean("quiet-pull", help="Pull without printing progress information")
_MAKING = (
    boolean("build", help="Build images before starting containers"),
    boolean("force-recreate", help="Recreate containers even if nothing has changed"),
    boolean("no-build", help="Don't build an image, even if it is missing"),
    boolean("no-recreate", help="Keep containers that exist, also where the file has changed"),
    Flag("pull", help="Pull images before running (always, missing, never)"),
    _ORPHANS,
    repeated("scale", help="Scale SERVICE to NUM containers", kind="scale"),
)

COMMANDS = {
    "up": verb(
        "up [OPTIONS] [SERVICE...]",
        "Create and start containers",
        up_,
        (
            *_MAKING,
            boolean("abort-on-container-exit", help="Stop all containers when one has stopped"),
            boolean("detach", "d", "Detached mode: run containers in the background"),
            Flag("exit-code-from", help="Return the exit code of this service"),
            boolean("no-color", help="Produce monochrome output"),
            boolean("no-deps", help="Don't start the services that those need"),
            boolean("no-log-prefix", help="Don't print the names before the lines"),
            boolean("no-start", help="Don't start the services after creating them"),
            _QUIET_PULL,
            boolean(
                "renew-anon-volumes", "V", "New anonymous volumes instead of those of the old containers"
            ),
            TIMEOUT,
            boolean("timestamps", help="Show timestamps"),
            boolean("wait", help="Wait until services run, and are healthy; implies detached mode"),
        ),
    ),
    "create": verb(
        "create [OPTIONS] [SERVICE...]", "Create containers without starting them", create, _MAKING
    ),
    "scale": verb(
        "scale SERVICE=NUMBER...",
        "Change how many containers services have",
        scale,
        (boolean("no-deps", help="Don't start the services that those need"),),
        least=1,
    ),
    "down": verb(
        "down [OPTIONS] [SERVICE...]",
        "Stop and remove containers and networks",
        down,
        (
            _ORPHANS,
            Flag(
                "rmi", help='Remove the images too: "all", or "local" for those without a name of their own'
            ),
            TIMEOUT,
            boolean("volumes", "v", "Remove named volumes, and the anonymous ones of the containers"),
        ),
    ),
    "run": verb(
        "run [OPTIONS] SERVICE [COMMAND] [ARG...]",
        "Run a one-off command in a container of a service",
        run,
        (
            boolean("build", help="Build the image before starting the container"),
            repeated("cap-add", help="Add Linux capabilities"),
            repeated("cap-drop", help="Drop Linux capabilities"),
            boolean("detach", "d", "Run in the background and print the container's id"),
            Flag("entrypoint", help="Override the entrypoint of the image"),
            repeated("env", "e", "Set environment variables"),
            repeated("env-from-file", help="Set environment variables from a file"),
            boolean("interactive", "i", "Keep STDIN open", default=True),
            repeated("label", "l", "Add or override a label"),
            Flag("name", help="Assign a name to the container"),
            boolean("no-deps", help="Don't start the services that it needs"),
            boolean("no-tty", "T", "Don't allocate a pseudo-TTY (there is one only for a terminal)"),
            repeated("publish", "p", "Publish a container's port(s) to the host"),
            Flag("pull", help="Pull images before running (always, missing, never)"),
            _QUIET_PULL,
            _ORPHANS,
            boolean("rm", help="Remove the container when it exits"),
            boolean("service-ports", "P", "Publish the ports of the service"),
            boolean("use-aliases", help="Use the service's network aliases"),
            Flag("user", "u", help="Run as this user name or uid"),
            repeated("volume", "v", "Bind mount a volume"),
            Flag("workdir", "w", help="Working directory inside the container"),
        ),
        least=1,
        interspersed=False,
    ),
    "build": verb(
        "build [OPTIONS] [SERVICE...]",
        "Build or rebuild the images of services",
        build,
        (
            repeated("build-arg", help="Set build-time variables"),
            Flag("memory", "m", "bytes", "Memory limit of the builds", None, notation.size),
            boolean("no-cache", help="Do not use cache when building"),
            boolean("pull", help="Always attempt to pull a newer version of the base images"),
            boolean("push", help="Push the images afterwards"),
            boolean("quiet", "q", "Don't print anything"),
        ),
    ),
    "pull": verb(
        "pull [OPTIONS] [SERVICE...]",
        "Pull the images of services",
        pull,
        (
            boolean("ignore-pull-failures", help="Pull what it can and ignore the rest"),
            boolean("include-deps", help="Also those of services that these need"),
            Flag("policy", help="always or missing"),
            boolean("quiet", "q", "Pull without printing progress information"),
        ),
    ),
    "push": verb(
        "push [OPTIONS] [SERVICE...]",
        "Push the images of services",
        push,
        (
            boolean("ignore-push-failures", help="Push what it can and ignore the rest"),
            boolean("quiet", "q", "Push without printing progress information"),
        ),
    ),
}
