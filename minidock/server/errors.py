"""Failures as the Engine API tells them: a status, and ``{"message": …}``. One place for all endpoints.

Source: Docker Engine API v1.44, "Errors" (definition ErrorResponse).
"""

from __future__ import annotations

import os
import sys
import traceback

from minidock import files
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

BAD_REQUEST, TIMEOUT, TOO_LARGE, INTERNAL = 400, 408, 413, 500


class Refused(MinidockError):
    """What was sent is no request of this API: *status* says how, *headers* what would be one."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class NotModified(Exception):
    """The thing is as it was asked to be already: 304, without a body."""


def status_of(error: BaseException) -> int:
    """The HTTP status of a failure."""
    if isinstance(error, MinidockError):
        if error.exit_code in (126, 127) and type(error) is MinidockError:
            return BAD_REQUEST  # as Docker: the program that was asked for cannot run
        return error.status
    return INTERNAL


def message_of(error: BaseException) -> str:
    """What to tell the client: one line. A failure that nobody foresaw is shown to the daemon's user only."""
    if isinstance(error, MinidockError):
        return error.message
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno).lower()}"
    return f"internal error: {type(error).__name__}"


def foreseen(error: BaseException) -> bool:
    """Whether it is a failure of what was asked, not of the daemon."""
    return isinstance(error, MinidockError) or getattr(error, "errno", None) in files.FULL


def report(error: BaseException, what: str) -> None:
    """Show a bug where the daemon runs."""
    print(f"minidock serve: {what}: {message_of(error)}", file=sys.stderr)
    traceback.print_exception(error, file=sys.stderr)


__all__ = ["Conflict", "InvalidInput", "MinidockError", "NotFound"]
