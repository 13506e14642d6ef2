"""The engine's verbs for one more program in a running container: at once, or in steps (see engine.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidock.containers import state
from minidock.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from minidock.capture import Result
    from minidock.containers.executions import Execution
    from minidock.containers.streams import Streams

Json = dict[str, Any]


class ExecVerbs:
    """What an engine does with programs in running containers."""

    root: Path

    def exec(
        self,
        text: str,
        command: Sequence[str],
        *,
        input: bytes | str | None = None,
        show: Callable[[str], object] | None = None,
        **options: Any,
    ) -> Result:
        """Run one more program in a running container and return what it wrote.

        *options*: env, user, cwd, tty, detach, privileged (see lifecycle.exec).
        """
        from minidock import capture

        container, taken = state.find(self.root, text), capture.Capture(show)
        with capture.supply(input) as stdin:
            exit_code = self.exec_attached(text, command, taken.streams(stdin), **options)
        return taken.result(container, exit_code)

    def exec_attached(
        self, text: str, command: Sequence[str], streams: Streams | None, **options: Any
    ) -> int:
        """Run one more program in a running container with these streams; its exit code."""
        from minidock.containers import lifecycle

        container = state.find(self.root, text)
        if not container.running():
            raise Conflict(
                f"container {container.id} is not running", hint=f"minidock start {container.name}"
            )
        return lifecycle.exec(container, list(command), streams=streams, **options)

    # ---- in steps -----------------------------------------------------------------------------------

    def exec_create(self, text: str, command: Sequence[str], **wanted: Any) -> str:
        """Make an execution; its id. *wanted*: see Execution. Raises Conflict when nothing runs there."""
        from minidock.containers import executions, life

        container = state.find(self.root, text)
        if not command:
            raise InvalidInput("No exec command specified")
        life.after("exec", container.status(), container.id)
        made = executions.create(container, list(command), **wanted)
        container.note(f"exec_create: {' '.join(command)}", execID=made.id)
        return made.id

    def execution(self, identifier: str) -> Execution:
        """What is known of an execution. Raises NotFound."""
        from minidock.containers import executions

        return executions.find(self.root, identifier)[1]

    def exec_start(
        self,
        identifier: str,
        streams: Streams | None,
        *,
        size: tuple[int, int] | None = None,
        on_ready: Callable[[], object] | None = None,
    ) -> int:
        """Start an execution and stay with it until it ends; its exit code. Without *streams* 0 at once.

        *on_ready* is called when it can be started, and before it is.
        """
        from minidock.containers import executions, life, lifecycle

        container, found = executions.find(self.root, identifier)
        executions.check_startable(found)
        life.after("exec", container.status(), container.id)
        if on_ready is not None:
            on_ready()
        return lifecycle.exec(
            container,
            found.argv,
            env=found.env,
            user=found.user,
            cwd=found.cwd,
            tty=found.tty,
            privileged=found.privileged,
            detach=streams is None,
            streams=streams,
            size=size,
            identifier=found.id,
        )

    def exec_resize(self, identifier: str, rows: int, columns: int) -> None:
        """Tell the terminal of an execution its size."""
        from minidock.containers import executions, line

        container, found = executions.find(self.root, identifier)
        line.ask(container, "exec", op="resize", size=[rows, columns], execution=found.id)

    def exec_inspect(self, identifier: str) -> Json:
        """One execution in the shape of Docker's API: GET /exec/{id}/json."""
        from minidock.containers import executions

        container, found = executions.find(self.root, identifier)
        running = found.running and container.running()
        return {
            "ID": found.id,
            "Running": running,
            "ExitCode": found.exit_code if running or found.exit_code is not None or not found.pid else 137,
            "ProcessConfig": {
                "tty": found.tty,
                "entrypoint": found.argv[0],
                "arguments": found.argv[1:],
                "privileged": found.privileged,
                **({"user": found.user} if found.user else {}),
            },
            "OpenStdin": found.stdin,
            "OpenStderr": found.stderr,
            "OpenStdout": found.stdout,
            "CanRemove": found.exit_code is not None,
            "ContainerID": container.id,
            "DetachKeys": "",
            "Pid": found.pid if running else 0,
        }
