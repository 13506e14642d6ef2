"""A stack of layers, name by name: which layer has something there, what shows, and what hides the rest.

The same rules as the kernel's (see `kernel/overlay.py`), told for every layer and not only for the one that
wins. For pictures, and for whoever asks where a file of a container comes from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minidock.kernel import overlay


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers on each other, the topmost first. *titles* name them; *writable*: the first is upper."""

    titles: tuple[str, ...]
    layers: tuple[Path, ...]
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What one layer has under a name.

    *kind* is file, directory, link, device, whiteout or empty (nothing there). *shows*: it is what a reader
    of the whole sees, or a part of it (directories merge). *opaque*: it hides the directories below.
    """

    kind: str = ""
    size: int = 0
    shows: bool = False
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One name through all layers, topmost first. *copied_from* is the number of the layer from which the
    upper directory's file was copied up, or None."""

    path: str
    places: tuple[Place, ...]
    copied_from: int | None = None

    @property
    def shown_by(self) -> int | None:
        """The number of the layer whose file or directory a reader gets; None when nothing shows."""
        return next((number for number, place in enumerate(self.places) if place.shows), None)


def container_stack(directory: Path, lower: Sequence[Path]) -> Stack:
    """The stack of a container: its own directory and the trees of its image, topmost first."""
    numbers = [f"image layer {number}" for number in range(len(lower), 0, -1)]
    return Stack(("container layer", *numbers), (directory / "upper", *lower), writable=True)


def column(stack: Stack, path: str) -> Column:
    """*path* ("/etc/passwd") in every layer of *stack*."""
    name = path.strip("/")
    shown, merged = _shown(list(stack.layers), name)
    places = tuple(_place(layer, name, shown == layer or layer in merged) for layer in stack.layers)
    copied = None
    if stack.writable and places[0].kind == "file":
        origin, _ = _shown(list(stack.layers[1:]), name)
        if origin is not None and stat.S_ISREG(os.lstat(origin / name).st_mode):
            copied = stack.layers.index(origin)
    return Column(path, places, copied)


def _shown(layers: list[Path], name: str) -> tuple[Path | None, list[Path]]:
    """The layer that gives *name*, and all layers whose directories merge there."""
    below, parts = layers, name.split("/")
    for depth, part in enumerate(parts, 1):
        status, _, directories = overlay.lookup(below, part)
        if status is None:
            return None, []
        found = "/".join(parts[:depth])
        if depth == len(parts):
            merged = [layer for layer in layers if layer / found in directories]
            top = next((layer for layer in layers if _stands(layer, found, below)), None)
            return top, merged
        if not directories:  # a file or a link on the way
            return None, []
        below = directories
    return None, []


def _stands(layer: Path, name: str, below: list[Path]) -> bool:
    """Whether *layer* is among those that are looked at, and has *name*."""
    return (layer / name).parent in below and os.path.lexists(layer / name)


def _place(layer: Path, name: str, shows: bool) -> Place:
    path = layer / name
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Place()
    if overlay.is_whiteout(path):
        return Place("whiteout")
    if stat.S_ISDIR(found.st_mode):
        return Place("directory", shows=shows, opaque=overlay.is_opaque(path))
    kind = "file" if stat.S_ISREG(found.st_mode) else "link" if stat.S_ISLNK(found.st_mode) else "device"
    return Place(kind, found.st_size, shows)
