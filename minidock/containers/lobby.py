"""The lobby: where those wait who come before the start.

Docker's clients attach to a container, and wait for its end, *before* they start it: so that they miss
neither its first word nor, where it removes itself, its exit code. Whoever comes first has the shim
spawned. It takes the container's lock, listens on ``lobby.sock`` and starts nothing until somebody asks
it to; then the guests are the first to be served. When the last guest has gone, it ends.

For everybody else the container is what it was, created or exited: its ``shim.sock`` does not exist yet.
The guests' side is in line.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minidock.containers.protocol import Order
from minidock.containers.state import Container
from minidock.errors import InvalidInput

if TYPE_CHECKING:
    from minidock.containers.client import Client
    from minidock.containers.loop import Loop

    Guest = tuple[Client, dict[str, Any]]

SOCKET = "lobby.sock"
_PATIENCE = 30.0  # seconds that an empty lobby stays open for its first guest


class Lobby:
    """What a shim does until it is told to start. *starter* and *order* are set then."""

    def __init__(self, loop: Loop, exit_code: int) -> None:
        self._loop, self._exit_code = loop, exit_code
        self.guests: list[Guest] = []
        self.starter: Client | None = None
        self.order = Order({})
        self.over = False
        loop.after(_PATIENCE, self._close_if_empty)

    def serve(self, client: Client, request: dict[str, Any]) -> None:
        """Answer one request. Errors go back to the client."""
        function = self._requests().get(str(request.get("op")))
        if function is None:
            raise InvalidInput(f"lobby: unknown request {request.get('op')!r}")
        function(client, request)

    def _requests(self) -> dict[str, Callable[[Client, dict[str, Any]], None]]:
        return {"attach": self._enter, "wait": self._enter, "start": self._start, "dismiss": self._dismiss}

    def _enter(self, client: Client, request: dict[str, Any]) -> None:
        guest = (client, request)
        self.guests.append(guest)
        client.hold_input(True)  # what it types, and that it has no more to type, is for the program

        def gone() -> None:
            if guest in self.guests:
                self.guests.remove(guest)
            self._close_if_empty()

        client.on_close = gone
        client.tell(entered=True)

    def _start(self, client: Client, request: dict[str, Any]) -> None:
        size = tuple(request["size"]) if request.get("size") else None
        self.starter, self.order = client, Order(request["attach"], size)
        self.over = True

    def _dismiss(self, client: Client, _: dict[str, Any]) -> None:
        self.over = True
        for guest, _request in tuple(self.guests):
            guest.finish(exit=self._exit_code)
        client.finish(done=True)

    def _close_if_empty(self) -> None:
        if not self.guests:
            self.over = True


def close(container: Container) -> None:
    """Take the lobby's name away: nobody can enter any more."""
    (container.directory / SOCKET).unlink(missing_ok=True)
