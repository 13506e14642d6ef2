"""``minidock network show``: a drawing of the networks as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from minidock.cli.context import Context
from minidock.cli.flags import Command, Values

if TYPE_CHECKING:
    from rich.tree import Tree

    from minidock.network_view import Node

_STYLES = {
    "host": "bold",
    "bridge": "bold cyan",
    "cable": "yellow",
    "container": "bold green",
    "filter": "bold magenta",
    "port": "green",
    "rule": "magenta",
}
# What stands before a name, so that the plain drawing tells as much as the coloured one.
_WORDS = {"bridge": "bridge ", "cable": "cable ", "container": "═══ container ", "filter": "packet filter, "}


def show(context: Context, values: Values, arguments: list[str]) -> int:
    """Draw namespaces, cables, bridges, rules and ports: in colour in a terminal, plain elsewhere."""
    found = context.engine.network_view()
    if not sys.stdout.isatty():
        print(_line(found))
        for line in _plain(found, ""):
            print(line)
        return 0
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(_styled(found))
    _grow(tree, found)
    Console().print(tree)
    return 0


def _line(node: Node) -> str:
    return f"{_WORDS.get(node.kind, '')}{node.name}{f'  ({node.detail})' if node.detail else ''}"


def _plain(node: Node, indent: str) -> list[str]:
    lines = []
    for number, child in enumerate(node.below, start=1):
        last = number == len(node.below)
        lines.append(f"{indent}{'└── ' if last else '├── '}{_line(child)}")
        lines += _plain(child, indent + ("    " if last else "│   "))
    return lines


def _styled(node: Node) -> str:
    from rich.markup import escape

    name = f"[{_STYLES[node.kind]}]{escape(node.name)}[/]"
    detail = f"  [dim]{escape(node.detail)}[/]" if node.detail else ""
    return f"{_WORDS.get(node.kind, '')}{name}{detail}"


def _grow(tree: Tree, node: Node) -> None:
    for child in node.below:
        _grow(tree.add(_styled(child)), child)


COMMANDS = {
    "network show": Command(
        "network show",
        "Draw namespaces, cables, bridges, rules and published ports as they are",
        show,
        most=0,
    )
}
