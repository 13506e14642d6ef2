"""The tour of `make demo`: every command ends as the tour says, and nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import PATIENCE, REPOSITORY

pytestmark = pytest.mark.vm


def test_the_tour_goes_as_told(registry: str, root: Path, daemon_json: Path) -> None:
    code = "import sys, pathlib as p; from minidock.lab import demo; sys.exit(demo.main(p.Path(sys.argv[1])))"
    toured = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
        timeout=120 * PATIENCE,
        check=False,
    )
    assert toured.returncode == 0, toured.stdout + toured.stderr
    assert "Hello from minidock!" in toured.stdout
    assert "It works!" in toured.stdout
    assert "Where the time went" in toured.stdout
    assert not (root / "containers").exists()
