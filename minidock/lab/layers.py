"""Pictures of layers, drawn from what stands on the disk: a stack and what shows of it; who shares it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidock import human, inspection
from minidock.engine import Engine
from minidock.lab import svg
from minidock.lab.svg import Drawing
from minidock.stacks import Column, Place, Stack, column, container_stack

# Pixels: the titles' column, a row's height, between two rows, between two columns, a letter of the font.
_LEFT, _ROW, _GAP, _APART, _LETTER = 136, 52, 10, 6, 7.3


class LayerExplorer:
    """A stack of layers, and the names that the reader asks about.

    Each column is one name. From the top down: what is seen, then what each layer has there. Green shows,
    grey is hidden, red hides; orange is a copy that the container made, with an arrow from its origin.
    In a running notebook, choose a name to read why; "Look again" reads the disk anew. Until then the picture
    stays as it was drawn: at its end a page removes what it made, and "Run all" gets there before the reader.
    """

    def __init__(self, stack: Stack, paths: Sequence[str]) -> None:
        self.stack = stack
        self.paths = list(paths)

    @classmethod
    def of_directories(
        cls, layers: dict[str, Path], paths: Sequence[str], *, writable: bool = True
    ) -> LayerExplorer:
        """Of directories of your own: ``{"upper": Path(…), "layer 1": Path(…)}``, topmost first."""
        return cls(Stack(tuple(layers), tuple(layers.values()), writable), paths)

    @classmethod
    def of_container(cls, engine: Engine, name: str, paths: Sequence[str]) -> LayerExplorer:
        """Of a container, running or not."""
        container = engine.container(name)
        return cls(container_stack(container.directory, inspection.layer_paths(container)), paths)

    def columns(self) -> list[Column]:
        """What stands on the disk now."""
        return [column(self.stack, path) for path in self.paths]

    def explain(self, path: str) -> str:
        """One or two sentences: which layer gives *path*, and why."""
        return _why(self.stack, column(self.stack, path))

    # --- how it is shown

    def draw(self, chosen: str = "", columns: Sequence[Column] = ()) -> str:
        """The picture as SVG, of *columns* or of what is there now; the one named *chosen* gets a frame."""
        columns = columns or self.columns()
        widths = [max(84.0, len(each.path) * _LETTER + 8) for each in columns]
        rows = len(self.stack.layers) + 1
        width = _LEFT + sum(widths) + _APART * len(widths) + 8
        drawing = Drawing(width, 44 + rows * (_ROW + _GAP) + 12, "Layers, and what shows of them")
        for number, title in enumerate(("what is seen", *self.stack.titles)):
            colour = svg.PAPER if number == 0 else svg.ORANGE if self._upper(number - 1) else svg.GREY
            top = _top(number)
            drawing.box(8, top, width - 16, _ROW, colour, dashed=number == 0)
            note = "read and write" if self._upper(number - 1) else "" if number == 0 else "read only"
            drawing.text(18, top + (23 if note else 31), title, bold=True)
            if note:
                drawing.text(18, top + 40, note, colour=svg.SOFT)
        left = float(_LEFT)
        for each, wide in zip(columns, widths, strict=True):
            if each.path == chosen:
                drawing.box(left - 3, 6, wide + 6, 44 + rows * (_ROW + _GAP) - 4, "none")
            drawing.text(left + wide / 2, 28, each.path, bold=True, middle=True)
            self._column(drawing, each, left, wide)
            left += wide + _APART
        return drawing.render()

    def _column(self, drawing: Drawing, each: Column, left: float, wide: float) -> None:
        by = each.shown_by
        merged = sum(place.shows for place in each.places)
        title = "nothing" if by is None else self.stack.titles[by]
        seen = title.removeprefix("image ").removesuffix(" layer") if merged < 2 else f"{merged} merged"
        drawing.text(
            left + wide / 2, _top(0) + 31, seen, middle=True, colour=svg.SOFT if by is None else svg.INK
        )
        for number, place in enumerate(each.places):
            if not place.kind:
                continue
            copied = number == 0 and each.copied_from is not None
            top = _top(number + 1) + 5
            words = _words(place, copied=copied)
            drawing.labelled_box(left, top, wide, _ROW - 10, _colour(place, copied=copied), words)
        if each.copied_from is not None:
            x = left + wide - 9
            drawing.line(x, _top(each.copied_from + 1) + 4, x, _top(1) + _ROW - 3, arrow=True)

    def _gone(self) -> str:
        """The titles of the layers that were removed."""
        pairs = zip(self.stack.titles, self.stack.layers, strict=True)
        return ", ".join(title for title, layer in pairs if not layer.is_dir())

    def _upper(self, number: int) -> bool:
        return self.stack.writable and number == 0

    def _repr_svg_(self) -> str:
        return self.draw()

    def __repr__(self) -> str:
        return "\n".join(f"{path}: {self.explain(path)}" for path in self.paths)

    def widget(self) -> Any:
        """The picture with a choice of names, the reason below, and a button that reads the disk again."""
        import ipywidgets

        seen = {each.path: each for each in self.columns()}
        names = ipywidgets.ToggleButtons(options=list(seen), style={"button_width": "auto"})
        again = ipywidgets.Button(description="Look again", icon="refresh")
        picture, words = ipywidgets.HTML(), ipywidgets.HTML()

        def show(_: Any = None) -> None:
            each = seen[names.value]
            picture.value = self.draw(each.path, list(seen.values()))
            words.value = f"<p><b>{html.escape(each.path)}</b>: {html.escape(_why(self.stack, each))}</p>"

        def look(_: Any) -> None:
            if gone := self._gone():
                words.value = (
                    f"<p>These layers are gone from the disk: {html.escape(gone)}. Run the page again.</p>"
                )
                return
            seen.update((path, column(self.stack, path)) for path in list(seen))
            show()

        names.observe(show, "value")
        again.on_click(look)
        show()
        return ipywidgets.VBox([ipywidgets.HBox([names, again]), picture, words])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            **self.widget()._repr_mimebundle_(),
            "image/svg+xml": self.draw(),
            "text/plain": repr(self),
        }


def _top(row: int) -> float:
    return 44 + row * (_ROW + _GAP)


def _words(place: Place, *, copied: bool) -> str:
    if place.opaque:
        return "opaque\ndirectory"
    what = "copy" if copied else place.kind
    return f"{what}\n{human.size(place.size)}" if place.kind == "file" else what


def _colour(place: Place, *, copied: bool) -> str:
    if place.kind == "whiteout" or place.opaque:
        return svg.RED
    if copied:
        return "#f8cf8f"
    return svg.GREEN if place.shows else "#d3d8dd"


def _why(stack: Stack, each: Column) -> str:
    kinds = [place.kind for place in each.places]
    by = each.shown_by
    if by is None:
        has = " and ".join(stack.titles[n] for n, kind in enumerate(kinds) if kind not in ("", "whiteout"))
        if not has:
            return "no layer has it."
        if "whiteout" not in kinds:
            return f"gone. It is still in {has}, but a directory above it hides that."
        hider = stack.titles[kinds.index("whiteout")]
        return f"deleted. The whiteout in {hider} hides it; it is still in {has}."
    if each.copied_from is not None:
        copy, original = each.places[by], each.places[each.copied_from]
        return (
            f"seen in {stack.titles[by]}: a whole copy, {copy.size} bytes. The original stays as it was in "
            f"{stack.titles[each.copied_from]}, {original.size} bytes."
        )
    merged = [stack.titles[n] for n, place in enumerate(each.places) if place.shows]
    if len(merged) > 1:
        return f"a directory merged from {', '.join(merged)}."
    hidden = [stack.titles[n] for n, kind in enumerate(kinds) if n > by and kind not in ("", "whiteout")]
    opaque = ", which is opaque," if each.places[by].opaque else ""
    ending = f" It hides what is there in {' and '.join(hidden)}." if hidden else ""
    return f"comes from {stack.titles[by]}{opaque or '.'}{' and hides the rest.' if opaque else ending}"


class SharedImage:
    """Containers that stand on one image: its layers once, and each container's own on top."""

    def __init__(self, engine: Engine, image: str, containers: Sequence[str]) -> None:
        found = engine.image(image)
        self.image = image
        self.layers = [(each.diff_id[7:19], found.layer_size(each)) for each in reversed(found.layers)]
        self.containers = [(name, [str(change) for change in engine.diff(name)]) for name in containers]

    def _repr_svg_(self) -> str:
        wide = min(200, 700 // len(self.containers) - 20)
        tallest = max(len(changes) for _, changes in self.containers)
        box = 44 + max(1, min(tallest, 5)) * 18
        width = max(480, len(self.containers) * (wide + 20) + 20)
        drawing = Drawing(width, 56 + box + 30 + len(self.layers) * 44 + 10, f"Containers of {self.image}")
        for number, (name, changes) in enumerate(self.containers):
            left = 20 + number * (wide + 20)
            drawing.box(left, 20, wide, box, svg.ORANGE)
            drawing.text(left + 10, 40, f"container {name}", bold=True)
            for row, line in enumerate((changes or ["no change"])[:5]):
                drawing.text(left + 10, 62 + row * 18, line)
            drawing.line(left + wide / 2, 20 + box, left + wide / 2, 20 + box + 32, arrow=True)
        top = 20 + box + 36
        drawing.text(20, top + 12, f"image {self.image}: read only, on the disk once", bold=True)
        for number, (digest, size) in enumerate(self.layers):
            level = top + 22 + number * 42
            words = f"layer {len(self.layers) - number}   {digest}…   {human.size(size)}"
            drawing.labelled_box(20, level, width - 40, 36, svg.BLUE, words)
        return drawing.render()

    def __repr__(self) -> str:
        rows = [f"{name}: {', '.join(changes) or 'no change'}" for name, changes in self.containers]
        stack = [f"  layer {len(self.layers) - n}: {digest}…" for n, (digest, _) in enumerate(self.layers)]
        return "\n".join([*rows, f"all on {self.image}:", *stack])
