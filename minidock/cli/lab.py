"""``minidock lab``: the labs, by way of minidock.lab.commands."""

from __future__ import annotations

from minidock.cli.context import Context
from minidock.cli.flags import Command, Values


def lab(context: Context, values: Values, arguments: list[str]) -> int:
    import argparse

    from minidock.engine import Engine
    from minidock.lab import commands

    parser = argparse.ArgumentParser(
        prog="minidock lab", description="Build the engine's layers yourself.", allow_abbrev=False
    )
    commands.add_arguments(parser)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as ended:  # argparse has said why
        return 0 if not ended.code else 1
    # The library's own engine: the labs decide when the student's layers stand in for it.
    return commands.run(parsed, Engine(config=context.config()))


COMMANDS = {
    "lab": Command(
        "lab COMMAND",
        "The course's labs: list, start, check, hint, reset, board",
        lab,
        interspersed=False,
    )
}
