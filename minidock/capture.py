"""Keeping what a container writes: how `engine.run` and `engine.exec` hand output to Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from minidock.containers.state import Container
from minidock.containers.streams import Streams


@dataclass(slots=True, repr=False)
class Result:
    """How a captured run or exec ended. *output* is standard output and error as they came, decoded."""

    container: Container
    exit_code: int
    stdout: bytes
    stderr: bytes
    output: str

    def __str__(self) -> str:
        return self.output

    def __repr__(self) -> str:  # what a notebook shows
        return f"{self.output}(exit code {self.exit_code})"


class Capture:
    """Keeps what a container writes; *show*, when given, gets it as well, decoded."""

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        self.stdout, self.stderr, self.both = bytearray(), bytearray(), bytearray()
        self._show = show

    def streams(self, stdin: int | None) -> Streams:
        return Streams(
            stdin, self._taker(self.stdout), self._taker(self.stderr), detach_keys="", forward_signals=False
        )

    def _taker(self, kept: bytearray) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            kept.extend(data)
            self.both.extend(data)
            if self._show:
                self._show(data.decode(errors="replace"))

        return take

    def result(self, container: Container, exit_code: int) -> Result:
        output = self.both.decode(errors="replace")
        return Result(container, exit_code, bytes(self.stdout), bytes(self.stderr), output)


@contextmanager
def supply(data: bytes | str | None) -> Iterator[int | None]:
    """A descriptor from which *data* is read; None when there is none."""
    if data is None:
        yield None
        return
    descriptor = os.memfd_create("minidock-stdin", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
