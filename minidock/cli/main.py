"""``minidock``: finds the verb, imports the one module that knows it, and turns errors into lines.

Starting a container should cost milliseconds, so nothing is imported here that `run` does not need.
The process begins in ``minidock/__main__.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from minidock.cli import flags, verbs
from minidock.cli.context import Context, report, say, width
from minidock.cli.flags import Command, UsageError
from minidock.errors import MinidockError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and leave the process with its exit code.

    The interpreter's own farewell (module teardown) would take longer than some containers live, so
    after flushing the process ends at once.
    """
    code = command_line(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 141
    os._exit(code)


def command_line(words: Sequence[str]) -> int:
    """Run one command; returns its exit code, as Docker's."""
    failure, debug = 1, "--debug" in words or "-D" in words[:1]
    try:
        values, rest = flags.parse(words, verbs.GLOBAL_FLAGS, interspersed=False)
        if values["version"]:
            return _run(Context(values), verbs.find("version")[0], ["--short"])
        debug = values["debug"]
        if rest[:1] == ["help"]:
            rest = [*rest[1:], "--help"]
        if values["help"] or not rest or rest[0] in ("--help", "-h"):
            return _print_overview("")
        if rest[0] in verbs.GROUPS and rest[1:2] in ([], ["--help"], ["-h"]):
            return _print_overview(rest[0])
        command, arguments = verbs.find(*rest)
        failure = command.failure
        return _run(Context(values), command, arguments)
    except MinidockError as error:
        if debug:
            raise
        sys.stdout.flush()
        report(error)
        return failure if error.exit_code is None else error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `minidock ps | head -1`: the reader has gone, so nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        if debug:
            raise
        if place := _student_s_line(error):
            say(f"minidock: {place}: {type(error).__name__}: {error}")
            return failure
        if isinstance(error, OSError):
            return _system_error(error, failure)
        say(f"minidock: internal error: {type(error).__name__}: {error}")
        say("This is a bug of minidock. `minidock --debug …` shows where.")
        return failure


def _student_s_line(error: BaseException) -> str:
    """``FILE, line N`` when *error* comes out of a student's own layer; else empty."""
    place, step = "", error.__traceback__
    while (student := os.environ.get("MINIDOCK_LAYERS")) and step is not None:
        file = step.tb_frame.f_code.co_filename
        if file.startswith(f"{student}/"):
            place = f"{file}, line {step.tb_lineno}"
        step = step.tb_next
    return place


def _print_overview(group: str) -> int:
    from minidock.cli import overview

    print(overview.of_group(group) if group else overview.of_all())
    return 0


def _system_error(error: OSError, failure: int) -> int:
    what = f"{error.filename}: " if error.filename else ""
    say(f"minidock: {what}{(error.strerror or str(error)).lower()}")
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        say("minidock needs root: put sudo before the command.")
    return failure


def _run(context: Context, command: Command, words: Sequence[str]) -> int:
    verb = flags.verb_of(command)
    try:
        values, arguments = flags.parse(words, command.flags, interspersed=command.interspersed)
        if values["help"]:
            print(flags.help_text(command, width()), end="")
            return 0
        flags.check_count(command, arguments)
        return command.action(context, values, arguments)
    except UsageError as error:
        error.hint = error.hint or f"See 'minidock {verb} --help'."
        raise
