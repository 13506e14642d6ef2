"""Which mounts a new container gets: from -v, --mount, --tmpfs, --volumes-from and the image's VOLUMEs.

Docker's order: what the user names replaces what comes by --volumes-from, and an image's VOLUME becomes
an anonymous volume only where nothing else is mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from minidock import mount_notation
from minidock.containers.spec import Mount, Spec
from minidock.errors import InvalidInput

_PARSERS: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    ("volume", mount_notation.volume),
    ("mount", mount_notation.mount),
    ("tmpfs", mount_notation.tmpfs),
)
SpecOf = Callable[[str], Spec]  # of the container with this name or id


def mounts(options: dict[str, Any], image_volumes: Iterable[str], spec_of: SpecOf) -> list[Mount]:
    """All mounts of a container, each target once. Raises InvalidInput, NotFound."""
    asked = _asked(options)
    mine = {mount.target for mount in asked}
    found = [
        mount for mount in _inherited(options.get("volumes_from") or [], spec_of) if mount.target not in mine
    ]
    found += asked
    taken = {mount.target for mount in found}
    for path in sorted(image_volumes):
        target = "/" + os.path.normpath(path).lstrip("/")
        if target not in taken and target != "/":
            found.append(Mount("volume", "", target, origin="image", anonymous=True))
    driver = options.get("volume_driver") or ""
    for mount in found:
        if mount.kind == "volume" and mount.origin in ("volume", "image"):
            mount.driver = driver
    return found


def _asked(options: dict[str, Any]) -> list[Mount]:
    found: list[Mount] = []
    seen: set[str] = set()
    for option, parse in _PARSERS:
        for value in options.get(option) or []:
            fields = parse(value) if isinstance(value, str) else value
            mount = Mount(**{**fields, "origin": option})
            # Who makes a container anew hands on the anonymous volumes of the old one by their names.
            mount.anonymous = mount.kind == "volume" and (mount.anonymous or not mount.source)
            if mount.target in seen:
                raise InvalidInput(f"Duplicate mount point: {mount.target}")
            seen.add(mount.target)
            if mount.kind == "bind" and not mount.create_source and not os.path.lexists(mount.source):
                raise InvalidInput(
                    f'invalid mount config for type "bind": bind source path does not exist: {mount.source}',
                    hint="-v would create the directory; --mount wants it to exist.",
                )
            found.append(mount)
    return found


def _inherited(texts: Iterable[str], spec_of: SpecOf) -> list[Mount]:
    """The volumes and host directories of other containers; of several at one place the last counts."""
    found: dict[str, Mount] = {}
    for text in texts:
        name, colon, mode = text.partition(":")
        if not name:
            raise InvalidInput(f"invalid volumes-from specification: '{text}'", hint="Write NAME or NAME:ro.")
        if colon and mode not in ("ro", "rw", "z", "Z"):
            raise InvalidInput(f"invalid mode: {mode}", hint="Modes of --volumes-from: ro, rw.")
        for mount in spec_of(name).mounts:
            if mount.kind != "tmpfs":
                read_only = mount.read_only or mode == "ro"
                found[mount.target] = replace(mount, read_only=read_only, origin="volumes-from", mode="")
    return list(found.values())
