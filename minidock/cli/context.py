"""What every verb is given: the global flags, and the engine once somebody asks for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.config import Config
    from minidock.engine import Engine


class Context:
    """The global flags of one command. The engine is built at its first use."""

    def __init__(self, globals_: dict[str, Any]) -> None:
        self.debug: bool = globals_["debug"]
        self.layers: str = globals_["layers"] or os.environ.get("MINIDOCK_LAYERS", "")
        if self.layers:  # for the helper processes of a pull
            os.environ["MINIDOCK_LAYERS"] = os.path.abspath(os.path.expanduser(self.layers))
        self._root: str | None = globals_["root"]
        self._config: str | None = globals_["config"]
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            from minidock.engine import Engine

            self._engine = Engine(config=self.config(), layers=self.layers or None)
            self._engine.on_damage = report
        return self._engine

    def config(self) -> Config:
        from minidock import config

        if self._config and not Path(self._config).exists():  # the default one may be missing, this one not
            raise MinidockError(f"--config {self._config}: no such file")
        root = Path(self._root) if self._root else None
        return config.load(root, Path(self._config) if self._config else None)


def say(text: str) -> None:
    """Print one line for a person beside the output proper: to standard error."""
    print(text, file=sys.stderr, flush=True)


def each(names: list[str], action: Any) -> int:
    """Do *action* for every name, going on after a failure; answers 1 if one failed.

    *action* returns the text to print (None: nothing).
    """
    failed = 0
    for name in names:
        try:
            shown = action(name)
        except MinidockError as error:
            sys.stdout.flush()
            report(error)
            failed = 1
        else:
            if shown is not None:
                print(shown)
    return failed


def report(error: Any) -> None:
    """Show a MinidockError: one line, then what to do about it."""
    say(f"minidock: {error.message}")
    if error.hint:
        say(error.hint)


def confirmed(question: str, force: bool) -> bool:
    """Ask a person, who has to say yes; nobody there means no."""
    if force:
        return True
    print(f"{question}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print()
    return answer.strip().lower() in ("y", "yes")


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
