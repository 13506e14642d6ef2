"""The errno tutor: why did the kernel refuse? Answered by looking at the live machine, never by guessing.

An errno says little: EINVAL of pivot_root has a dozen reasons. Each cause here looks for its proof (a line
of mountinfo, a capability set, a sysctl, the first bytes of a program) and stays silent without one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

# Imported for the causes that they register, asked in this order.
from minidock.kernel import causes_processes, causes_programs  # isort: skip
from minidock.kernel import causes_mounts, causes_networks  # isort: skip
from minidock.kernel.evidence import CAUSES, Question

KNOWN = (causes_processes, causes_programs, causes_mounts, causes_networks)


def explain(
    operation: str,
    arguments: dict[str, Any],
    errno: int,
    *,
    proc: Path = Path("/proc"),
    ask: Callable[..., int] | None = None,
) -> tuple[str, str] | None:
    """The (cause, hint) of a refused call, or None when nothing on the machine explains it.

    *arguments* are those of the recorded step: paths as text, flags by name. See Question for the rest.
    """
    question = Question(operation, arguments, errno, proc, ask)
    for operations, errnos, find in CAUSES:
        if operation in operations and errno in errnos:
            try:
                answer = find(question)
            except (OSError, ValueError):  # the machine changed while we looked, or hides it from us
                continue
            if answer is not None:
                return answer
    return None
