"""The shim's event loop: one thread, one epoll, and no call that blocks."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

READ, WRITE, HANGUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
BACKLOG = 1 << 20  # bytes waiting for a slow reader before its writer must wait
_LONGEST = 3600.0  # seconds of one wait
Handler = Callable[[int], None]

# Every read of a shim goes here first: no allocation per read, and 256 KiB for the whole process.
buffer = bytearray(1 << 18)
view = memoryview(buffer)


class Loop:
    """Calls a handler when its descriptor is ready, and timers when they are due."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call ``handler(events)`` whenever *descriptor* is ready; events 0 reports a hangup only."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Call nobody any more. Before the descriptor is closed."""
        handler = self._handlers.pop(descriptor, None)  # it may own the descriptor: keep it until the end
        if handler is not None:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, *seconds* from now."""
        self._timers.append((time.monotonic() + seconds, call))
        self._timers.sort(key=lambda timer: timer[0])

    def turn(self) -> None:
        """Wait for the next event or timer and handle it."""
        # A wait of centuries overflows in the kernel's interface; waking early does no harm.
        pause = min(max(0.0, self._timers[0][0] - time.monotonic()), _LONGEST) if self._timers else None
        for descriptor, events in self._epoll.poll(pause):
            handler = self._handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this turn may have forgotten it
                handler(events)
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._timers.pop(0)[1]()
