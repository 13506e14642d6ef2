"""``minidock exec``, ``attach``, ``logs``: what goes into a container and comes out of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from minidock import notation
from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, repeated
from minidock.engine import streams
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.engine import Streams

_DETACH_KEYS = "ctrl-p,ctrl-q"


def terminal_streams(values: Values, *, stdin: bool, tty: bool) -> Streams:
    """This process's own streams. Raises MinidockError when a terminal is wanted and input is none."""
    if stdin and tty and not os.isatty(0):
        raise MinidockError("the input device is not a TTY", hint="Leave out -t when input is piped.")
    return streams(
        stdin=0 if stdin else None,
        detach_keys=values.get("detach-keys") or _DETACH_KEYS,
        forward_signals=values.get("sig-proxy", True),
    )


def exec_(context: Context, values: Values, arguments: list[str]) -> int:
    """Run a command in a running container."""
    name, *command = arguments
    environment = [entry for file in values["env-file"] for entry in notation.variables_file(file)]
    environment += [entry for text in values["env"] if (entry := notation.variable(text)) is not None]
    context.engine.container(name)  # "No such container" comes before any other complaint
    tty = values["tty"] and not values["detach"]
    use = terminal_streams(values, stdin=values["interactive"] and not values["detach"], tty=tty)
    use.forward_signals = tty
    code = context.engine.exec_attached(
        name,
        command,
        None if values["detach"] else use,
        env=environment,
        user=values["user"] or "",
        cwd=values["workdir"] or "",
        tty=values["tty"],
        detach=values["detach"],
        privileged=values["privileged"],
    )
    return _ended(code)


def attach(context: Context, values: Values, arguments: list[str]) -> int:
    """Join a running container's input and output."""
    container = context.engine.container(arguments[0])
    spec = container.spec
    stdin = spec.open_stdin and not values["no-stdin"]
    use = terminal_streams(values, stdin=stdin, tty=spec.tty)
    code = context.engine.attach(container.id, use)
    return _ended(code)


def _ended(code: int) -> int:
    """The exit code of who watched to the end, or 1, as Docker's, of who left with the detach keys."""
    if code < 0:
        print("read escape sequence", file=sys.stderr)
        return 1
    return code


def logs(context: Context, values: Values, arguments: list[str]) -> int:
    """Print what a container wrote: its output here to standard output, its errors to standard error."""
    tail = values["tail"]
    if tail not in ("all", "") and not tail.lstrip("-").isdigit():
        raise UsageError(f'invalid value "{tail}" for --tail: not a number', exit_code=1)
    count = None if tail in ("all", "") or int(tail) < 0 else int(tail)
    details = ""
    if values["details"]:
        labels = context.engine.container(arguments[0]).spec.labels
        details = ",".join(f"{key}={value}" for key, value in sorted(labels.items())) + " "
    entries = context.engine.logs(
        arguments[0], follow=values["follow"], tail=count, since=values["since"], until=values["until"]
    )
    out = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    last = ""
    for stream, text, time in entries:
        if last not in ("", stream):
            out[last].flush()  # both may lead to one terminal: keep the order
        prefix = f"{time} " if values["timestamps"] else ""
        out[stream].write((prefix + details).encode() + text)
        if values["follow"]:
            out[stream].flush()
        last = stream
    return 0


COMMANDS = {
    "exec": Command(
        "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        exec_,
        (
            boolean("detach", "d", "Detached mode: run command in the background"),
            Flag("detach-keys", help="Override the key sequence for detaching a container"),
            repeated("env", "e", "Set environment variables"),
            repeated("env-file", help="Read in a file of environment variables"),
            boolean("interactive", "i", "Keep STDIN open even if not attached"),
            boolean("privileged", help="Give extended privileges to the command"),
            boolean("tty", "t", "Allocate a pseudo-TTY"),
            Flag("user", "u", help="Username or UID (format: <name|uid>[:<group|gid>])"),
            Flag("workdir", "w", help="Working directory inside the container"),
        ),
        least=2,
        interspersed=False,
    ),
    "attach": Command(
        "attach [OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        attach,
        (
            Flag("detach-keys", help="Override the key sequence for detaching a container"),
            boolean("no-stdin", help="Do not attach STDIN"),
            boolean("sig-proxy", help="Proxy all received signals to the process", default=True),
        ),
        least=1,
        most=1,
    ),
    "logs": Command(
        "logs [OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        logs,
        (
            boolean("details", help="Show extra details provided to logs"),
            boolean("follow", "f", "Follow log output"),
            Flag(
                "since",
                help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")',
            ),
            Flag("tail", "n", help="Number of lines to show from the end of the logs", default="all"),
            boolean("timestamps", "t", "Show timestamps"),
            Flag("until", help='Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative'),
        ),
        least=1,
        most=1,
    ),
}
