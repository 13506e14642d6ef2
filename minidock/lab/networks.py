"""The networks of containers as a picture: bridges, their cables, who is at the other end, rules."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minidock.lab import svg
from minidock.lab.pictures import PAGE
from minidock.lab.svg import LINE, Drawing

if TYPE_CHECKING:
    from minidock.engine import Engine
    from minidock.network_view import Node

_MARGIN, _GAP, _PADDING = 16.0, 14.0, 12.0  # pixels
_BRIDGE, _SPACE = 250.0, 290.0  # widths of the boxes at both ends of a cable
_LETTER = 7.3  # pixels of the widest letter


class NetworkMap:
    """The host with its bridges at the left, the network namespaces of containers at the right.

    Drawn from what `network show` prints, which is what the kernel says at this moment: *view* is
    ``engine.network_view()``.
    """

    def __init__(self, view: Node) -> None:
        self.view = view

    @classmethod
    def of(cls, engine: Engine) -> NetworkMap:
        """The networks of *engine* now."""
        return cls(engine.network_view())

    def _repr_svg_(self) -> str:
        drawing = Drawing(PAGE, 0, "The networks of containers")
        inner = PAGE - 2 * _MARGIN
        y = _MARGIN
        host = [self.view.name, *_lines(self.view.detail, inner)]
        _box(drawing, _MARGIN, y, inner, svg.GREY, host)
        y += _height(host) + _GAP
        bridges = [node for node in self.view.below if node.kind == "bridge"]
        for bridge in bridges:
            y = _draw_bridge(drawing, bridge, y) + _GAP
        if not bridges:
            drawing.text(_MARGIN, y + LINE, "no networks yet", colour=svg.SOFT)
            y += LINE + _GAP
        for node in self.view.below:
            if node.kind == "filter":
                y = _draw_filter(drawing, node, y) + _GAP
        drawing.height = y
        return drawing.render()

    def __repr__(self) -> str:
        return "\n".join(_told(self.view))


def _draw_bridge(drawing: Drawing, bridge: Node, top: float) -> float:
    """A bridge beside its cables, from *top* on; returns where it ends."""
    words = [bridge.name, *_lines(bridge.detail, _BRIDGE)]
    ends = [_end(cable) for cable in bridge.below]
    height = max(_height(words), sum(_height(lines) + _GAP for lines in ends) - _GAP)
    _box(drawing, _MARGIN, top, _BRIDGE, svg.BLUE, words, height)
    left, y = PAGE - _MARGIN - _SPACE, top
    for cable, lines in zip(bridge.below, ends, strict=True):
        middle = y + _height(lines) / 2
        drawing.line(_MARGIN + _BRIDGE, middle, left, middle)
        drawing.text((_MARGIN + _BRIDGE + left) / 2, middle - 6, cable.name, colour=svg.SOFT, middle=True)
        _box(drawing, left, y, _SPACE, svg.GREEN if cable.below else svg.PAPER, lines)
        y += _height(lines) + _GAP
    return top + height


def _end(cable: Node) -> list[str]:
    """What stands in the box at the end of a cable: one network namespace, with all who share it."""
    if not cable.below:
        return ["nobody", "the other end is gone"]
    names = ", ".join(container.name for container in cable.below)
    return [_cut(names, _SPACE), *_lines(cable.below[0].detail.replace(", ", "\n"), _SPACE)]


def _draw_filter(drawing: Drawing, node: Node, top: float) -> float:
    width = PAGE - 2 * _MARGIN
    words = [node.name]
    for each in node.below:
        words += _lines(f"{each.name}   {each.detail}", width)
    _box(drawing, _MARGIN, top, width, svg.ORANGE, words)
    return top + _height(words)


def _box(
    drawing: Drawing, x: float, y: float, width: float, colour: str, words: list[str], height: float = 0
) -> None:
    drawing.box(x, y, width, height or _height(words), colour, dashed=colour == svg.PAPER)
    for number, line in enumerate(words):
        drawing.text(x + _PADDING, y + (number + 1) * LINE, line, bold=number == 0)


def _height(words: list[str]) -> float:
    return len(words) * LINE + 10


def _lines(text: str, width: float) -> list[str]:
    """*text* in lines that fit into a box of *width* pixels."""
    letters = int((width - 2 * _PADDING) / _LETTER)
    return [line for part in text.split("\n") for line in textwrap.wrap(part, letters)]


def _cut(text: str, width: float) -> str:
    letters = int((width - 2 * _PADDING) / _LETTER)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _told(node: Node, indent: str = "") -> Iterator[str]:
    yield f"{indent}{node.name}{f'  ({node.detail})' if node.detail else ''}"
    for each in node.below:
        yield from _told(each, f"{indent}  ")
