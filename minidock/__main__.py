"""Where the command begins: ``minidock`` (its launcher calls :func:`main`) and ``python -m minidock``.

A command that will start a container forks its keeper before it reads its own code.
"""

import os
import sys

import minidock.cli.early  # noqa: F401 (first: it makes the others cheap)
from minidock import headstart


def main() -> None:
    """Run the command that this process was started for, and end with its exit code."""
    open_standard_streams()
    if headstart.helps(sys.argv[1:]):
        headstart.begin()
    from minidock.cli import main as command

    command.main()


def open_standard_streams() -> None:
    """Where one is closed, let it be /dev/null: else the next file opened is taken for it."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
            setattr(sys, name, open(number, mode))


if __name__ == "__main__":
    main()
