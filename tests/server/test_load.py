"""Many clients at once: no error, and memory that does not grow."""

from __future__ import annotations

import threading
from typing import Any

import pytest

IDLE = 45 << 20  # bytes


def test_an_idle_daemon_is_small(daemon: Any) -> None:
    assert daemon.ask("GET", "/version")[0] == 200
    assert daemon.memory() <= IDLE


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
