"""The errors that reach a user: one clear line, what to do about it, and Docker's exit code."""

from __future__ import annotations


class MinidockError(Exception):
    """Something failed in a way that the user can understand.

    *message* is one line: what failed, on what, and why. *hint*, when given, says what to do.
    *exit_code* is the exit code of a command that ends with this error; None leaves the choice to
    the command (`run` and `exec` answer 125, every other command 1, as Docker does).
    """

    exit_code: int | None = None
    status = 500  # the HTTP status of the Docker Engine API

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message


class InvalidInput(MinidockError):
    """What was asked for makes no sense: a malformed reference, flag or file."""

    status = 400


class NotFound(MinidockError):
    """No such container, image, blob or file."""

    status = 404


class Conflict(MinidockError):
    """The state of the thing forbids it: a name in use, an image used by a container."""

    status = 409


class KernelError(MinidockError):
    """A system call was refused.

    *operation* is the call's name, *arguments* what it was given, *errno* the number that the
    kernel answered, *cause* the likely reason found by looking at the machine (or None).
    """

    def __init__(
        self,
        operation: str,
        arguments: dict[str, object],
        errno: int,
        *,
        cause: str | None = None,
        hint: str | None = None,
    ) -> None:
        import errno as names
        import os

        name = names.errorcode.get(errno, str(errno))
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        super().__init__(f"{operation}({shown}): {name}: {cause or os.strerror(errno)}", hint=hint)
        self.operation = operation
        self.arguments = arguments
        self.errno = errno
        self.errno_name = name
        self.cause = cause
