"""A diary of a student's functions: which of them the engine really called.

A function that asks the kernel for something leaves steps in the container's record. One that only
thinks (reads a text, computes a key) leaves none there, so the last task of its lab keeps a diary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_WRITING = """

def _in_the_diary(function):
    import functools

    @functools.wraps(function)
    def written(*arguments, **named):
        with open({diary!r}, "a") as file:
            file.write(function.__name__ + "\\n")
        return function(*arguments, **named)

    return written


for _each in {names!r}:
    globals()[_each] = _in_the_diary(globals()[_each])
"""


class Diary:
    """A copy of the student's *file* whose functions *names* write each of their calls down.

    *layers* is the directory to give to ``--layers``.
    """

    def __init__(self, file: Path, place: Path, names: Sequence[str]) -> None:
        self.layers = place / "layers"
        self.layers.mkdir()
        self._file = place / "diary"
        self._file.touch()
        writing = _WRITING.format(diary=str(self._file), names=list(names))
        (self.layers / file.name).write_text(file.read_text() + writing)

    def called(self) -> set[str]:
        """The functions that were called, by whatever process."""
        return set(self._file.read_text().split())
