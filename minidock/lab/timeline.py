"""A pull as it happens: its requests and its layers on one time line, from the recorded steps and events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from minidock import trace
from minidock.engine import Engine
from minidock.lab import svg
from minidock.lab.svg import LINE, Drawing

if TYPE_CHECKING:
    from minidock.engine import Event

LEFT, WIDE, RIGHT = 256, 380, 84  # pixels: the names, the time line, the numbers
FETCHING, UNPACKING = svg.ORANGE, svg.GREEN
_PHASES = {"Downloading": "fetch", "Download complete": "unpack", "Extracting": "unpack"}


@dataclass(slots=True)
class Bar:
    """One row of the picture: seconds since the pull began."""

    name: str
    begin: float
    end: float
    note: str = ""
    split: float | None = None  # of a layer: when its last byte had come


class PullTimeline:
    """The requests of a pull above, its layers below; what overlaps in the picture overlapped in time."""

    def __init__(self, title: str, steps: list[trace.Step], events: list[tuple[float, Event]]) -> None:
        self.title = title
        starts = [step.at for step in steps] + [at for at, _ in events]
        begin = min(starts, default=0.0)
        self.requests = [
            Bar(_request(step), step.at - begin, step.at - begin + step.microseconds / 1e6, step.result[:3])
            for step in sorted(steps, key=_order)
        ]
        self.layers = _layers([(at - begin, event) for at, event in events])
        self.seconds = max([bar.end for bar in (*self.requests, *self.layers)], default=0.0)

    def _repr_svg_(self) -> str:
        rows = len(self.requests) + len(self.layers) + 3
        drawing = Drawing(LEFT + WIDE + RIGHT, 44 + rows * LINE + 30, self.title)
        drawing.text(20, 26, self.title, bold=True)
        y = 30.0 + LINE
        drawing.text(20, y, "requests", bold=True)
        drawing.text(LEFT, y, "0 s", colour=svg.SOFT)
        drawing.text(LEFT + WIDE - 34, y, f"{self.seconds:.1f} s", colour=svg.SOFT)
        drawing.line(LEFT + 28, y - 4, LEFT + WIDE - 42, y - 4, arrow=True)
        for bar in self.requests:
            y += LINE
            self._draw(drawing, y, bar, ((bar.begin, bar.end, svg.BLUE),))
        y += 1.5 * LINE
        drawing.text(20, y, "layers", bold=True)
        for bar in self.layers:
            y += LINE
            split = bar.end if bar.split is None else bar.split
            self._draw(drawing, y, bar, ((bar.begin, split, FETCHING), (split, bar.end, UNPACKING)))
        y += 1.5 * LINE
        for x, colour, words in (
            (30, svg.BLUE, "asked → answered"),
            (LEFT, FETCHING, "its bytes arrive"),
            (LEFT + 170, UNPACKING, "the rest is unpacked"),
        ):
            drawing.box(x, y - 10, 14, 12, colour)
            drawing.text(x + 20, y, words)
        return drawing.render()

    def _draw(
        self, drawing: Drawing, y: float, bar: Bar, pieces: tuple[tuple[float, float, str], ...]
    ) -> None:
        drawing.text(30, y, bar.name)
        scale = WIDE / (self.seconds or 1.0)
        for begin, end, colour in pieces:
            drawing.box(LEFT + begin * scale, y - 11, max((end - begin) * scale, 3), 13, colour)
        drawing.text(LEFT + WIDE + 10, y, bar.note, colour=svg.SOFT)

    def __repr__(self) -> str:
        rows = [self.title]
        for bar in (*self.requests, *self.layers):
            rows.append(f"  {bar.begin * 1000:6.0f} ms … {bar.end * 1000:6.0f} ms  {bar.name}  {bar.note}")
        return "\n".join(rows)


def watch_pull(engine: Engine, reference: str) -> PullTimeline:
    """Pull *reference* and draw what happened."""
    events: list[tuple[float, Event]] = []
    with trace.recording(trace.Recorder()) as recorder:
        engine.pull(reference, progress=lambda event: events.append((time.time(), event)))
    requests = [step for step in recorder.steps if "url" in step.arguments]
    return PullTimeline(f"pull {reference}", requests, events)


def _request(step: trace.Step) -> str:
    """``GET manifests/latest``, ``GET blobs/sha256:2b2408e6da21…``."""
    words = urlsplit(str(step.arguments["url"])).path.split("/")
    name = words[-1] if len(words[-1]) < 20 else words[-1][:19] + "…"
    return f"{step.operation} {'/'.join([*words[-2:-1], name])}"


def _order(step: trace.Step) -> tuple[bool, float]:
    """The manifest and the config come first, in time; the layers follow, whichever asked first."""
    return "blobs" in str(step.arguments["url"]), step.at


def _layers(events: list[tuple[float, Event]]) -> list[Bar]:
    """A bar for each layer, in the image's order."""
    bars: dict[str, Bar] = {}
    for at, event in events:
        if event.status == "Pulling fs layer":
            bars[event.id] = Bar(f"layer {event.id}", -1.0, at, _size(event.total))
        bar = bars.get(event.id)
        if bar is None or event.status not in _PHASES:
            continue
        if bar.begin < 0:
            bar.begin = at
        if event.status == "Download complete":
            bar.split = at
        bar.end = at
    for bar in bars.values():
        bar.begin = max(bar.begin, 0.0)
    return list(bars.values())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"
