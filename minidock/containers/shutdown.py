"""The machine goes down: systemd tells every process, and so every shim, by a signal.

Docker's daemon then stops its containers as `docker stop` would, and so does a shim: the program inside hears
its stop signal and can save what it has. But no user wanted this end, so after the next boot the restart
policies count.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which cost time
import os
from collections.abc import Callable

from minidock.containers.loop import READ, Loop

# A service gets the first, a login session both: a shim is part of what its starter was part of.
_SIGNALS = (_signal.SIGTERM, _signal.SIGHUP)


def heed(loop: Loop, stop: Callable[[], None]) -> None:
    """Have *loop* call *stop* when this process is told to end."""
    news, door = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _signal.set_wakeup_fd(door, warn_on_full_buffer=False)
    for number in _SIGNALS:
        _signal.signal(number, lambda *_: None)

    def told(_: int) -> None:
        if not set(os.read(news, 64)).isdisjoint(_SIGNALS):
            stop()

    loop.watch(news, READ, told)
