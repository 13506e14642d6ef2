"""Who comes before the start: attached and waiting in the lobby, and nothing is missed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minidock.containers import executions, lifecycle, line, lobby
from minidock.errors import Conflict
from minidock.exec_verbs import ExecVerbs


class Guest:
    """A thread that waits; *joined* is set when it cannot miss anything any more."""

    def __init__(self, call: Any) -> None:
        self.joined = threading.Event()
        self.result: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()
        assert self.joined.wait(30)

    def _run(self, call: Any) -> None:
        try:
            self.result = call(self.joined.set)
        except Exception as error:
            self.result = error

    def end(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.result


def test_guests_see_everything_from_the_first_word(box: Any) -> None:
    container = box.create("sh", "-c", "echo first; exit 3", auto_remove=True)
    out: list[bytes] = []
    streams = box.streams(None, out, [])
    attached = Guest(lambda joined: lifecycle.attach_to(container, streams, early=True, on_joined=joined))
    waiting = [
        Guest(lambda joined, how=how: line.wait(container, how, on_joined=joined))
        for how in ("next-exit", "removed")
    ]
    assert container.status() == "created"  # for everybody else
    assert line.wait(container) == 0
    lifecycle.start(container)
    assert [each.end() for each in (attached, *waiting)] == [3, 3, 3]
    assert b"".join(out) == b"first\n"
    assert not container.exists()


def test_what_guests_type_before_the_start_arrives(box: Any) -> None:
    container = box.create("cat", open_stdin=True, stdin_once=True)
    out: list[bytes] = []
    streams = box.streams(b"typed early", out, [])
    guest = Guest(lambda joined: lifecycle.attach_to(container, streams, early=True, on_joined=joined))
    lifecycle.start(container)
    assert guest.end() == 0
    assert b"".join(out) == b"typed early"


def test_a_start_that_fails_is_told_to_the_guests(box: Any) -> None:
    container = box.create("/no/such/program")
    guest = Guest(lambda joined: line.wait(container, "next-exit", on_joined=joined))
    with pytest.raises(Exception, match="no such file"):
        lifecycle.start(container)
    assert getattr(guest.end(), "exit_code", None) == 127


def test_removing_lets_the_guests_go(box: Any) -> None:
    container = box.create("true")
    guest = Guest(lambda joined: line.wait(container, "removed", on_joined=joined))
    lifecycle.remove(container)
    assert guest.end() == 0
    assert not container.exists()


def test_the_shim_ends_with_the_last_guest(box: Any, until: Any) -> None:
    container = box.create("true")
    entered = line.enter_lobby(container, op="wait")
    assert entered is not None
    assert container.alive()
    entered[0].close()
    until(lambda: not container.alive(), "the shim in the empty lobby to end")
    assert not (container.directory / lobby.SOCKET).exists()
    assert lifecycle.start(container, box.streams(None, [], [])) == 0


def test_an_execution_is_on_record(box: Any, until: Any) -> None:
    container = box.service()
    verbs = ExecVerbs()
    verbs.root = box.root
    made = verbs.exec_create(container.id, ["sh", "-c", "exit 5"])
    assert verbs.exec_inspect(made)["ExitCode"] is None
    assert [each.id for each in executions.listed(container)] == [made]
    assert verbs.exec_start(made, box.streams(None, [], [])) == 5
    shown = verbs.exec_inspect(made)
    assert (shown["Running"], shown["ExitCode"], shown["ContainerID"]) == (False, 5, container.id)
    with pytest.raises(Conflict, match="already run"):
        verbs.exec_start(made, None)
    missing = verbs.exec_create(container.id, ["nosuch"])
    with pytest.raises(Exception, match="not found"):
        verbs.exec_start(missing, box.streams(None, [], []))
    assert verbs.exec_inspect(missing)["ExitCode"] == 127
    lifecycle.kill(container)
    with pytest.raises(Conflict):
        verbs.exec_create(container.id, ["true"])
