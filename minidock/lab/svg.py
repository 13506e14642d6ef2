"""The few shapes that the course's pictures are made of, as SVG text.

A picture carries its own light background: it reads the same in a light theme, in a dark theme, and on
a page where no notebook runs.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field

INK, SOFT, PAPER = "#1f2933", "#616e7c", "#fbfbf8"
BLUE, GREEN, ORANGE, RED, GREY = "#dbeafe", "#d9f2e0", "#fdebd0", "#fbdcd9", "#e8ebee"
LINE = 20  # pixels from one line of text to the next


@dataclass(slots=True)
class Drawing:
    """A canvas of *width* × *height* pixels; shapes are drawn in the order of the calls."""

    width: float
    height: float
    title: str
    shapes: list[str] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, *, dashed: bool = False
    ) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
            f'fill="{colour}" stroke="{SOFT}"{dash}/>'
        )

    def text(
        self, x: float, y: float, words: str, *, colour: str = INK, bold: bool = False, middle: bool = False
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        anchor = ' text-anchor="middle"' if middle else ""
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}" fill="{colour}"{weight}{anchor} xml:space="preserve">'
            f"{html.escape(words)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, arrow: bool = False) -> None:
        head = ' marker-end="url(#arrow)"' if arrow else ""
        self.shapes.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" '
            f'stroke="{SOFT}" stroke-width="1.5"{head}/>'
        )

    def labelled_box(self, x: float, y: float, width: float, height: float, colour: str, words: str) -> None:
        """A box with its words in the middle; a newline starts another line."""
        self.box(x, y, width, height, colour)
        lines = words.split("\n")
        first = y + height / 2 - (len(lines) - 1) * LINE / 2 + 4
        for number, line in enumerate(lines):
            self.text(x + width / 2, first + number * LINE, line, middle=True, bold=number == 0)

    def render(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" role="img" style="max-width:100%;height:auto" '
            'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">'
            f"<title>{html.escape(self.title)}</title>"
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{SOFT}"/>'
            "</marker></defs>"
            f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>' + "".join(self.shapes) + "</svg>"
        )
