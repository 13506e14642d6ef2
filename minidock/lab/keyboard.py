"""Type into a terminal from a notebook: what `run -it` is for needs somebody at a keyboard."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")  # colours, and questions to the terminal


@dataclass(frozen=True, slots=True)
class Session:
    """What stood on the screen, and how the command ended."""

    screen: str
    exit_code: int

    def __repr__(self) -> str:
        return f"{self.screen}\n(exit code {self.exit_code})"


def type_into(command: Sequence[str], *keys: str, prompt: str = "# ", seconds: float = 30) -> Session:
    """Run *command* in a terminal of its own; at each *prompt* type the next of *keys*; wait for the end.

    ``type_into(["minidock", "run", "-it", "busybox"], "ls\\r", CTRL_D)``. Raises TimeoutError, and ends the
    command, when prompt or end do not come within *seconds*.
    """
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    waiting, screen, answered = list(keys), "", 0
    deadline = time.monotonic() + seconds
    try:
        while True:
            if not select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no answer within {seconds:g} s; on the screen:\n{screen}")
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end open any more
                break
            if not data:
                break
            screen += _ESCAPES.sub("", data.decode(errors="replace")).replace("\r", "")
            if waiting and screen.endswith(prompt) and len(screen) > answered:
                answered = len(screen)
                os.write(ours, waiting.pop(0).encode())
        return Session(screen.strip(), process.wait())
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
