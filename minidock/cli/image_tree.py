"""``minidock image tree``: which layers are shared by which images, and what each image costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context
from minidock.cli.flags import Command, Values

if TYPE_CHECKING:
    from minidock.layer_tree import Node

_HEADINGS = {"Image": "IMAGE", "Size": "SIZE", "Shared": "SHARED", "Own": "OWN"}


def tree(context: Context, values: Values, arguments: list[str]) -> int:
    """Show the local images as a tree of layers."""
    found = context.engine.image_tree()
    for root in found.roots:
        _show(root, "", "")
    if not found.roots:
        print("There are no images with layers.")
        return 0
    print()
    rows = [
        {
            "Image": cost.name,
            "Size": human.size(cost.size),
            "Shared": human.size(cost.size - cost.own),
            "Own": human.size(cost.own),
        }
        for cost in found.costs
    ]
    table.show(rows, _HEADINGS, tuple(_HEADINGS), None)
    print(
        f"\n{found.layers} layers take {human.size(found.on_disk)}; "
        f"if nothing were shared, it would be {human.size(found.unshared)}."
    )
    return 0


def _show(node: Node, lead: str, below: str) -> None:
    """One line for a layer, then those on top of it: one below the other as long as nothing branches off.

    *lead* draws the way to this layer, *below* the way past it.
    """
    while True:
        print(f"{lead}{_line(node)}")
        if len(node.children) != 1:
            break
        node, lead = node.children[0], below
    for child in node.children:
        last = child is node.children[-1]
        _show(child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}")


def _line(node: Node) -> str:
    notes = ", ".join(node.images)
    if node.again:
        notes = f"{notes}  (the same layer as above: it costs nothing here)".lstrip()
    elif node.shared_by > 1:
        notes = f"{notes}  (in {node.shared_by} images)".lstrip()
    digits = node.diff_id.removeprefix("sha256:")[:12]
    return f"{digits}  {human.size(node.size):>8}  {notes}".rstrip()


COMMANDS = {
    "image tree": Command(
        "image tree",
        "Show which layers images share, and what each costs",
        tree,
        most=0,
    ),
}
