"""Services in the order of their dependencies; those that do not need each other at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

Needs = Mapping[str, Collection[str]]


def run(needs: Needs, action: Callable[[str], object]) -> None:
    """Do *action* for each name, when it is done for all that the name needs (among *needs*).

    After a failure nothing new begins; what runs is waited for, and the first failure raised.
    """
    begun, done = set[str](), set[str]()
    failures: list[BaseException] = []
    ends: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()

    def do(name: str) -> None:
        try:
            action(name)
        except BaseException as error:
            ends.put((name, error))
        else:
            ends.put((name, None))

    while True:
        for name in needs:
            ready = all(other in done for other in needs[name] if other in needs)
            if not failures and name not in begun and ready:
                begun.add(name)
                threading.Thread(target=do, args=(name,), daemon=True).start()
        if len(begun) == len(done) + len(failures):
            break
        name, failure = ends.get()
        if failure is None:
            done.add(name)
        else:
            failures.append(failure)
    if failures:
        raise failures[0]


def reverse(needs: Needs) -> dict[str, set[str]]:
    """Who is needed by whom: the order in which to stop."""
    turned: dict[str, set[str]] = {name: set() for name in needs}
    for name, others in needs.items():
        for other in others:
            if other in turned:
                turned[other].add(name)
    return turned


def with_needed(names: Iterable[str], needs: Needs) -> list[str]:
    """*names* and all that they need, in the order of *needs*."""
    wanted = set[str]()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += needs.get(name, ())
    return [name for name in needs if name in wanted]


def at_once(actions: Iterable[Callable[[], object]]) -> None:
    """All *actions* side by side; the first failure is raised when all have ended."""
    numbered = {str(number): action for number, action in enumerate(actions)}
    run(dict.fromkeys(numbered, ()), lambda key: numbered[key]())
