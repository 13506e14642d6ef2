"""``with observe():`` what the block changed in the kernel's own view of the machine."""

from __future__ import annotations

import html
from types import TracebackType

from minidock import views
from minidock.views import Change

_PLURAL = {
    "process": "processes",
    "namespace": "namespaces",
    "mount": "mounts",
    "cgroup": "cgroups",
    "link": "links",
}


class Observation:
    """The changes that a ``with`` block made; shown when the block ends, and kept in ``.changes``."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.changes: list[Change] = []

    def __enter__(self) -> Observation:
        self._before = views.snapshot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.changes = views.snapshot().changes(since=self._before)
        if not self.quiet:
            _display(self)

    def of(self, what: str, sign: str = "+") -> list[Change]:
        """The changes of one kind: process, namespace, mount, cgroup or link."""
        return [change for change in self.changes if change.what == what and change.sign == sign]

    def __repr__(self) -> str:
        if not self.changes:
            return "The kernel's view has not changed."
        lines = []
        for what, plural in _PLURAL.items():
            own = [change for change in self.changes if change.what == what]
            if own:
                lines.append(f"{plural}:")
                lines += [f"  {each.sign} {each.name}  {each.detail}".rstrip() for each in own]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.changes:
            return f"<p>{self!r}</p>"
        parts = []
        for what, plural in _PLURAL.items():
            own = [change for change in self.changes if change.what == what]
            if not own:
                continue
            rows = "".join(
                _row(each.sign, f"<code>{html.escape(each.name)}</code>", html.escape(each.detail))
                for each in own
            )
            opened = " open" if len(own) <= 12 else ""
            count = f"{len(own)} {plural if len(own) > 1 else what}"
            parts.append(f"<details{opened}><summary>{count}</summary><table>{rows}</table></details>")
        return "".join(parts)


def _row(*cells: str) -> str:
    # JupyterLab sets table cells to the right, and names of different lengths would have no common edge.
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def observe(*, quiet: bool = False) -> Observation:
    """Watch the kernel's view while a block runs::

        with observe() as seen:
            engine.run("busybox", ["sleep", "60"], detach=True)

    With *quiet* nothing is shown; the changes are in ``seen.changes``.
    """
    return Observation(quiet=quiet)


def _display(observation: Observation) -> None:
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        print(repr(observation))
        return
    if get_ipython() is None:
        print(repr(observation))
    else:
        display(observation)  # type: ignore[no-untyped-call]
