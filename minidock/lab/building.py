"""A Dockerfile as it is built: instruction by instruction, what the cache knew, what became a layer."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock import human
from minidock.build_events import (
    CacheHit,
    CacheMiss,
    ContainerEnded,
    ContainerMade,
    LayerMade,
    StepBegun,
    StepDone,
)
from minidock.engine import Engine
from minidock.errors import MinidockError
from minidock.lab import svg
from minidock.lab.svg import Drawing

_ROW, _GAP, _TEXT, _LAYER = 46, 8, 508, 180  # pixels: a row, between two, the two columns
_LONGEST = 66  # letters of an instruction that fit
_NOT_ASKED = "--no-cache was given"
_LISTED = 6  # changes named of one layer


@dataclass(slots=True)
class Row:
    """One instruction's turn. *outcome* is ``from``, ``hit``, ``made``, ``config`` or ``failed``."""

    stage: str
    number: int
    total: int
    text: str
    outcome: str = ""
    reason: str = ""  # why the cache did not have it
    command: str = ""  # what a container ran
    exit_code: int = 0
    changes: tuple[str, ...] = ()
    layer: int | None = None  # bytes of the layer, packed

    @property
    def effect(self) -> str:
        """What it did to the image, in a few words."""
        if self.outcome == "from":
            return "the base image"
        if self.outcome == "failed":
            return f"exit code {self.exit_code}" if self.command else "failed"
        return "config only" if self.layer is None else f"+ layer, {human.size(self.layer)}"

    @property
    def cache(self) -> str:
        """What the cache said; nothing when it was not to be asked."""
        if self.outcome == "hit":
            return "in the cache"
        return f"not in the cache: {self.reason}" if self.reason and self.reason != _NOT_ASKED else ""

    def explain(self) -> str:
        """One or two sentences about it."""
        parts = [f"{self.number}/{self.total}  {self.text} —"]
        if self.outcome == "hit":
            parts.append("It was done before, on the same image, with the same files: the result is taken.")
        elif self.cache:
            parts.append(f"{self.cache[0].upper()}{self.cache[1:]}.")
        if self.command:
            parts.append(f"A container ran `{self.command}`, exit code {self.exit_code}.")
        if self.changes:
            more = f" and {len(self.changes) - _LISTED} more" if len(self.changes) > _LISTED else ""
            parts.append(f"Its changes: {', '.join(self.changes[:_LISTED])}{more}.")
        return " ".join([*parts, f"Effect: {self.effect}."])


class BuildPicture:
    """Builds an image and shows how; *options* are those of ``Engine.build``.

    Green was in the cache, orange was made now, blue is the base, grey changes only the config, red
    failed. In a running notebook, the buttons go through the build step by step. A build that fails is
    a picture, too: *error* says why.
    """

    def __init__(self, engine: Engine, context: str | Path, **options: Any) -> None:
        self.rows: list[Row] = []
        self.error: MinidockError | None = None
        self.id = ""
        self._open: dict[str, Row] = {}
        try:
            self.id = engine.build(context, explain=True, on_event=self._see, **options).id
        except MinidockError as error:
            if not self.rows:
                raise
            self.error = error
            for row in self._open.values():
                row.outcome = row.outcome or "failed"

    def _see(self, event: object) -> None:
        """Note one event of the build (minidock/build/events.py)."""
        match event:
            case StepBegun(stage=stage, number=number, total=total, text=text):
                self._open[stage] = Row(stage, number, total, " ".join(text.split()))
                self.rows.append(self._open[stage])
            case CacheHit(stage=stage):
                self._open[stage].outcome = "hit"
            case CacheMiss(stage=stage, reason=reason):
                self._open[stage].reason = reason
            case ContainerMade(stage=stage, arguments=words):
                self._open[stage].command = " ".join(words)
            case ContainerEnded(stage=stage, exit_code=code):
                self._open[stage].exit_code = code
            case LayerMade(stage=stage, changes=changes):
                self._open[stage].changes = tuple(map(str, changes))
            case StepDone(stage=stage, layer=layer):
                row = self._open[stage]
                row.layer = layer.size if layer else None
                if not row.outcome:
                    made = "made" if layer or row.command else "config"
                    row.outcome = made if row.reason else "from"

    @property
    def hits(self) -> int:
        """How many steps came from the cache."""
        return sum(row.outcome == "hit" for row in self.rows)

    # --- how it is shown

    def draw(self, upto: int | None = None) -> str:
        """The picture as SVG; of the rows from number *upto* on only the text is shown."""
        shown = len(self.rows) if upto is None else upto
        ending = str(self.error).splitlines()[0] if self.error else ""
        height = 40 + len(self.rows) * (_ROW + _GAP) + (24 if ending else 0)
        drawing = Drawing(_TEXT + _LAYER + 32, height, "A build, instruction by instruction")
        drawing.text(16, 24, "the Dockerfile", bold=True)
        drawing.text(_TEXT + 24, 24, "the image", bold=True)
        for number, row in enumerate(self.rows):
            self._row(drawing, row, 36 + number * (_ROW + _GAP), done=number < shown)
        if ending and shown == len(self.rows):
            drawing.text(16, height - 12, human.shortened(ending, 100), colour="#a61b1b")
        return drawing.render()

    def _row(self, drawing: Drawing, row: Row, top: float, *, done: bool) -> None:
        drawing.box(8, top, _TEXT, _ROW, _COLOURS[row.outcome] if done else "none", dashed=not done)
        stage = "" if row.stage.isdigit() else f"[{row.stage}] "
        text = human.shortened(f"{stage}{row.text}", _LONGEST)
        cache = human.shortened(row.cache.partition(": before")[0], _LONGEST) if done else ""
        drawing.text(18, top + (19 if cache else 28), text, bold=True)
        if not done:
            return
        drawing.text(18, top + 37, cache, colour=svg.SOFT)
        left = _TEXT + 24
        if row.layer is not None or row.outcome in ("from", "failed"):
            drawing.line(8 + _TEXT, top + _ROW / 2, left - 2, top + _ROW / 2, arrow=True)
            colour = _COLOURS[row.outcome]
            drawing.labelled_box(left, top + 4, _LAYER - 8, _ROW - 8, colour, row.effect)
        else:
            drawing.text(left + 8, top + 28, row.effect, colour=svg.SOFT)

    def _repr_svg_(self) -> str:
        return self.draw()

    def __repr__(self) -> str:
        lines = [f"{row.number}/{row.total}  {row.text}\n      {_line(row)}" for row in self.rows]
        return "\n".join([*lines, *([str(self.error)] if self.error else [])])

    def widget(self) -> Any:
        """The picture with buttons: one step back, one step on, all; the step in words below."""
        import ipywidgets

        back, on, everything = (ipywidgets.Button(description=each) for each in ("◀ back", "step ▶", "all"))
        picture, words = ipywidgets.HTML(), ipywidgets.HTML()
        at = 0

        def go(to: int) -> None:
            nonlocal at
            at = min(max(to, 0), len(self.rows))
            picture.value = self.draw(at)
            said = self.rows[at - 1].explain() if at else "Press step: the first instruction is carried out."
            words.value = f"<p>{html.escape(said)}</p>"

        back.on_click(lambda _: go(at - 1))
        on.on_click(lambda _: go(at + 1))
        everything.on_click(lambda _: go(len(self.rows)))
        go(0)
        return ipywidgets.VBox([ipywidgets.HBox([back, on, everything]), picture, words])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            **self.widget()._repr_mimebundle_(),
            "image/svg+xml": self.draw(),
            "text/plain": repr(self),
        }


_COLOURS = {
    "": svg.PAPER,
    "from": svg.BLUE,
    "hit": svg.GREEN,
    "made": svg.ORANGE,
    "config": svg.GREY,
    "failed": svg.RED,
}


def _line(row: Row) -> str:
    return " · ".join(filter(None, (row.cache, row.effect)))
