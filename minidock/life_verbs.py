"""The engine's verbs about time: events, restart policies, limits that change (see engine.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock.errors import InvalidInput, MinidockError

if TYPE_CHECKING:
    from minidock.containers.state import Container
    from minidock.events import Event


class LifeVerbs:
    """What an engine does with containers over time."""

    root: Path

    def container(self, text: str) -> Container:
        """See Engine.container."""
        raise NotImplementedError

    def update(self, text: str, *, restart: str | None = None, **options: Any) -> None:
        """Change the limits of a container, running or not, and its restart policy.

        *options* are those of create: memory, memory_swap, cpus, cpu_shares, pids_limit, …
        """
        from minidock import limits
        from minidock.containers import lifecycle
        from minidock.containers import restart as policies

        given = {key: value for key, value in options.items() if value is not None}
        if not given and restart is None:
            raise InvalidInput("you must provide one or more flags when using this command")
        policy = policies.parse(restart) if restart is not None else None
        lifecycle.update(self.container(text), limits.changes(given), policy)

    def events(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        filters: dict[str, list[str]] | None = None,
        follow: bool = True,
        caller: int | None = None,
        on_ready: Callable[[], object] | None = None,
    ) -> Iterator[Event]:
        """What happened to containers, images, networks and volumes, oldest first, and what happens.

        *since*, *until*: see timestamps.moment; without *since* only what happens from now on. Ends at
        *until*, or never if *follow*. *on_ready* is called when nothing can be missed any more; *caller*: see
        notice.readable.
        """
        from minidock import events, selection
        from minidock.containers import timestamps
        from minidock.kernel.notice import Watch

        begin = timestamps.moment(since) if since else time.time_ns()
        end = timestamps.moment(until) if until else None
        fits = selection.event_filter(filters or {})
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with Watch(self.root) as watch:
            if on_ready is not None:
                on_ready()

            def wait() -> bool:
                if end is None:
                    return follow and watch.wait(caller=caller)
                left = (end - time.time_ns()) / 1e9
                return left > 0 and watch.wait(left, caller)

            for event in events.read(self.root, wait):
                if end is not None and event["timeNano"] > end:
                    return
                if event["timeNano"] >= begin and fits(event):
                    yield event

    def resume(self) -> tuple[list[str], list[MinidockError]]:
        """Start what the restart policies want running: after the machine started, or a shim was killed.

        ``always`` in any case, ``unless-stopped`` when no user had stopped it, ``on-failure`` when it was
        running or had failed, and had tries left. As in Docker, whoever stopped that one: only its exit code
        counts, and that of a killed program is one of failure. Returns the names of those started, and why
        others could not be.
        """
        from minidock.containers import lifecycle, restart, state

        started, failed = [], []
        for container in reversed(state.containers(self.root)):
            spec, found = container.spec, container.state()
            if container.running() or found.status == "created":
                continue
            if found.stopped_by_user and spec.restart_policy == "unless-stopped":
                continue
            done = found.restart_count
            if not restart.again(spec.restart_policy, spec.restart_retries, found.exit_code, done):
                continue
            try:
                lifecycle.start(container)
                started.append(spec.name)
            except MinidockError as error:
                failed.append(error)
        return started, failed
