"""A state root for one lesson, so that what the reader has built and cached does not show in it."""

from __future__ import annotations

import os

from minidock.config import LESSONS
from minidock.engine import Engine


def own_root(lesson: str) -> Engine:
    """An engine on an empty root, where `minidock` in this notebook works from now on, too.

    It stands below the root that was used so far: when the lesson is interrupted, `minidock reset` finds it.
    """
    root = Engine().root
    if root.parent.name == LESSONS:  # this cell runs a second time
        root = root.parents[1]
    engine = Engine(root / LESSONS / lesson)
    engine.reset()
    engine.root.mkdir(parents=True, mode=0o700)
    os.environ["MINIDOCK_ROOT"] = str(engine.root)
    return engine
