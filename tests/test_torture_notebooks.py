"""Whoever interrupts a notebook, at any cell, has the machine back after `minidock reset --yes`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torture
from torture import LONG
from worlds import PATIENCE, REPOSITORY

ALL = sorted([*REPOSITORY.glob("notebooks/[0-9]*.ipynb"), *REPOSITORY.glob("labs/*/lab.ipynb")])
# `make test` interrupts one lesson, at the same cell each time; `make torture` all of them, anywhere.
CHOSEN = ALL * 3 if LONG else [ALL[1]]
SEED = torture.SEED if LONG else 1


# Chosen when the test runs: all xdist workers must collect the same names.
@pytest.mark.parametrize("number", range(len(CHOSEN)))
def test_an_interrupted_notebook(number: int) -> None:
    file: Path = CHOSEN[number]
    seed = SEED + number
    print(f"chance: MINIDOCK_TORTURE_SEED={SEED}")
    done = subprocess.run(
        [REPOSITORY / "setup/world.sh", sys.executable, REPOSITORY / "tests/interrupted.py", file, str(seed)],
        # Other tests run beside this one: what is new on the machine need not be this world's. What is, its
        # marks tell; and the strict check at the end of the whole run knows no exception.
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTEST_") and name != "MINIDOCK_LEAKS"
        },
        capture_output=True,
        text=True,
        timeout=600 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{file.name}, seed {seed}: " in done.stdout
