"""The shim's door: a socket in the container's directory on which clients knock."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidock.containers.client import Client
from minidock.containers.loop import READ, Loop

Serve = Callable[[Client, dict[str, Any]], None]


class Door:
    """The socket *name* in *directory*. Who connects there becomes a client, and *serve* gets its request."""

    def __init__(self, loop: Loop, directory: Path, name: str, serve: Serve) -> None:
        self._loop, self._serve = loop, serve
        self._silent: list[Client] = []  # they have not said yet what they want
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{held}/{name}"  # the real path may exceed what an address holds
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener.bind(path)
        os.close(held)
        self._listener.listen(64)
        self._listener.setblocking(False)
        loop.watch(self._listener.fileno(), READ, self._let_in)

    def _let_in(self, _: int) -> None:
        with contextlib.suppress(OSError):  # nobody is left, or hung up already
            while True:
                connection, _address = self._listener.accept()
                self._silent = [client for client in self._silent if not client.closed]
                self._silent.append(Client(self._loop, connection, self._hear))

    def _hear(self, client: Client, request: dict[str, Any]) -> None:
        self._silent.remove(client)
        self._serve(client, request)

    def close(self, serve: Serve) -> list[Client]:
        """Let in who has knocked already, and nobody after them.

        Returns those who are still silent: *serve* gets their requests.
        """
        self._let_in(READ)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._serve = serve
        return list(self._silent)
