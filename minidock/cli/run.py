"""``minidock run`` and ``create``: the way to a new container."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import Any

from minidock.cli import run_options
from minidock.cli.context import Context, say
from minidock.cli.flags import Command, UsageError, Values, boolean
from minidock.errors import MinidockError

_DETACH_KEYS = "ctrl-p,ctrl-q"


def run(context: Context, values: Values, arguments: list[str]) -> int:
    """Make a container, start it, and stay with it until it ends (or, with -d, print its id)."""
    from minidock.engine import streams

    engine, detach = context.engine, values["detach"]
    if detach and values["attach"]:
        raise UsageError("conflicting options: cannot specify both --attach and --detach", exit_code=1)
    wanted = _wanted(values)
    if "stdin" in wanted and values["tty"] and not detach and not os.isatty(0):
        raise MinidockError(
            "the input device is not a TTY", hint="Leave out -t when input is piped.", exit_code=1
        )
    container = _create(context, values, arguments, stdin_once="stdin" in wanted and not detach)
    trace = _open_trace(container) if values["explain"] else None
    if detach:
        engine.start(container.id)
        print(container.id, flush=True)
        code = 0
    else:
        use = streams(
            stdin=0 if "stdin" in wanted else None,
            stdout=1 if "stdout" in wanted else None,
            stderr=2 if "stderr" in wanted else None,
            detach_keys=values["detach-keys"] or _DETACH_KEYS,
            forward_signals=values["sig-proxy"],
        )
        code = max(engine.start(container.id, attach=use) or 0, 0)  # -1: left by the detach keys
    if trace is not None:
        _explain(container, trace)
    return code


def _wanted(values: Values) -> set[str]:
    """Which streams to attach: those of -a; else output, and input with -i."""
    if values["attach"]:
        return {name.lower() for name in values["attach"]}
    return {"stdout", "stderr", *(["stdin"] if values["interactive"] else [])}


def create(context: Context, values: Values, arguments: list[str]) -> int:
    """Make a container without starting it; prints its id."""
    wanted = _wanted(values)
    print(_create(context, values, arguments, stdin_once="stdin" in wanted).id)
    return 0


def _create(context: Context, values: Values, arguments: list[str], *, stdin_once: bool) -> Any:
    image, *command = arguments
    options = run_options.engine_options(values)
    file = _id_file(values["cidfile"])
    engine = context.engine
    quiet = values["quiet"]
    progress: Any = nullcontext(None)

    def missing() -> None:
        if not quiet:
            say(f"Unable to find image '{engine.familiar_name(image)}' locally")

    if values["pull"] == "always" or not engine.has_image(image):
        from minidock.cli.progress import showing

        progress = showing(quiet, sys.stderr)
    with progress as show:
        container = engine.create(
            image,
            command,
            pull=values["pull"],
            platform=values["platform"],
            progress=show,
            on_missing=missing,
            stdin_once=stdin_once and values["interactive"],
            **options,
        )
    if file is not None:
        os.write(file, container.id.encode())
        os.close(file)
    return container


def _id_file(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None


def _open_trace(container: Any) -> int:
    """The record, held open: with --rm its name is gone when the container ends."""
    path = container.directory / "trace.jsonl"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _explain(container: Any, descriptor: int) -> None:
    from minidock import trace
    from minidock.cli import explain

    with open(descriptor, "rb") as file:
        steps = trace.parse(file.read().decode(errors="replace"))
    page = explain.Page(sys.stderr, str(container.directory))
    page.show(f"{container.spec.name} ({container.id[:12]})", container.spec.image, steps)


_BOTH = (*run_options.FLAGS, *run_options.MISSING_FLAGS)
_OF_RUN = (
    boolean("detach", "d", "Run container in background and print container ID"),
    boolean("explain", help="Afterwards show each kernel step that made the container"),
    boolean("sig-proxy", help="Proxy received signals to the process", default=True),
)

COMMANDS = {
    "run": Command(
        "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        run,
        (*_BOTH, *_OF_RUN),
        least=1,
        interspersed=False,
        failure=125,
    ),
    "create": Command(
        "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        create,
        _BOTH,
        least=1,
        interspersed=False,
    ),
}
