"""``minidock cp``: files into a container and out of it."""

from __future__ import annotations

import os
import sys

from minidock import human
from minidock.cli.context import Context, say
from minidock.cli.flags import Command, UsageError, Values, boolean
from minidock.errors import MinidockError

_BLOCK = 1 << 20  # bytes


def cp(context: Context, values: Values, arguments: list[str]) -> int:
    """Copy files between a container and the host."""
    source, destination = arguments
    if not source:
        raise MinidockError("source can not be empty")
    if not destination:
        raise MinidockError("destination can not be empty")
    (from_container, from_path), (to_container, to_path) = split(source), split(destination)
    if from_container and to_container:
        raise UsageError("copying between containers is not supported", exit_code=1)
    if not from_container and not to_container:
        raise UsageError("must specify at least one container source", exit_code=1)
    if from_container:
        return _copy_from(context, values, from_container, from_path, to_path)
    return _copy_to(context, values, to_container, to_path, from_path)


def split(text: str) -> tuple[str, str]:
    """``web:/etc`` → ``("web", "/etc")``; a local path has no container: ``/a:b``, ``./a:b``, ``a``."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith("/") or container.startswith("."):
        return "", text
    return container, path


def _copy_from(context: Context, values: Values, container: str, path: str, local: str) -> int:
    if local == "-":
        out = sys.stdout.buffer
        engine = context.engine
        if values["follow-link"]:
            found = engine.stat_path(container, path)
            path = found.link_target or path
        engine.read_archive(container, path, out.write)
        out.flush()
        return 0
    copied = context.engine.copy_from(
        container, path, local, follow=values["follow-link"], owners=values["archive"]
    )
    _report(values, copied, os.path.abspath(local))
    return 0


def _copy_to(context: Context, values: Values, container: str, path: str, local: str) -> int:
    engine = context.engine
    if local == "-":
        copied = engine.copy_stream_to(container, path, iter(lambda: os.read(0, _BLOCK), b""))
    else:
        copied = engine.copy_to(
            container, path, local, follow=values["follow-link"], owners=values["archive"]
        )
    _report(values, copied, f"{container}:{path}")
    return 0


def _report(values: Values, copied: int, where: str) -> None:
    if not values["quiet"]:
        say(f"Successfully copied {human.size(copied)} to {where}")


COMMANDS = {
    "cp": Command(
        "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n"
        "        minidock cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem ('-': a tar stream)",
        cp,
        (
            boolean("archive", "a", "Archive mode (copy all uid/gid information)"),
            boolean("follow-link", "L", "Always follow symbol link in SRC_PATH"),
            boolean("quiet", "q", "Suppress progress output during copy"),
        ),
        least=2,
        most=2,
    )
}
