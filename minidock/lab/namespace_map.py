"""The namespace map: which processes share which namespaces, drawn from the kernel's own numbers."""

from __future__ import annotations

from collections.abc import Mapping

from minidock.lab import svg
from minidock.lab.svg import Drawing

_LEFT, _TOP, _ROW, _COLUMN, _GAP = 230, 62, 34, 119, 8
_COLOURS = (svg.GREY, svg.GREEN, svg.BLUE, svg.ORANGE, svg.RED)

DIVIDES = {
    "mnt": "mounts",
    "pid": "process ids",
    "net": "network",
    "uts": "host name",
    "ipc": "message queues",
    "user": "users, capabilities",
    "cgroup": "root of the cgroups",
    "time": "monotonic clocks",
}


class NamespaceMap:
    """One row a kind, one column a process; equal numbers are one box, for they are one namespace.

    *processes* gives each process a name and its namespaces, as ``namespaces.identify(pid)`` tells them;
    the first should be the host's. A kind that a process lacks is left out of its column.
    """

    def __init__(self, processes: Mapping[str, Mapping[str, int]]) -> None:
        self.processes = dict(processes)
        known = [kind for kind in DIVIDES if any(kind in each for each in self.processes.values())]
        self.kinds = known

    def groups(self, kind: str) -> list[list[str]]:
        """The names of the processes, those that share this namespace together."""
        found: dict[int, list[str]] = {}
        for name, numbers in self.processes.items():
            if kind in numbers:
                found.setdefault(numbers[kind], []).append(name)
        return list(found.values())

    def _repr_svg_(self) -> str:
        names = list(self.processes)
        width = _LEFT + len(names) * _COLUMN + 12
        drawing = Drawing(width, _TOP + len(self.kinds) * _ROW + 34, "Who shares which namespace")
        for column, name in enumerate(names):
            drawing.text(_LEFT + column * _COLUMN + _COLUMN / 2, 30, name, bold=True, middle=True)
        for row, kind in enumerate(self.kinds):
            y = _TOP + row * _ROW
            drawing.text(16, y + 16, kind, bold=True)
            drawing.text(80, y + 16, DIVIDES[kind], colour=svg.SOFT)
            self._draw_row(drawing, kind, y)
        caption = "The same number in the same colour: one namespace, shared."
        drawing.text(16, _TOP + len(self.kinds) * _ROW + 16, caption, colour=svg.SOFT)
        return drawing.render()

    def _draw_row(self, drawing: Drawing, kind: str, y: float) -> None:
        numbers = [each.get(kind) for each in self.processes.values()]
        colours = dict(zip(dict.fromkeys(numbers), _COLOURS * len(numbers), strict=False))
        first = 0
        while first < len(numbers):
            last = first
            while last + 1 < len(numbers) and numbers[last + 1] == numbers[first]:
                last += 1
            if numbers[first] is not None:
                x, width = _LEFT + first * _COLUMN + _GAP / 2, (last - first + 1) * _COLUMN - _GAP
                drawing.box(x, y, width, _ROW - _GAP, colours[numbers[first]])
                drawing.text(x + width / 2, y + 17, str(numbers[first]), middle=True)
            first = last + 1

    def __repr__(self) -> str:
        rows = [["", *self.processes]]
        rows += [
            [kind, *(str(each.get(kind, "-")) for each in self.processes.values())] for kind in self.kinds
        ]
        return "\n".join("".join(f"{cell:<14}" for cell in row).rstrip() for row in rows)
