"""Be woken when something happens, instead of looking again and again: inotify for files, poll for the rest.

Source: inotify(7), inotify_init1(2), inotify_add_watch(2), poll(2).
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from minidock.kernel.door import syscall

_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE = 0x2, 0x40, 0x80, 0x100


def readable(descriptor: int, caller: int | None = None, seconds: float | None = None) -> bool:
    """Wait until *descriptor* can be read; False after *seconds*.

    *caller* is the socket of whoever wants to know. When its other end hangs up, nobody does any more:
    raises ConnectionAbortedError.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if caller is not None:
        poll.register(caller, select.POLLRDHUP)
    ready = dict(poll.poll(None if seconds is None else max(0, seconds * 1000)))
    if caller in ready:
        raise ConnectionAbortedError("the caller has gone")
    return descriptor in ready


class Watch:
    """Notices what happens to the files in one directory. Close it, or use it with ``with``."""

    def __init__(self, directory: Path) -> None:
        self.descriptor = syscall("inotify_init1", _CLOEXEC_NONBLOCK)
        try:
            wanted = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE
            syscall("inotify_add_watch", self.descriptor, directory, wanted)
        except BaseException:
            os.close(self.descriptor)
            raise

    def wait(self, seconds: float | None = None, caller: int | None = None) -> bool:
        """Wait until something has changed since the last call; False after *seconds*."""
        ready = readable(self.descriptor, caller, seconds)
        while ready:  # all that has been noticed so far is one answer
            try:
                os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                break
        return ready

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
