"""Which layers are shared by whom, and what each costs: the local images as one tree.

Images that begin with the same layers have the same trunk, so what a branch adds is what one more image
costs. A layer is stored once, wherever it stands: one that comes again on another branch costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minidock.images import reference
from minidock.images.image import Image, short


@dataclass(slots=True)
class Node:
    """One layer on top of those above it. *size* in bytes.

    *images* end with this layer; *shared_by* counts those that have it here; *again*: the same layer stands
    on another branch, too, and is counted there.
    """

    diff_id: str
    size: int
    images: list[str] = field(default_factory=list)
    shared_by: int = 0
    again: bool = False
    children: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Cost:
    """What one image takes, in bytes: *size* all of it, *own* what no other image has."""

    name: str
    size: int
    own: int


@dataclass(slots=True)
class Tree:
    """*on_disk*: bytes of all layers, each once; *unshared*: what it would be if nothing were shared."""

    roots: list[Node]
    costs: list[Cost]
    layers: int = 0
    on_disk: int = 0
    unshared: int = 0


def of(images: Iterable[Image]) -> Tree:
    """The tree of *images*."""
    tree = Tree([], [])
    users: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    known = sorted(images, key=lambda image: (len(image.layers), image.created))
    for image in known:
        level, node = tree.roots, None
        for layer in image.layers:
            node = next((each for each in level if each.diff_id == layer.diff_id), None)
            if node is None:
                again = layer.diff_id in sizes
                sizes.setdefault(layer.diff_id, image.layer_size(layer))
                node = Node(layer.diff_id, sizes[layer.diff_id], again=again)
                level.append(node)
            node.shared_by += 1
            users.setdefault(layer.diff_id, set()).add(image.id)
            level = node.children
        if node is not None:
            node.images += _names(image)
    for image in known:
        own = sum(sizes[each] for each in set(image.diff_ids) if users[each] == {image.id})
        size = sum(sizes[each] for each in image.diff_ids)
        tree.unshared += size
        tree.costs.append(Cost(", ".join(_names(image)), size, own))
    tree.layers, tree.on_disk = len(sizes), sum(sizes.values())
    return tree


def _names(image: Image) -> list[str]:
    return [reference.parse(name).familiar for name in image.names] or [f"<none> ({short(image.id)})"]
