"""What a build does, everything else taken away: four functions, which lab 08 has the student write.

    for each instruction:   known?  ──yes──▶  take what the cache has
                              │no
                              ▼
                     container ──▶ change ──▶ commit: one more layer, one more line of history

stage_builder.py goes through a stage with :func:`build_loop`; cache.py names its records with
:func:`cache_key`; run_step.py and draft.py make the next image with the other two.

Source: Dockerfile reference; OCI image specification, config.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from minidock.build.problems import CommandFailed

State = TypeVar("State")
Instruction = TypeVar("Instruction")
Plan = TypeVar("Plan")
Made = TypeVar("Made")


def cache_key(parent: str, instruction: str, content: str, unseen: str) -> str:
    """The name under which the cache keeps one step: 64 hexadecimal digits.

    *parent* is the id of the image before the step, *instruction* its text, *content* a digest of the
    files that it reads ("" for none), *unseen* what counts beside and is in no history (mounts).
    """
    # A text holds no NUL, so no two different questions become the same text: "ab", "c" and "a", "bc".
    whole = "\0".join((parent, instruction, content, unseen))
    return hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()


def committed(
    config: dict[str, Any], settings: dict[str, Any], entry: dict[str, Any], diff_id: str | None
) -> dict[str, Any]:
    """The config document of the next image; *config*, that of the image before, is not changed.

    *settings* is what its containers start with, *entry* the new last line of the history, *diff_id* the
    new top layer. None: no file changed, and the line says so ("empty_layer").
    """
    return {
        **config,
        "created": entry["created"],
        "config": settings,
        "rootfs": {
            "type": "layers",
            "diff_ids": config["rootfs"]["diff_ids"] + ([diff_id] if diff_id else []),
        },
        "history": [*config["history"], entry if diff_id else {**entry, "empty_layer": True}],
    }


def run_and_commit(
    command: Sequence[str], run: Callable[[], int], upper: Path, commit: Callable[[Path], Made]
) -> Made | None:
    """Run a container to its end; what it changed becomes a layer.

    *run* does the first and returns the exit code, *upper* is where the container's changes are then,
    and *commit* makes a layer of that directory. None when nothing was changed: then there is no layer.
    Raises CommandFailed when *command* ended with another code than 0. It leaves no layer.
    """
    code = run()
    if code:
        text = " ".join(command)
        raise CommandFailed(f"The command '{text}' returned a non-zero code: {code}", exit_code=code)
    return commit(upper) if os.listdir(upper) else None


def build_loop(
    state: State,
    instructions: Iterable[Instruction],
    plan: Callable[[State, Instruction], Plan],
    find: Callable[[State, Plan], State | None],
    make: Callable[[State, Plan], State],
) -> State:
    """Carry out *instructions*, one after the other; returns the last state.

    For each, *plan* says what it means here, *find* asks the cache (None: not known), *make* does it.
    After the first that is not known the cache is not asked again: all that follows stands on something
    new.
    """
    missed = False
    for instruction in instructions:
        planned = plan(state, instruction)
        found = None if missed else find(state, planned)
        if found is None:
            missed = True
            found = make(state, planned)
        state = found
    return state
