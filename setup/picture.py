"""Draw the README's terminal picture from real commands (`setup/world.sh .venv/bin/python setup/picture.py`).

Each command runs in a terminal of its own (a pty), so that it shows its colours; what it wrote becomes
notebooks/pictures/terminal.svg.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).resolve().parent.parent / "notebooks/pictures/terminal.svg"
COLUMNS = 104
COMMANDS = (
    "minidock run --name web --memory 64m busybox sh -c 'hostname; ps'",
    "minidock explain web | grep -A 7 pivot_into",
    "minidock explain web | grep -A 9 'Where the time'",
    "minidock run --rm busybox mount -t tmpfs none /mnt",
)


def shown(command: str) -> str:
    """What *command* writes to a terminal of COLUMNS columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"},
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the terminal's last user is gone
        pass
    process.wait()
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n").rstrip()


def main() -> None:
    subprocess.run(["minidock", "pull", "-q", "busybox"], check=True, stdout=subprocess.DEVNULL)
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", force_terminal=True
    )
    for command in COMMANDS:
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(shown(command)))
        console.print()
    subprocess.run(["minidock", "rm", "web"], check=True, stdout=subprocess.DEVNULL)
    TARGET.parent.mkdir(exist_ok=True)
    # Without the web fonts that rich asks for: a picture must not need a network.
    TARGET.write_text(re.sub(r"@font-face {.*?}", "", console.export_svg(title="minidock"), flags=re.DOTALL))


if __name__ == "__main__":
    main()
