"""How one request passes the door to the kernel: made raw, recorded as a step, its errors explained.

The only file that uses ctypes. `syscalls.py` holds the calls themselves; everyone else uses those.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, NoReturn

from minidock import trace
from minidock.errors import InvalidInput, KernelError, MinidockError
from minidock.kernel.constants import NUMBERS, SIGCHLD

Pathname = str | os.PathLike[str]

_libc = ctypes.CDLL(None, use_errno=True)
_libc_holding_the_gil = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = _libc_holding_the_gil.syscall.restype = ctypes.c_long
_numbers = NUMBERS.get(os.uname().machine, {})


def syscall(name: str, *arguments: Any, _library: ctypes.CDLL = _libc) -> int:
    """Make one raw system call by its number. Raises OSError, as Python's own calls do.

    Takes ints, paths (text or PathLike), bytes, a :func:`buffer`, and None as the null pointer.
    """
    if name not in _numbers:
        raise MinidockError(f"{name}: its number is not known on {os.uname().machine}")
    passed: list[Any] = []
    for argument in arguments:
        if isinstance(argument, int):  # ctypes would pass a bare int as 32 bits
            passed.append(ctypes.c_long(argument))
        elif isinstance(argument, (str, os.PathLike)):
            passed.append(encode(argument))
        else:
            passed.append(argument)
    result: int = _library.syscall(ctypes.c_long(_numbers[name]), *passed)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def encode(text: Pathname) -> bytes:
    """Text as the bytes that the kernel sees. Raises InvalidInput for a null byte."""
    encoded = os.fsencode(text)
    if b"\0" in encoded:  # C would read a shorter string than the one that was checked
        raise InvalidInput(f"{os.fsdecode(encoded)!r}: holds a null byte")
    return encoded


def buffer(content: bytes) -> Any:
    """Memory that the kernel may write to, holding *content*; ``bytes(buffer)`` reads it back."""
    return (ctypes.c_char * len(content)).from_buffer_copy(content)


def address(memory: Any) -> int:
    """Where a :func:`buffer` lies, for structures that hold pointers. Keep the buffer alive meanwhile."""
    return ctypes.addressof(memory)


def request(operation: str, **arguments: Any) -> Request:
    """Record one request; an OSError inside becomes a KernelError with its cause."""
    return Request(operation, arguments)


class Request(trace.Taking):
    """A request to the kernel while it is made."""

    __slots__ = ()

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, OSError):
            return super().__exit__(kind, error, traceback)
        try:
            raise_for(self.step.operation, self.step.arguments, error.errno or 0)
        except KernelError as refused:
            super().__exit__(KernelError, refused, traceback)
            raise


def raise_for(operation: str, arguments: dict[str, Any], errno: int) -> NoReturn:
    """Raise the KernelError for a refused call, with the cause that the errno tutor finds.

    *arguments* are as recorded: paths as text, flags by name (``"MS_BIND|MS_REC"``).
    """
    try:
        from minidock.kernel import tutor

        cause, hint = tutor.explain(operation, arguments, errno, ask=syscall) or (None, None)
    except Exception:  # a tutor that stumbles must not hide the kernel's answer
        cause, hint = None, None
    raise KernelError(operation, arguments, errno, cause=cause, hint=hint) from None


def forbid_imports() -> None:
    """Let no later `import` read a file: after a change of root it would run the container's code as ours.

    Modules already loaded stay usable. The errno tutor is loaded first, while its file is still ours.
    """
    import contextlib

    with contextlib.suppress(ImportError):
        import minidock.kernel.tutor  # noqa: F401
    in_memory = {"BuiltinImporter", "FrozenImporter"}
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") in in_memory]


def fork_by_clone(flags: int) -> int:
    """clone(2) without a new stack: a fork with *flags*. Returns 0 in the child, its pid in the parent.

    What `os.fork` does around fork(2), this does around clone(2): it keeps the GIL, holds the import
    lock meanwhile, and lets Python put its locks, threads and at-fork hooks right in the child. Without
    PyOS_AfterFork_Child, threads started in the child could wait for ever for a lock nobody holds.
    Source: clone(2), "C library/kernel differences"; PyOS_BeforeFork in CPython's C API.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = syscall("clone", flags | SIGCHLD, None, None, None, None, _library=_libc_holding_the_gil)
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid
