"""inotify: be woken when a file changes, instead of looking again and again.

Source: inotify(7), inotify_init1(2), inotify_add_watch(2).
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from minidock.kernel.door import syscall

_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE = 0x2, 0x40, 0x80, 0x100


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

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until something has changed since the last call; False after *seconds*."""
        ready, _, _ = select.select([self.descriptor], [], [], seconds)
        while ready:  # all that has been noticed so far is one answer
            try:
                os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                break
        return bool(ready)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
