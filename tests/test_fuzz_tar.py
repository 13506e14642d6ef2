"""Mutated archives never escape, hang, or end in anything but a clear error (see fuzz/fuzz_tar.py)."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import fuzz_tar


def test_mutated_archives(root: Path) -> None:
    usual = "600" if os.environ.get("MINIDOCK_LONG") else "8"
    seconds = float(os.environ.get("MINIDOCK_FUZZ_SECONDS", usual))
    assert fuzz_tar.run(seconds, random.SystemRandom().randrange(1 << 32), root) > 0
