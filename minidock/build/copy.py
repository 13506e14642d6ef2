"""COPY and ADD: what goes where, and a digest that tells whether it is what it was last time.

A plan is made first and carried out only if the cache has no answer. So everything that can be known
before is refused before, and the digest, which reads every file, is the whole cost of a cache hit.

The rules (Dockerfile reference, "COPY", "ADD"):

* A directory's *content* is copied, not the directory itself.
* A destination that ends in ``/``, or that is a directory already, is one to copy into.
* Several sources need such a destination.
* Directories that are missing are made: mode 0755, and they belong to root or who --chown says.
* Modes and times are the source's; owners are root's, unless the files come from another stage.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from minidock import trace
from minidock.build import digests, sources
from minidock.build.context import Context
from minidock.build.ignore import Patterns
from minidock.build.instructions import Copy
from minidock.build.known import Known
from minidock.build.layout import Item, Layout
from minidock.build.permissions import mode_change, owner_of
from minidock.build.view import View
from minidock.errors import InvalidInput


class Plan:
    """One COPY or ADD, ready to be carried out. Made by :func:`plan`.

    *digest* is "sha256:…" over names, types, modes, owners, links and contents, but not times. *files*
    are short digests of the single files, by their names in the source. *described* is how `history`
    shows source and destination.
    """

    def __init__(
        self,
        items: list[Item],
        below: View,
        root: str,
        shape: str,
        shown: str,
        known: Known | None = None,
    ) -> None:
        self._items = items
        self._below = below
        self.digest, self.files = digests.of(items, root, known)
        self.described = f"{shape}:{self.digest.removeprefix('sha256:')} in {shown}"

    def write(self, tree: Path, newest: int | None = None) -> None:
        """Write the files to *tree*, an empty directory that becomes the layer's.

        No time in it is later than *newest* (seconds since the epoch). Whatever goes wrong leaves a part
        in *tree*: the caller throws it away. Raises MinidockError when a file changed since it was
        planned, cannot be read, or when the disk is full.
        """
        with trace.step("copy files", count=len(self._items), target=str(tree)):
            from minidock.build import place  # not for what the cache has

            place.write(self._items, tree, self._below, newest)


@trace.mechanism(lesson=8)
def plan(instruction: Copy, source: View | Context, workdir: str, below: View) -> Plan:
    """Decide what a COPY or ADD writes: the files are looked at and read, nothing is written yet.

    *source* is the context, or the view of another stage or image. *below* are the files of the image so
    far: they decide what the destination is, and know the names of --chown. *workdir* is where a relative
    destination starts.

    Raises InvalidInput, with Docker's words, for what cannot be copied.
    """
    if "\0" in instruction.destination:
        raise InvalidInput(f"{instruction.destination!r}: no name holds a null byte")
    gathered = sources.gather(instruction, source)
    directory = sources.into_directory(instruction.destination)
    if len(gathered) > 1 and not directory:
        raise InvalidInput(
            f"When using {instruction.node.keyword.upper()} with more than one source file, the destination "
            "must be a directory and end with a /"
        )
    # With --link nothing of the image below counts, not even a link on the way to the destination.
    ground = View([]) if instruction.link else below
    wanted = posixpath.normpath(posixpath.join("/", workdir, instruction.destination))
    layout = Layout(
        source,
        ground,
        ground.resolve(wanted),
        into=directory or instruction.parents,
        owner=owner_of(instruction.chown, below) if instruction.chown else None,
        change=mode_change(instruction.chmod) if instruction.chmod else _unchanged,
        exclude=Patterns(instruction.exclude),
        unpack=instruction.unpack,
    )
    shapes = [layout.add(each) for each in gathered]
    shape = shapes[0] if len(shapes) == 1 else "multi"
    known = source.known if isinstance(source, Context) else None
    items = list(layout.items.values())
    return Plan(items, below, layout.destination, shape, instruction.destination, known)


def _unchanged(mode: int) -> int:
    return mode
