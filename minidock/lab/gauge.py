"""The cgroup gauge: a real load, and sliders that move its real limits.

The picture is drawn from readings of the cgroup's own files. Where a kernel runs, sliders stand above it
and a Play button takes a reading each half second; elsewhere the readings taken so far are the picture.
"""

from __future__ import annotations

import errno
import html
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from minidock.lab import svg
from minidock.lab.svg import Drawing

MIB = 1 << 20
KEPT = 60  # readings in the picture
_PERIOD = 100_000  # microseconds: the time in which a quota of processor time may be used up
_WIDTH, _HEIGHT = 560, 110  # pixels of one graph


class CgroupLike(Protocol):
    """What a gauge needs of a cgroup: see the kernel module cgroups.py."""

    def apply(self, **limits: Any) -> None: ...
    def statistics(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading: *cpus* in processors, *memory* in MiB, each with its limit; None where there is none."""

    cpus: float
    cpu_limit: float | None
    memory: float
    memory_limit: float | None
    pids: int


class Gauge:
    """What one cgroup uses over time, against its limits. Show it as the last value of a cell."""

    def __init__(self, cgroup: CgroupLike, *, most_cpus: float = 1.0, most_memory: int = 64) -> None:
        self.cgroup, self.most_cpus, self.most_memory = cgroup, most_cpus, most_memory
        self.samples: list[Sample] = []
        self._cpu_limit: float | None = None
        self._last = (time.monotonic(), int(cgroup.statistics()["cpu_usage"] or 0))

    def limit(self, *, cpus: float | None = None, memory: int | None = None) -> None:
        """Move the real limits: *cpus* in processors, *memory* in MiB without more swap."""
        if cpus is not None:
            self.cgroup.apply(cpu_quota=int(cpus * _PERIOD), cpu_period=_PERIOD)
            self._cpu_limit = cpus
        if memory is not None:
            self.cgroup.apply(memory=memory * MIB, memory_swap=memory * MIB)

    def sample(self) -> Sample:
        """Take one reading; processor use is the mean since the last one."""
        now, values = time.monotonic(), self.cgroup.statistics()
        then, used = self._last
        spent = int(values["cpu_usage"] or 0)
        self._last = (now, spent)
        most = values["memory_limit"]
        taken = Sample(
            (spent - used) / 1e9 / max(now - then, 1e-6),
            self._cpu_limit,
            (values["memory_working"] or 0) / MIB,
            None if most is None else most / MIB,
            values["pids"] or 0,
        )
        self.samples = [*self.samples, taken][-KEPT:]
        return taken

    def watch(self, readings: int, every: float = 0.2) -> Gauge:
        """Take *readings*, one *every* seconds."""
        for _ in range(readings):
            time.sleep(every)
            self.sample()
        return self

    def _repr_svg_(self) -> str:
        drawing = Drawing(_WIDTH + 180, 2 * _HEIGHT + 96, "A cgroup: what it uses, against its limits")
        taken = self.samples
        cpus = [(each.cpus, each.cpu_limit) for each in taken]
        memory = [(each.memory, each.memory_limit) for each in taken]
        _graph(drawing, 34, "processors", "", cpus, self.most_cpus)
        _graph(drawing, 34 + _HEIGHT + 44, "memory", " MiB", memory, self.most_memory)
        if taken:
            drawing.text(_WIDTH + 36, 2 * _HEIGHT + 76, f"processes: {taken[-1].pids}")
        return drawing.render()

    def __repr__(self) -> str:
        if not self.samples:
            return "no reading yet"
        last = self.samples[-1]
        return (
            f"{len(self.samples)} readings; now {last.cpus:.2f} processors, "
            f"{last.memory:.1f} MiB, {last.pids} processes"
        )

    def _limits(self) -> tuple[float | None, float | None]:
        """The limits of the last reading: processors, MiB; None where there is none."""
        return (self.samples[-1].cpu_limit, self.samples[-1].memory_limit) if self.samples else (None, None)

    def widget(self) -> Any:
        """Two sliders, a Play button that takes a reading at each tick, and the picture."""
        import ipywidgets

        picture = ipywidgets.HTML(self._repr_svg_())
        say = ipywidgets.HTML()
        most_cpus, most_memory = self.most_cpus, self.most_memory
        cpu_limit, memory_limit = self._limits()  # a slider stands where the limit is, before it is moved
        cpus = ipywidgets.FloatSlider(
            value=cpu_limit or most_cpus, min=0.1, max=most_cpus, step=0.1, description="cpus"
        )
        memory = ipywidgets.IntSlider(
            value=memory_limit or most_memory, min=4, max=most_memory, description="MiB"
        )
        play = ipywidgets.Play(min=0, max=10_000, interval=500)

        def move(**limits: Any) -> None:
            try:
                self.limit(**limits)
                say.value = ""
            except Exception as error:  # the kernel may refuse: less memory than it can take back
                say.value = _complaint(error)

        def tick(_: Any) -> None:
            try:
                self.sample()
                picture.value = self._repr_svg_()
            except Exception as error:
                say.value = _complaint(error)

        cpus.observe(lambda change: move(cpus=change["new"]), "value")
        memory.observe(lambda change: move(memory=change["new"]), "value")
        play.observe(tick, "value")
        return ipywidgets.VBox([ipywidgets.HBox([play, cpus, memory]), picture, say])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            **self.widget()._repr_mimebundle_(),
            "image/svg+xml": self._repr_svg_(),
            "text/plain": repr(self),
        }


def _complaint(error: Exception) -> str:
    """What stands below the picture: "Run all" has come to the cell that removes the container, or worse."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "This cgroup is gone: its container was removed. Run this cell again."
    if number == errno.EBUSY:  # v1; v2 lets the out-of-memory killer make room
        return "The kernel keeps the old limit: more than the new one is in use. Try again in a moment."
    return f"<code>{html.escape(str(error))}</code>"


def _graph(
    drawing: Drawing, top: float, name: str, unit: str, points: list[tuple[float, float | None]], most: float
) -> None:
    """One graph: bars for the use, a line for the limit; the newest reading is at the right."""
    drawing.text(16, top - 8, name, bold=True)
    drawing.box(16, top, _WIDTH, _HEIGHT, svg.GREY)
    step = _WIDTH / KEPT
    left = 16 + _WIDTH - len(points) * step
    for number, (used, limit) in enumerate(points):
        x, height = left + number * step, _share(used, most)
        drawing.shapes.append(
            f'<rect x="{x:.0f}" y="{top + _HEIGHT - height:.0f}" width="{step - 1:.0f}" '
            f'height="{height:.0f}" fill="#5b8def"/>'
        )
        if limit is not None and limit <= most:
            y = top + _HEIGHT - _share(limit, most)
            drawing.shapes.append(
                f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{x + step:.0f}" y2="{y:.0f}" '
                'stroke="#b3261e" stroke-width="2"/>'
            )
    if points:
        used, limit = points[-1]
        beyond = limit is None or limit > most
        drawing.text(_WIDTH + 36, top + 24, f"now {used:.2f}{unit}")
        drawing.text(
            _WIDTH + 36, top + 46, "no limit" if beyond else f"limit {limit:g}{unit}", colour="#b3261e"
        )


def _share(value: float, most: float) -> float:
    return min(value / most, 1.0) * _HEIGHT
