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
CHOSEN = ALL * 3 if LONG else [ALL[torture.SEED % len(ALL)]]


# Chosen when the test runs: all xdist workers must collect the same names.
@pytest.mark.parametrize("number", range(len(CHOSEN)))
def test_an_interrupted_notebook(number: int) -> None:
    file: Path = CHOSEN[number]
    seed = torture.SEED + number
    print(f"chance: MINIDOCK_TORTURE_SEED={torture.SEED}")
    done = subprocess.run(
        [REPOSITORY / "setup/world.sh", sys.executable, REPOSITORY / "tests/interrupted.py", file, str(seed)],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=600 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{file.name}, seed {seed}: " in done.stdout
