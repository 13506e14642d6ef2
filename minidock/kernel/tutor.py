"""The errno tutor: why did the kernel refuse? Answered by looking at the live machine, never by guessing."""

from __future__ import annotations

from typing import Any


def explain(operation: str, arguments: dict[str, Any], errno: int) -> tuple[str, str] | None:
    """The (cause, hint) of a refused call, or None when nothing on the machine explains it."""
    return None
