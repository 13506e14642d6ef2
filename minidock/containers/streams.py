"""The user's side of an attached container: what it reads and where it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minidock.errors import InvalidInput

Sink = int | Callable[[bytes], object]  # a descriptor, or a function that takes the bytes


@dataclass(slots=True)
class Streams:
    """Where a container's input comes from and its output goes to.

    *stdin* is a descriptor or None; *stdout*, *stderr* descriptors or functions, None to leave a stream
    out. *detach_keys* is what the user types to leave (Docker's form, ``ctrl-p,ctrl-q``; "" for none).
    With *forward_signals* the signals that this process gets go to the container. *typed* is input that
    was read already. When the other end of the socket *caller* hangs up, the user has left.

    Raises InvalidInput for detach keys that are none.
    """

    stdin: int | None = None
    stdout: Sink | None = 1
    stderr: Sink | None = 2
    detach_keys: str = "ctrl-p,ctrl-q"
    forward_signals: bool = True
    typed: bytes = b""
    caller: int | None = None

    def __post_init__(self) -> None:
        keys(self.detach_keys)  # before anything begins

    def size(self) -> tuple[int, int] | None:
        """Rows and columns of the user's terminal, None when there is none."""
        from minidock.containers import terminal

        for descriptor in (self.stdin, self.stdout):
            if isinstance(descriptor, int) and (found := terminal.size(descriptor)):
                return found
        return None


def keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` → ``b"\\x10\\x11"``. Raises InvalidInput."""
    found = bytearray()
    for part in text.split(",") if text else ():
        name = part.strip().lower()
        if len(part.strip()) == 1:
            found += part.strip().encode()
        elif name.startswith("ctrl-") and len(name) == 6 and ("a" <= name[5] <= "z" or name[5] in "@[\\]^_"):
            found.append(ord(name[5].upper()) & 0x1F)
        else:
            raise InvalidInput(
                f"Invalid detach keys ({text}) provided", hint="Write ctrl-a … ctrl-z, or one letter."
            )
    return bytes(found)
