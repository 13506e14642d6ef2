"""A head start for commands that will start a container: its keeper gets ready while they prepare."""

from __future__ import annotations

from collections.abc import Sequence

from minidock.containers import waiting

_VERBS = {"run", "start"}
_GROUP = "container"
_WITH_VALUE = {"--root", "--config", "--layers"}  # flags before the verb


def helps(words: Sequence[str]) -> bool:
    """Whether a command line looks as if it would start a container. No harm is done when it does not."""
    skip = False
    for word in words:
        if skip or word.startswith("-") or word == _GROUP:
            skip = word in _WITH_VALUE and not skip
            continue
        return word in _VERBS
    return False


def begin() -> None:
    """Fork the next container's shim now; it waits to be told what to run, or ends with this process."""
    waiting.prepare(orphan=False)
