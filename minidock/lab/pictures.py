"""Pictures from live data. Each is a small class that a notebook shows as SVG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from minidock.lab import svg
from minidock.lab.svg import LINE, Drawing

PAGE = 720  # pixels: what JupyterLab has for an output beside its file list on a small laptop


class MountLike(Protocol):
    """What a picture needs to know of one mount (see the kernel's mountinfo, proc_pid_mountinfo(5))."""

    @property
    def id(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def fstype(self) -> str: ...
    @property
    def source(self) -> str: ...


class MachineAndContainer:
    """A virtual machine beside a container: who brings a kernel of its own."""

    def __init__(self, kernel: str | None = None) -> None:
        self.kernel = kernel or os.uname().release

    def _repr_svg_(self) -> str:
        drawing = Drawing(PAGE, 330, "Two virtual machines beside two containers")
        drawing.text(180, 24, "Virtual machines", bold=True, middle=True)
        drawing.text(540, 24, "Containers", bold=True, middle=True)
        for x in (20, 185):
            drawing.labelled_box(x, 40, 155, 46, svg.GREEN, "application")
            drawing.labelled_box(x, 90, 155, 46, svg.BLUE, "its libraries")
            drawing.labelled_box(x, 140, 155, 46, svg.RED, "a whole system\nand its own kernel")
        drawing.labelled_box(20, 194, 320, 36, svg.ORANGE, "hypervisor: imitates hardware")
        for x in (380, 545):
            drawing.box(x, 40, 155, 146, svg.PAPER, dashed=True)
            drawing.labelled_box(x + 6, 46, 143, 64, svg.GREEN, "application\na process")
            drawing.labelled_box(x + 6, 116, 143, 64, svg.BLUE, "its libraries\nan image")
        drawing.labelled_box(380, 194, 320, 36, svg.GREY, "namespaces · cgroups · layers")
        for x in (20, 380):
            drawing.labelled_box(x, 238, 320, 36, svg.RED, f"the host's kernel  {self.kernel}")
            drawing.labelled_box(x, 282, 320, 36, svg.GREY, "hardware")
        return drawing.render()

    def __repr__(self) -> str:
        return (
            "virtual machine: application, libraries, a kernel of its own, imitated hardware\n"
            f"container:       application, libraries, the host's kernel {self.kernel}"
        )


class MountTree:
    """The mounts of one mount namespace as a tree.

    With *below* only / and what lies below these directories is drawn, and the rest counted.
    """

    def __init__(self, mounts: Sequence[MountLike], title: str, below: Sequence[str] = ()) -> None:
        self.title = title
        rows = _walk(mounts)
        shown = ("/", *below)
        self.rows = [row for row in rows if not below or _first(row[1].path) in shown]
        self.hidden = len(rows) - len(self.rows)

    def draw(self, drawing: Drawing, x: float, y: float) -> None:
        drawing.text(x, y, self.title, bold=True)
        for number, (depth, mount) in enumerate(self.rows, start=1):
            left, top = x + depth * 16, y + number * LINE
            name = _short(mount.path, 30)
            drawing.text(left, top, name)
            drawing.text(x + 270, top, mount.fstype, colour=svg.SOFT)
        if self.hidden:
            drawing.text(x, y + (len(self.rows) + 1) * LINE, self._rest, colour=svg.SOFT)

    @property
    def _rest(self) -> str:
        return f"and {self.hidden} more" if self.hidden else ""

    @property
    def height(self) -> float:
        return (len(self.rows) + 1 + bool(self.hidden)) * LINE

    def _repr_svg_(self) -> str:
        drawing = Drawing(PAGE / 2, self.height + 30, self.title)
        self.draw(drawing, 20, 26)
        return drawing.render()

    def __repr__(self) -> str:
        rows = "\n".join(f"{'  ' * depth}{m.path}  ({m.fstype})" for depth, m in self.rows)
        return f"{self.title}\n{rows}\n{self._rest}".rstrip()


class BeforeAndAfter:
    """Two mount trees side by side: the same process before and after a step."""

    def __init__(self, before: MountTree, after: MountTree) -> None:
        self.before, self.after = before, after

    def _repr_svg_(self) -> str:
        height = max(self.before.height, self.after.height) + 30
        title = f"{self.before.title}, then {self.after.title}"
        drawing = Drawing(PAGE, height, title)
        self.before.draw(drawing, 16, 26)
        self.after.draw(drawing, PAGE / 2 + 14, 26)
        drawing.line(PAGE / 2, 40, PAGE / 2, height - 16)
        return drawing.render()

    def __repr__(self) -> str:
        return f"{self.before!r}\n\n{self.after!r}"


def _walk(mounts: Sequence[MountLike]) -> list[tuple[int, MountLike]]:
    """(depth, mount) from the root down, in the order in which the mounts were made."""
    known = {mount.id for mount in mounts}
    children: dict[int, list[MountLike]] = {}
    roots = []
    for mount in mounts:
        if mount.parent in known and mount.parent != mount.id:
            children.setdefault(mount.parent, []).append(mount)
        else:
            roots.append(mount)
    rows: list[tuple[int, MountLike]] = []
    waiting = [(0, mount) for mount in reversed(roots)]
    while waiting:
        depth, mount = waiting.pop()
        rows.append((depth, mount))
        waiting += [(depth + 1, child) for child in reversed(children.get(mount.id, []))]
    return rows


def _first(path: str) -> str:
    """``/sys/fs/cgroup`` → ``/sys``."""
    return "/" + path.split("/")[1]


def _short(path: str, length: int) -> str:
    return path if len(path) <= length else "…" + path[-(length - 1) :]
