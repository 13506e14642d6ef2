"""A build as text, for the command and for clients of the Engine API: Docker's classic lines.

With them, the reason for each miss of the cache:

    Step 2/3 : RUN make
     ---> Not in cache: src/main.c changed
     ---> Running in 683214ff62fd
     ---> 671558683d8a

Stages may be built side by side. Their lines are shown one stage after the other all the same: what a
later stage says waits until those before it are done.
"""

from __future__ import annotations

from collections.abc import Callable

from minidock import human
from minidock.build_events import (
    CacheHit,
    CacheMiss,
    ContainerEnded,
    ContainerMade,
    Event,
    ImageWritten,
    LayerMade,
    Note,
    Output,
    StageDone,
    StepBegun,
    StepDone,
)

_MOST_CHANGES = 12  # lines of --explain for one layer
_BOLD, _GREEN, _YELLOW, _RED = 1, 32, 33, 31


class Page:
    """Gives the events of a build as lines to *write*; warnings, one line each, to *warn*.

    *quiet*: nothing, or after a failure all of it, to *warn*. *colours* are for a terminal; *errors_in* is
    the colour of what RUN writes to its stderr, 0 for none.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        warn: Callable[[str], object],
        *,
        quiet: bool = False,
        explain: bool = False,
        colours: bool = False,
        errors_in: int = 0,
    ) -> None:
        self._out, self._warn, self._quiet, self._explain = write, warn, quiet, explain
        self._colours = colours and not quiet
        self._errors_in = errors_in or (_RED if self._colours else 0)
        self._order: list[str] = []  # stages, as they began
        self._waiting: dict[str, list[bytes]] = {}
        self._done: set[str] = set()
        self._kept = bytearray()  # of a quiet build

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Note(text=text, warning=warning):
                if warning:
                    self._warn(text)
                else:
                    self._write(f"{text}\n".encode())
            case ImageWritten(id=image_id, names=names):
                lines = [f"Successfully built {_short(image_id)}"]
                lines += [f"Successfully tagged {name}" for name in names]
                self._write("".join(f"{line}\n" for line in lines).encode())
            case StageDone(stage=stage):
                self._done.add(stage)
                self._pass_on()
            case Output(stage=stage, stream=stream, data=data):
                painted = stream == 2 and self._errors_in
                self._add(stage, b"\x1b[%dm%s\x1b[0m" % (self._errors_in, data) if painted else data)
            case _:
                if lines := self._lines(event):
                    self._add(event.stage, "".join(f"{line}\n" for line in lines).encode(errors="replace"))

    def failed(self) -> None:
        """Show what is still held back: the stage that failed may not be the first."""
        for stage in self._order:
            self._flush(stage)
        if self._kept:
            self._warn(self._kept.decode(errors="replace").rstrip("\n"))

    # --- the lines of one event ------------------------------------------------------------------

    def _lines(self, event: Event) -> list[str]:
        match event:
            case StepBegun(number=0, text=text):
                return [self._bold(f"Trigger : {_one_line(text)}")]
            case StepBegun(number=number, total=total, text=text):
                return [self._bold(f"Step {number}/{total} : {_one_line(text)}")]
            case CacheHit():
                return [self._colour(_GREEN, " ---> Using cache")]
            case CacheMiss(reason=reason):
                return [self._colour(_YELLOW, f" ---> Not in cache: {reason}")]
            case ContainerMade(container=container, arguments=arguments):
                lines = [f" ---> Running in {container[:12]}"]
                if self._explain:
                    words = human.shortened(_one_line(" ".join(arguments)), 90)
                    lines.append(f"      container  made from the image so far; it runs: {words}")
                return lines
            case ContainerEnded() if self._explain:
                return self._container(event)
            case LayerMade() if self._explain:
                return self._layer(event)
            case StepDone(id=image_id):
                return [f" ---> {_short(image_id)}"]
        return []

    def _container(self, event: ContainerEnded) -> list[str]:
        spent = sum(step.microseconds for step in event.requests) / 1000
        count = len(event.requests)
        return [
            f"      container  ended with {event.exit_code} after {event.seconds:.2f} s; "
            f"the kernel was asked {count} times to make it, {spent:.0f} ms"
        ]

    def _layer(self, event: LayerMade) -> list[str]:
        shown = [
            f"      change     {change.kind} {_one_line(change.path)}"
            for change in event.changes[:_MOST_CHANGES]
        ]
        if len(event.changes) > _MOST_CHANGES:
            shown.append(f"      change     … and {len(event.changes) - _MOST_CHANGES} more")
        size = f"{human.size(event.files)} of files, {human.size(event.layer.size)} packed"
        return [*shown, f"      commit     layer {_short(event.layer.diff_id)}: {size}"]

    # --- one stage after the other ---------------------------------------------------------------

    def _add(self, stage: str, text: bytes) -> None:
        if stage not in self._order:
            self._order.append(stage)
        self._waiting.setdefault(stage, []).append(text)
        self._pass_on()

    def _pass_on(self) -> None:
        """Show all of the first stage that is not done, and of those before it."""
        for stage in self._order:
            self._flush(stage)
            if stage not in self._done:
                return

    def _flush(self, stage: str) -> None:
        for text in self._waiting.pop(stage, []):
            self._write(text)

    def _write(self, text: bytes) -> None:
        if self._quiet:
            self._kept += text
            return
        self._out(text)

    def _bold(self, text: str) -> str:
        return self._colour(_BOLD, text)

    def _colour(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _one_line(text: str) -> str:
    """What a Dockerfile says must not move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
