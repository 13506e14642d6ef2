"""What compose says while it works: one line for each step, on standard error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TextIO

_GREEN, _YELLOW = 32, 33


def _no_pull() -> AbstractContextManager[Any]:
    return nullcontext(None)


@dataclass(slots=True)
class Report:
    """Where progress goes. *pulling* gives the display of a pull, *building* takes what a build says."""

    out: TextIO
    quiet: bool = False
    pulling: Callable[[], AbstractContextManager[Any]] = _no_pull
    building: Callable[[], AbstractContextManager[Any]] = _no_pull
    lock: Any = None

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def step(self, kind: str, name: str, state: str) -> None:
        """`` Container shop-web-1  Started``."""
        if self.quiet:
            return
        done = not state.endswith("ing")
        if self.out.isatty():
            state = f"\x1b[{_GREEN if done else _YELLOW}m{state}\x1b[0m"
        with self.lock:
            print(f" {kind} {name}  {state}", file=self.out, flush=True)

    def warn(self, text: str) -> None:
        with self.lock:
            print(f"WARNING: {text}", file=self.out, flush=True)
