"""Many clients at once: no error, and memory that does not grow."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from worlds import PATIENCE

IDLE = 45 << 20  # bytes


def test_an_idle_daemon_is_small(daemon: Any) -> None:
    assert daemon.ask("GET", "/version")[0] == 200
    assert daemon.memory() <= IDLE


def test_it_ends_whichever_of_its_threads_hears_the_signal(daemon: Any) -> None:
    """Only the main thread runs Python's handlers, and it waits: the news must reach it."""
    process = daemon.process.pid
    (other, *_) = (int(name) for name in os.listdir(f"/proc/{process}/task") if int(name) != process)
    ctypes.CDLL(None).tgkill(process, other, int(signal.SIGTERM))
    assert daemon.process.wait(20 * PATIENCE) == 0


def test_no_line_of_a_fast_writer_is_lost(daemon: Any) -> None:
    """`logs -f` of 100,000 numbered lines of 100 bytes, as fast as they can be written."""
    lines = 100_000
    command = f"seq -w {lines} | sed 's/$/{'x' * 93}/'"
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["sh", "-c", command]})
    before = daemon.memory()
    assert daemon.ask("POST", "/containers/box/start")[0] == 204
    status, answer = daemon.ask("GET", "/containers/box/logs?follow=1&stdout=1")
    assert daemon.memory() < before + (8 << 20)  # not the 10 MB that went through it
    assert status == 200
    read = b"".join(pieces(answer)).split(b"\n")
    assert read.pop() == b""
    assert [int(line[:6]) for line in read] == list(range(1, lines + 1))
    assert {len(line) for line in read} == {99}


def pieces(answer: bytes) -> Iterator[bytes]:
    """What the frames of a container without a terminal hold."""
    at = 0
    while at < len(answer):
        _, length = struct.unpack_from(">BxxxI", answer, at)
        yield answer[at + 8 : at + 8 + length]
        at += 8 + length


@pytest.mark.parametrize(("clients", "requests"), [(25, 20), pytest.param(100, 100, marks=pytest.mark.slow)])
def test_parallel_clients(daemon: Any, clients: int, requests: int) -> None:
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["true"]})
    paths = (
        "/containers/json?all=1",
        "/_ping",
        "/containers/box/json",
        "/images/json",
        "/containers/nosuch/json",
    )
    wrong: list[Any] = []

    def client() -> None:
        try:
            for number in range(requests):
                path = paths[number % len(paths)]
                status, _ = daemon.ask("GET", path)
                if status != (404 if "nosuch" in path else 200):
                    wrong.append((path, status))
        except Exception as error:
            wrong.append(error)

    def all_of_them() -> None:
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    all_of_them()
    before = daemon.memory()
    all_of_them()
    assert not wrong, wrong[:5]
    assert daemon.memory() < before * 1.2 + (4 << 20)
