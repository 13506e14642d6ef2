"""``minidock compose start stop restart kill pause unpause wait rm exec cp``: with containers that exist."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from minidock import notation
from minidock.cli import cp as files
from minidock.cli.compose import Session, verb
from minidock.cli.compose_making import TIMEOUT
from minidock.cli.context import confirmed
from minidock.cli.flags import Flag, UsageError, Values, boolean, integer, repeated
from minidock.cli.streams import terminal_streams
from minidock.compose import down, members
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.compose.members import Member


def start(session: Session, values: Values, services: list[str]) -> int:
    """Start containers that exist, in the order of their dependencies."""
    found = session.members(services)
    _some(found, services)
    _each(session, [each for each in found if not each.running], session.engine.start, "Starting", "Started")
    return 0


def _some(found: list[Member], services: list[str]) -> None:
    for name in services:
        if not any(each.service == name for each in found):
            raise MinidockError(f'service "{name}" has no container', hint=f"minidock compose up -d {name}")


def _each(
    session: Session,
    found: list[Member],
    action: Callable[[str], object],
    doing: str,
    done: str,
    backwards: bool = False,
) -> None:
    report = session.report()

    def one(member: Member) -> None:
        report.step("Container", member.name, doing)
        action(member.id)
        report.step("Container", member.name, done)

    down.in_order(found, one, backwards=backwards)


def stop(session: Session, values: Values, services: list[str]) -> int:
    """Stop containers; those that need others come first."""
    down.stop(session.engine, session.members(services), session.report(), values["timeout"])
    return 0


def restart(session: Session, values: Values, services: list[str]) -> int:
    """Stop and start again."""

    def again(name: str) -> None:
        session.engine.restart(name, timeout=values["timeout"])

    _each(session, session.members(services), again, "Restarting", "Started")
    return 0


def kill(session: Session, values: Values, services: list[str]) -> int:
    """Send a signal."""
    down.kill(session.engine, session.members(services), values["signal"], session.report())
    return 0


def pause(session: Session, values: Values, services: list[str]) -> int:
    """Freeze."""
    found = [each for each in session.members(services) if each.container.status() == "running"]
    _each(session, found, session.engine.pause, "Pausing", "Paused", backwards=True)
    return 0


def unpause(session: Session, values: Values, services: list[str]) -> int:
    """Let go on."""
    found = [each for each in session.members(services) if each.container.status() == "paused"]
    _each(session, found, session.engine.unpause, "Unpausing", "Unpaused")
    return 0


def rm(session: Session, values: Values, services: list[str]) -> int:
    """Remove stopped containers; with -s stop them first."""
    found = session.members(services, oneoff=None)
    if not values["stop"]:
        found = [each for each in found if not each.running]
    if not found:
        print("No stopped containers", file=sys.stderr)
        return 0
    names = ", ".join(each.name for each in found)
    if confirmed(f"Going to remove {names}", values["force"]):
        down.remove(session.engine, found, session.report(), volumes=values["volumes"])
    return 0


def wait(session: Session, values: Values, services: list[str]) -> int:
    """Wait until they have ended; the exit code of the last. With --down-project the first ends all."""
    found = session.members(services, oneoff=None)
    _some(found, services)
    ends: queue.Queue[tuple[Member, int]] = queue.Queue()
    for each in found:
        threading.Thread(target=_await, args=(session, each, ends), daemon=True).start()
    code = 0
    for _ in found:
        member, code = ends.get()
        print(f"exited with status code {code}: {member.name}", flush=True)
        if values["down-project"]:
            down.down(session.engine, session.name(), session.report())
            break
    return code


def _await(session: Session, member: Member, ends: queue.Queue[tuple[Member, int]]) -> None:
    try:
        ends.put((member, session.engine.wait(member.id)))
    except MinidockError:  # removed meanwhile
        ends.put((member, 0))


def exec_(session: Session, values: Values, arguments: list[str]) -> int:
    """Run a command in a running container of a service."""
    name, *command = arguments
    project = session.name([name])
    member = members.one(session.engine, project, name, values["index"] or 0)
    environment = [entry for text in values["env"] if (entry := notation.variable(text)) is not None]
    tty = not values["no-tty"] and not values["detach"] and os.isatty(0) and os.isatty(1)
    use = terminal_streams({}, stdin=values["interactive"] and not values["detach"], tty=tty)
    use.forward_signals = tty
    code = session.engine.exec_attached(
        member.id,
        command,
        None if values["detach"] else use,
        env=environment,
        user=values["user"] or "",
        cwd=values["workdir"] or "",
        tty=tty,
        detach=values["detach"],
        privileged=values["privileged"],
    )
    return max(code, 0)


def cp(session: Session, values: Values, arguments: list[str]) -> int:
    """Copy files between a service's container and the host."""
    named = [files.split(text)[0] for text in arguments]
    if all(named) or not any(named):
        raise UsageError("one of the two must be SERVICE:PATH, the other a local path", exit_code=1)
    service = named[0] or named[1]
    project = session.name([service])
    index = values["index"] or 0
    chosen = members.find(session.engine, project, [service])
    chosen = [each for each in chosen if index in (0, each.number)]
    if not chosen:
        raise MinidockError(
            f'service "{service}" has no such container', hint=f"minidock compose up -d {service}"
        )
    if index or named[0]:  # out of one of them
        chosen = chosen[:1]
    for member in chosen:
        places = [
            f"{member.id}:{text.partition(':')[2]}" if name else text
            for text, name in zip(arguments, named, strict=True)
        ]
        files.cp(session, values, places)
    return 0


_INDEX = Flag("index", "", "int", "Number of the container, if the service has several", None, integer)

COMMANDS = {
    "start": verb("start [SERVICE...]", "Start containers that exist", start),
    "stop": verb("stop [OPTIONS] [SERVICE...]", "Stop containers", stop, (TIMEOUT,)),
    "restart": verb("restart [OPTIONS] [SERVICE...]", "Restart containers", restart, (TIMEOUT,)),
    "kill": verb(
        "kill [OPTIONS] [SERVICE...]",
        "Force containers to stop",
        kill,
        (Flag("signal", "s", help="Signal to send", default="SIGKILL", convert=notation.signal_name),),
    ),
    "pause": verb("pause [SERVICE...]", "Pause containers", pause),
    "unpause": verb("unpause [SERVICE...]", "Unpause containers", unpause),
    "rm": verb(
        "rm [OPTIONS] [SERVICE...]",
        "Remove stopped containers",
        rm,
        (
            boolean("force", "f", "Don't ask to confirm removal"),
            boolean("stop", "s", "Stop the containers first, if required"),
            boolean("volumes", "v", "Remove their anonymous volumes too"),
        ),
    ),
    "wait": verb(
        "wait SERVICE [SERVICE...] [OPTIONS]",
        "Wait until containers have ended",
        wait,
        (boolean("down-project", help="Remove the project when the first of them has ended"),),
        least=1,
    ),
    "exec": verb(
        "exec [OPTIONS] SERVICE COMMAND [ARG...]",
        "Execute a command in a running container",
        exec_,
        (
            boolean("detach", "d", "Run the command in the background"),
            repeated("env", "e", "Set environment variables"),
            _INDEX,
            boolean("interactive", "i", "Keep STDIN open", default=True),
            boolean("no-tty", "T", "Don't allocate a pseudo-TTY (there is one only for a terminal)"),
            boolean("privileged", help="Give extended privileges to the process"),
            Flag("user", "u", help="Run the command as this user"),
            Flag("workdir", "w", help="Working directory of the command"),
        ),
        least=2,
        interspersed=False,
    ),
    "cp": verb(
        "cp [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n"
        "        minidock compose cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
        "Copy files between a service's containers and the host",
        cp,
        (
            boolean("archive", "a", "Archive mode (copy all uid/gid information)"),
            boolean("follow-link", "L", "Always follow symbol link in SRC_PATH"),
            _INDEX,
            boolean("quiet", "q", "Suppress progress output during copy"),
        ),
        least=2,
        most=2,
    ),
}
