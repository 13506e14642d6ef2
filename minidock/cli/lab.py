"""``minidock lab``: the verbs of the course's labs, by way of minidock.lab.commands."""

from __future__ import annotations

from minidock.cli import flags
from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values


def show_labs(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.lab import commands

    return commands.show_labs()


def start(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.lab import commands

    return commands.start(*arguments)


def check(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.engine import Engine
    from minidock.lab import commands

    lab, *task = arguments
    # The library's own engine: the labs decide when the student's layers stand in for it.
    return commands.check(lab, Engine(config=context.config()), *task)


def hint(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.lab import commands

    lab, task = arguments
    return commands.hint(lab, task, values["strength"])


def reset(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.lab import commands

    return commands.reset(*arguments)


def board(context: Context, values: Values, arguments: list[str]) -> int:
    from minidock.lab import commands

    return commands.show_board(arguments)


COMMANDS = {
    "lab list": Command("lab list", "List the labs, their points, and how far you are", show_labs, most=0),
    "lab start": Command(
        "lab start LAB", "Put the lab's skeleton into your workshop, ~/mydock", start, least=1, most=1
    ),
    "lab check": Command(
        "lab check LAB [TASK]",
        "Check your work, in a world that cannot hurt the machine",
        check,
        least=1,
        most=2,
    ),
    "lab hint": Command(
        "lab hint [OPTIONS] LAB TASK",
        "Show a hint for one task, a stronger one each time",
        hint,
        (Flag("strength", kind="int", help="This hint: 1, 2 or 3", convert=flags.integer),),
        least=2,
        most=2,
    ),
    "lab reset": Command(
        "lab reset LAB", "Begin the lab again; your file is kept beside the fresh one", reset, least=1, most=1
    ),
    "lab board": Command(
        "lab board DIR [DIR...]", "For instructors: show who is where, from progress files", board, least=1
    ),
}
