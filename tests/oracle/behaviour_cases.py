"""The table behaviour.txt, and where minidock answers otherwise on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    title: str
    lines: list[str]
    short: bool  # also part of `make test`


def _parse(text: str) -> list[Case]:
    """Cases are separated by empty lines; ``* title`` marks one that `make test` runs too."""
    cases = []
    for block in text.strip().split("\n\n"):
        title, *lines = block.splitlines()
        cases.append(Case(title.lstrip("* "), lines, title.startswith("*")))
    return cases


CASES = _parse((Path(__file__).parent / "behaviour.txt").read_text())

# title → why minidock answers otherwise
DELIBERATE = {
    "device that the host lacks": "125: the container could not be made. Docker's 127 is an accident of "
    "its client, which looks for 'no such file or directory' in the message",
    "volume whose device is not there": "125, for the same reason",
    "mounts that newer versions of Docker have": "/proc/interrupts and what tells heat and power "
    "are hidden since Docker 28",
    "the mark of Docker": "/.dockerenv says 'made by Docker'",
    "inspect shows objects as JSON": "keys are sorted; Docker's come in the order of its structs",
    "inspect cpu quota of --cpus": "shows also what the kernel is given",
    "logs with a senseless number": "refused; Docker shows everything",
    "spelling of the stop signal": "SIGUSR1, however it was typed",
    "exec of what is not there": "127 as for `run`, and as newer versions of Docker have it",
    "where exec complains": "to standard error; Docker 20.10 writes it to standard output",
    "start -a of what cannot run": "127 as for `run`",
    "version of the server": "there is no server yet (lesson 12)",
    # Docker's own failures on a machine whose root lacks CAP_SYS_RESOURCE
    "all capabilities": "limited to what the machine has; Docker fails",
    "privileged": "limited to what the machine has; Docker fails",
    "exec privileged": "limited to what the machine has; Docker fails",
}
