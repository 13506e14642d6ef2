"""The table of a container's states: what it allows happens, what it refuses is refused in Docker's words."""

from __future__ import annotations

import pytest

from minidock.containers import life, lifecycle
from minidock.errors import Conflict, MinidockError
from minidock.kernel import rootfs, syscalls


def _created(box):
    return box.create("sleep", "1000")


def _running(box):
    return box.start("sleep", "1000")


def _paused(box):
    container = _running(box)
    lifecycle.pause(container)
    return container


def _restarting(box):
    """It rests for seconds by now: the state stays while we look."""
    container = box.start("sh", "-c", "echo turn; exit 1", restart_policy="always")
    while container.status() != life.RESTARTING or container.state().restart_count < 4:
        lifecycle.wait(container)
    return container


def _exited(box):
    return box.run("true").container


MADE = {
    life.CREATED: _created,
    life.RUNNING: _running,
    life.PAUSED: _paused,
    life.RESTARTING: _restarting,
    life.EXITED: _exited,
}
VERBS = {
    "start": lifecycle.start,
    "pause": lifecycle.pause,
    "unpause": lifecycle.unpause,
    "stop": lambda container: lifecycle.stop(container, timeout=0),
    "kill": lifecycle.kill,
    "exec": lambda container: lifecycle.exec(container, ["true"], detach=True),
    "rm": lifecycle.remove,
    "rm -f": lambda container: lifecycle.remove(container, force=True),
}


@pytest.mark.parametrize("status", MADE)
@pytest.mark.parametrize("verb", VERBS)
def test_every_move_is_the_tables(box, verb, status):
    container = MADE[status](box)
    assert container.status() == status
    expected = life.TABLE[verb][status]
    if isinstance(expected, life.No):
        with pytest.raises(MinidockError) as refused:
            VERBS[verb](container)
        wanted = expected.reason.format(id=container.id, name=container.name)
        assert refused.value.message == wanted
        assert container.status() == status
        return
    VERBS[verb](container)
    if expected == life.REMOVED:
        assert not container.directory.exists()
    elif verb == "start" and status == life.RESTARTING:
        assert container.status() in (life.RESTARTING, life.RUNNING)
    else:
        assert container.status() == expected


def test_the_table_knows_every_state_of_every_verb():
    for verb, row in life.TABLE.items():
        assert tuple(row) == life.STATES, verb
        for cell in row.values():
            assert isinstance(cell, life.No) or cell in (*life.STATES, life.REMOVED)


def test_what_cannot_be_removed_is_dead_and_can_be_removed_later(box, in_child):
    container = box.create("true")
    held = container.directory / "upper" / "held"
    held.mkdir()

    def story():
        rootfs.isolate_mounts()
        syscalls.mount("tmpfs", held, "tmpfs")
        with pytest.raises(MinidockError, match="is dead: its files cannot be removed"):
            lifecycle.remove(container)
        assert container.status() == life.DEAD
        with pytest.raises(Conflict, match="marked for removal"):
            lifecycle.start(container)

    in_child(story)
    assert container.status() == life.DEAD
    lifecycle.remove(container)
    assert not container.directory.exists()
