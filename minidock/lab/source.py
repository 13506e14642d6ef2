"""The engine's own code, shown in a notebook: what a lesson explains is what runs."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


class Source:
    """The text of one function, with the file and line where it stands."""

    def __init__(self, function: Callable[..., Any]) -> None:
        function = inspect.unwrap(function)
        lines, first = inspect.getsourcelines(function)
        if lines and lines[0].startswith("@trace."):  # the mark that makes its steps tell where they are from
            lines, first = lines[1:], first + 1
        self.text = "".join(lines).rstrip()
        file = Path(inspect.getsourcefile(function) or "")
        self.place = f"{file.relative_to(REPOSITORY) if REPOSITORY in file.parents else file}, line {first}"

    def __repr__(self) -> str:
        return f"# {self.place}\n{self.text}"

    def _repr_html_(self) -> str:
        try:
            from pygments import highlight
            from pygments.formatters import HtmlFormatter
            from pygments.lexers import PythonLexer
        except ImportError:
            return f"<pre>{html.escape(repr(self))}</pre>"
        # Colours of its own on a light card: readable in a light theme and in a dark one. They stand at the
        # <pre> itself, because JupyterLab gives every <pre> the colours of its theme. At 12 pixels our
        # longest lines fit beside JupyterLab's list of files; larger, they would be broken within a word.
        card = "background:#fbfbf8; color:#1f2933; padding:8px 12px; border-radius:8px; font-size:12px"
        style = HtmlFormatter(noclasses=True, style="friendly", prestyles=card)
        styled: str = highlight(repr(self), PythonLexer(), style)
        return styled


def show(function: Callable[..., Any]) -> Source:
    """The source of *function*, as it stands in the engine."""
    return Source(function)
