"""``minidock save load import export``: images and containers as tar archives."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values, boolean, repeated
from minidock.errors import MinidockError


@contextmanager
def _writing(path: str | None, verb: str) -> Iterator[IO[bytes]]:
    """The file *path*, complete or not there at all; else standard output, never a terminal.

    What is there and no regular file (a pipe, /dev/stdout, /dev/null) is written to as it is: moving a
    file over it would take the device away from the whole machine.
    """
    if path is None:
        if sys.stdout.isatty():
            raise MinidockError(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                hint=f"minidock {verb} … > file.tar",
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        with open(path, "wb") as file:  # -o /dev/null: a rename would put a file in the device's place
            yield file
        return
    path = os.path.realpath(path)  # a link stays a link
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            yield file
        return
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            yield file
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


@contextmanager
def _reading(path: str | None) -> Iterator[IO[bytes]]:
    if path is None or path == "-":
        if sys.stdin.isatty():
            raise MinidockError("requested load from stdin, but stdin is empty", hint="Give a file with -i.")
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file


def save(context: Context, values: Values, arguments: list[str]) -> int:
    with _writing(values["output"], "save") as file:
        context.engine.save(arguments, file)
    return 0


def load(context: Context, values: Values, arguments: list[str]) -> int:
    with _reading(values["input"]) as file:
        for name in context.engine.load(file):
            print(f"Loaded image ID: {name}" if name.startswith("sha256:") else f"Loaded image: {name}")
    return 0


def export(context: Context, values: Values, arguments: list[str]) -> int:
    context.engine.container(arguments[0])  # before the file is made
    with _writing(values["output"], "export") as file:
        context.engine.export(arguments[0], file)
    return 0


def import_(context: Context, values: Values, arguments: list[str]) -> int:
    source, reference = arguments[0], "".join(arguments[1:])
    if "://" in source:
        raise MinidockError("import from a URL is not in minidock", hint="curl URL | minidock import - NAME")
    with _reading(source) as file:
        image = context.engine.import_(
            file,
            reference,
            changes=values["change"],
            message=values["message"] or "",
            platform=values["platform"],
        )
    print(image.id)
    return 0


_OUTPUT = Flag("output", "o", help="Write to a file, instead of STDOUT")
COMMANDS = {
    "save": Command(
        "save [OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        save,
        (_OUTPUT,),
        least=1,
    ),
    "load": Command(
        "load [OPTIONS]",
        "Load an image from a tar archive or STDIN",
        load,
        (
            Flag("input", "i", help="Read from tar archive file, instead of STDIN"),
            boolean("quiet", "q", "Suppress the load output"),
        ),
        most=0,
    ),
    "export": Command(
        "export [OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        export,
        (_OUTPUT,),
        least=1,
        most=1,
    ),
    "import": Command(
        "import [OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        import_,
        (
            repeated("change", "c", "Apply Dockerfile instruction to the created image"),
            Flag("message", "m", help="Set commit message for imported image"),
            Flag("platform", help="Set platform if server is multi-platform capable"),
        ),
        least=1,
        most=2,
    ),
}
