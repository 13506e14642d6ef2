"""What client and shim say to each other over ``shim.sock``.

A connection starts with one line of JSON, the request: ``{"op": "attach", "stdin": true}``. Then both
sides send *frames*: one byte kind, three bytes zero, four bytes length (big endian), the payload. This
is the Docker Engine API's own framing of attached streams, so that a daemon can pass it through.

The last word of the shim is a control frame with ``exit`` or ``error``; then it closes the connection.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock import files
from minidock.errors import Conflict, InvalidInput, KernelError, MinidockError, NotFound

STDIN, STDOUT, STDERR, CONTROL = 0, 1, 2, 3
HEADER = struct.Struct(">BxxxI")
LARGEST = 1 << 20  # bytes of payload in one frame
LONGEST_REQUEST = 16 << 20  # bytes of the first line; execve(2) takes at most 6 MiB of words

_ERRORS: dict[str, type[MinidockError]] = {
    each.__name__: each for each in (MinidockError, InvalidInput, NotFound, Conflict)
}


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


def control(**message: Any) -> bytes:
    """A control frame: ``control(resize=[24, 80])``."""
    return frame(CONTROL, json.dumps(message).encode())


@dataclass(slots=True)
class Order:
    """What the starter wants: whom to attach (``{"stdin": true, …}``), the terminal's rows and columns.

    With *lobby* it is not to start yet: see lobby.py.
    """

    attach: dict[str, bool]
    size: tuple[int, int] | None = None
    lobby: bool = False


class Frames:
    """Cuts a byte stream into frames. ``feed`` what was read, then iterate."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        self._buffer += data

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """The whole frames so far, each once. Raises MinidockError for what is no frame."""
        position = 0
        try:
            while len(self._buffer) - position >= HEADER.size:
                kind, length = HEADER.unpack_from(self._buffer, position)
                if kind > CONTROL or length > LARGEST:
                    raise MinidockError("shim.sock: not a frame")
                end = position + HEADER.size + length
                if len(self._buffer) < end:
                    break
                with memoryview(self._buffer) as view:
                    payload = bytes(view[position + HEADER.size : end])
                position = end
                yield kind, payload
        finally:
            del self._buffer[:position]


# --- errors across the socket --------------------------------------------------------------------


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON; :func:`revive` makes it an exception again on the other side."""
    if isinstance(error, KernelError):
        return {
            "type": "KernelError",
            "message": error.message,
            "hint": error.hint,
            "operation": error.operation,
            "arguments": {key: str(value) for key, value in error.arguments.items()},
            "errno": error.errno,
            "cause": error.cause,
            "exit_code": error.exit_code,
        }
    if isinstance(error, MinidockError):
        kind = type(error).__name__
        return {"type": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    if isinstance(error, OSError) and error.errno in files.FULL:
        where = f"{error.filename}: " if error.filename else ""
        return {
            "type": "MinidockError",
            "message": f"{where}{os.strerror(error.errno).lower()}",
            "hint": None,
        }
    # Not foreseen: a bug, or a student's own layer. Name the line, as a traceback would.
    place, frame = "", error.__traceback__
    while frame is not None:
        place = f"{frame.tb_frame.f_code.co_filename}, line {frame.tb_lineno}: "
        frame = frame.tb_next
    return {"type": "MinidockError", "message": f"{place}{type(error).__name__}: {error}", "hint": None}


def revive(value: dict[str, Any]) -> MinidockError:
    """The exception that :func:`describe` described."""
    if value["type"] == "KernelError":
        revived = KernelError(
            value["operation"], value["arguments"], value["errno"], cause=value["cause"], hint=value["hint"]
        )
        revived.exit_code = value.get("exit_code")
        return revived
    kind = _ERRORS.get(value["type"], MinidockError)
    return kind(value["message"], hint=value.get("hint"), exit_code=value.get("exit_code"))


# --- the client's side ---------------------------------------------------------------------------


def connect(directory: Path, name: str = "shim.sock") -> socket.socket | None:
    """A connection to the shim of the container in *directory*; None when nobody listens."""
    try:
        held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket's address ends at 107 bytes, a state root may be deeper: go through the descriptor.
        connection.connect(f"/proc/self/fd/{held}/{name}")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    finally:
        os.close(held)
    return connection


def send_request(connection: socket.socket, **request: Any) -> None:
    """Send the first line. A shim that ended just now shows up when the answer is read."""
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
    except (BrokenPipeError, ConnectionResetError):
        return


def answer(
    connection: socket.socket, frames: Frames | None = None, caller: int | None = None
) -> dict[str, Any] | None:
    """Wait for the next control frame; None when the shim closed. Raises what the shim reports as error.

    *caller*: see notice.readable; raises ConnectionAbortedError when nobody is there any more.
    """
    frames = frames or Frames()
    while True:
        for kind, payload in frames:
            if kind == CONTROL:
                message: dict[str, Any] = json.loads(payload)
                if "error" in message:
                    raise revive(message["error"])
                return message
        if caller is not None:
            from minidock.kernel import notice

            notice.readable(connection.fileno(), caller)
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        frames.feed(data)


def ask(directory: Path, name: str = "shim.sock", **request: Any) -> dict[str, Any] | None:
    """One request, one answer. None when no shim is there, or it ended before it answered."""
    connection = connect(directory, name)
    if connection is None:
        return None
    with connection:
        send_request(connection, **request)
        return answer(connection)
