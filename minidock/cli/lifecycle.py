"""``minidock start stop restart kill rm wait pause unpause rename``: a container's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidock.cli.context import Context, each
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, integer
from minidock.cli.run_options import FLAGS

TIME = Flag("timeout", "t", "int", "Seconds to wait before killing the container", None, integer)
SIGNAL = Flag("signal", "s", "string", "Signal to send to the container")


def start(context: Context, values: Values, arguments: list[str]) -> int:
    """Start stopped containers; with -a or -i show one."""
    engine = context.engine
    if not (values["attach"] or values["interactive"]):

        def begin(name: str) -> str:
            engine.start(name)
            return name

        return each(arguments, begin)
    if len(arguments) > 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    from minidock.cli.streams import terminal_streams

    spec = engine.container(arguments[0]).spec
    stdin = values["interactive"] and spec.open_stdin
    use = terminal_streams(values, stdin=stdin, tty=spec.tty)
    return max(engine.start(arguments[0], attach=use) or 0, 0)


def _verb(method: str, *keys: str) -> Callable[[Context, Values, list[str]], int]:
    """A command that does *method* of the engine to each container and prints its name."""

    def act(context: Context, values: Values, arguments: list[str]) -> int:
        options = {key: values[key] for key in keys if values[key] is not None}

        def one(name: str) -> str:
            getattr(context.engine, method)(name, **options)
            return name

        return each(arguments, one)

    return act


def rm(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove containers."""

    def remove(name: str) -> str:
        if values["link"]:
            context.engine.unlink(name)
            return name
        context.engine.rm(name, force=values["force"], volumes=values["volumes"])
        return name

    if values["force"]:  # as with `rm -f`, what is not there is no failure
        arguments = [name for name in arguments if _exists(context, name)]
    return each(arguments, remove)


def _exists(context: Context, name: str) -> bool:
    from minidock.cli.context import report
    from minidock.errors import NotFound

    try:
        context.engine.container(name)
    except NotFound as error:
        report(error)
        return False
    return True


def wait(context: Context, values: Values, arguments: list[str]) -> int:
    """Block until containers stop, then print their exit codes."""
    return each(arguments, lambda name: str(context.engine.wait(name)))


def rename(context: Context, values: Values, arguments: list[str]) -> int:
    context.engine.rename(*arguments)
    return 0


def update(context: Context, values: Values, arguments: list[str]) -> int:
    """Change the limits of containers, and their restart policy."""
    options = {flag.name.replace("-", "_"): values[flag.name] for flag in LIMITS}

    def change(name: str) -> str:
        context.engine.update(name, restart=values["restart"], **options)
        return name

    return each(arguments, change)


def resume(context: Context, values: Values, arguments: list[str]) -> int:
    """Start what the restart policies want running."""
    from minidock.cli.context import report

    started, failed = context.engine.resume()
    for name in started:
        print(name)
    for error in failed:
        report(error)
    return 1 if failed else 0


_LIMIT_NAMES = (
    *("cpu-period", "cpu-quota", "cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems"),
    *("memory", "memory-reservation", "memory-swap", "pids-limit"),
)
LIMITS = tuple(flag for flag in FLAGS if flag.name in _LIMIT_NAMES)


def _several(verb: str, summary: str, action: Any, *flags: Flag) -> Command:
    return Command(f"{verb} [OPTIONS] CONTAINER [CONTAINER...]", summary, action, flags, least=1)


COMMANDS = {
    "start": _several(
        "start",
        "Start one or more stopped containers",
        start,
        boolean("attach", "a", "Attach STDOUT/STDERR and forward signals"),
        Flag("detach-keys", help="Override the key sequence for detaching a container"),
        boolean("interactive", "i", "Attach container's STDIN"),
        boolean("sig-proxy", help="Proxy received signals to the process", default=True),
    ),
    "stop": _several(
        "stop", "Stop one or more running containers", _verb("stop", "signal", "timeout"), SIGNAL, TIME
    ),
    "restart": _several(
        "restart", "Restart one or more containers", _verb("restart", "signal", "timeout"), SIGNAL, TIME
    ),
    "kill": _several("kill", "Kill one or more running containers", _verb("kill", "signal"), SIGNAL),
    "pause": _several("pause", "Pause all processes within one or more containers", _verb("pause")),
    "unpause": _several("unpause", "Unpause all processes within one or more containers", _verb("unpause")),
    "rm": _several(
        "rm",
        "Remove one or more containers",
        rm,
        boolean("force", "f", "Force the removal of a running container (uses SIGKILL)"),
        boolean("link", "l", "Remove the specified link"),
        boolean("volumes", "v", "Remove anonymous volumes associated with the container"),
    ),
    "update": _several(
        "update",
        "Update configuration of one or more containers",
        update,
        *LIMITS,
        Flag("restart", help="Restart policy to apply when a container exits"),
    ),
    "resume": Command(
        "resume",
        "Start the containers whose restart policy wants them running (at boot, a service does this)",
        resume,
        most=0,
    ),
    "wait": _several("wait", "Block until one or more containers stop, then print their exit codes", wait),
    "rename": Command("rename CONTAINER NEW_NAME", "Rename a container", rename, least=2, most=2),
}
