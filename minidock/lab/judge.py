"""Runs a lab's checks on students' files, in a world that they cannot hurt (:mod:`minidock.sandbox`).

:func:`judge` is the outside. Run as a program (``python -m minidock.lab.judge DIR…``), this file is the
inside: the first process of the sandbox, which loads pytest once and forks for each directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidock import files, layers, sandbox
from minidock.engine import Engine
from minidock.errors import MinidockError, NotFound
from minidock.lab import workshop
from minidock.lab.workshop import Lab

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "busybox"  # what the last task of a lab runs on the student's layer
SECONDS = 120  # for the checks of one directory, where nothing makes the machine slow
Results = list[dict[str, Any]]


def judge(lab: Lab, directories: Sequence[Path], engine: Engine, task: int | None = None) -> list[Results]:
    """Every check of *lab* (or of one *task*) on the layers in each directory, one after the other.

    Returns for each directory, in the order of the checks, ``{"name", "task", "outcome":
    "passed|failed|blocked", "call", "result", "expected", "next_step"}``. Raises MinidockError when the
    checks themselves do not come to their end.
    """
    place = engine.root / "tmp"
    files.make_private(place)
    for killed in files.abandoned(place, sandbox.SCRATCH):
        files.remove_tree(killed)
    with files.scratch(place, sandbox.SCRATCH) as own:
        scratch, report = own / "scratch", own / "report"
        scratch.mkdir()
        report.mkdir()
        (report / "pytest.ini").write_text("[pytest]\n")  # not one of a project around the student's files
        engine.pull_if_missing(IMAGE)
        with open(report / "image.tar", "wb") as file:
            engine.save([IMAGE], file)
        patience = float(os.environ.get("MINIDOCK_PATIENCE", "1"))
        outcome = sandbox.run(
            sandbox.Job(
                root=str(engine.root),
                arguments=[sys.executable, "-m", "minidock.lab.judge", *map(str, directories)],
                environment={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "HOME": str(scratch),
                    "TMPDIR": str(scratch),
                    "PYTHONPATH": str(REPOSITORY),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    # The plugins for notebooks and for our own tests cost ten times what the checks do.
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "MINIDOCK_PATIENCE": str(patience),
                    "MINIDOCK_LAB": lab.number,
                    "MINIDOCK_LAB_TASK": str(task or ""),
                    "MINIDOCK_LAB_REPORT": str(report),
                    "MINIDOCK_LAB_IMAGE": str(report / "image.tar"),
                },
                scratch=str(scratch),
                seconds=SECONDS * patience * len(directories),
                writable=[str(report)],  # results must reach us
            )
        )
        try:
            return [files.read_json(report / f"{number}.json") for number in range(len(directories))]
        except NotFound:
            why = "they took too long" if outcome.out_of_time else f"exit code {outcome.exit_code}"
            last = outcome.output.strip().splitlines()[-1:] or [""]
            raise MinidockError(f"lab {lab.number}: the checks did not finish ({why}). {last[0]}") from None


def main(directories: list[str]) -> int:
    """The inside: judge each of *directories*; returns the exit code of the last."""
    import gc
    import importlib

    import pytest

    lab = workshop.find(os.environ["MINIDOCK_LAB"])
    sandbox.prepare_worlds()
    importlib.import_module(layers.SEAMS[lab.file])  # now, and not once more in every story
    gc.freeze()  # what is loaded stays shared with the forks
    code = 0
    for number, directory in enumerate(directories):
        if number:
            sandbox.end_all_others()  # what the one before left running
        child = os.fork()
        if child == 0:
            try:
                os._exit(pytest.main(_arguments(lab, number, directory)))
            finally:
                os._exit(125)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code


def _arguments(lab: Lab, number: int, directory: str) -> list[str]:
    """Where this directory's layers, files and results are, in the environment, and how pytest is called."""
    report, scratch = os.environ["MINIDOCK_LAB_REPORT"], os.environ["TMPDIR"]
    sandbox.own_network()
    # A lab that the student has only begun would run as well, and fail this one.
    sandbox.leave_only(Path(directory) / f"{lab.file}.py", Path(scratch) / str(number))
    os.environ["MINIDOCK_LAYERS"] = directory
    os.environ["MINIDOCK_LAB_RESULTS"] = f"{report}/{number}.json"
    return [
        *("-q", "-p", "minidock.lab.checks", "-p", "no:cacheprovider", "--assert=plain"),
        *("-c", f"{report}/pytest.ini", "--rootdir", str(lab.directory)),
        *("--basetemp", f"{scratch}/pytest", str(lab.directory / "checks.py")),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
