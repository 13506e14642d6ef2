"""Where the command begins: ``minidock`` (its launcher calls :func:`main`) and ``python -m minidock``.

A command that will start a container forks its keeper before it reads its own code.
"""

import sys

import minidock.cli.early  # noqa: F401 (first: it makes the others cheap)
from minidock import headstart


def main() -> None:
    """Run the command that this process was started for, and end with its exit code."""
    if headstart.helps(sys.argv[1:]):
        headstart.begin()
    from minidock.cli import main as command

    command.main()


if __name__ == "__main__":
    main()
