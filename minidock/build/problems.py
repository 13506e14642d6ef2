"""What is wrong in a Dockerfile, where it stands, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from minidock.errors import InvalidInput, MinidockError
from minidock.human import shortened


class SyntaxProblem(InvalidInput):
    """A Dockerfile, or one word of it, that cannot be understood.

    *reason* is the bare text, in BuildKit's words. Whoever finds the problem often does not know where
    it stands: :meth:`at` adds that, once, on the way up.
    """

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.reason = reason
        self.line = 0

    def at(self, name: str, line: int, text: str) -> SyntaxProblem:
        """The same problem, with the file's *name*, the *line* and the *text* that stands there."""
        if self.line:
            return self
        self.line = line
        self.message = f"{name}:{line}: {self.reason}" if name else self.reason
        if shown := " ".join(text.split()):
            reads = f"The line reads: {shortened(shown, 200)}"
            self.hint = f"{reads}\n{self.hint}" if self.hint else reads
        return self


class CommandFailed(MinidockError):
    """The command of a RUN ended with another code than 0; *exit_code* is that code, as in Docker."""


def meant(word: str, options: Iterable[str]) -> str:
    """`` (did you mean FROM?)`` for ``FORM``, in the writer's own case; empty when nothing is near."""
    import difflib

    near = difflib.get_close_matches(word.lower(), list(options), n=1, cutoff=0.5)
    if not near:
        return ""
    return f" (did you mean {near[0].upper() if word.isupper() else near[0]}?)"
