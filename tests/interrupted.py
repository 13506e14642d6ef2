"""Interrupt a notebook somewhere, run `minidock reset --yes`, and say what is not as before.

    setup/world.sh .venv/bin/python tests/interrupted.py NOTEBOOK SEED

To be run in a world of its own (setup/world.sh): its mounts, links and rules are then all the notebook's.
The seed chooses the cell, the moment in it, and how: Jupyter's Stop button and then the end of the
kernel, or SIGKILL of the kernel. Prints what was done; exit code 1 when something was left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import leaks
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

PATIENCE = 10 * float(os.environ.get("MINIDOCK_PATIENCE", "1"))  # seconds for what ends late
PR_SET_CHILD_SUBREAPER = 36
SETTINGS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet")
SETTINGS += ("kernel/core_pattern", "kernel/hostname", "user/max_user_namespaces")


def main(file: Path, seed: int) -> int:
    # Whatever loses its parent becomes our child: so no process gets away unseen.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    root = Path(os.environ["MINIDOCK_ROOT"])
    before = look(root)
    print(f"{file.name}, seed {seed}: {interrupt(file, random.Random(seed))}", flush=True)
    subprocess.run(["minidock", "reset", "--yes"], check=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while (left := look(root) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    for line in sorted(left):
        print(f"left: {line}")
    return 1 if left else 0


def interrupt(file: Path, chance: random.Random) -> str:
    """Run the notebook up to a cell by chance, and end the kernel in the middle of that cell."""
    notebook = nbformat.read(file, as_version=4)
    cells = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    last, brutal = chance.choice(cells), chance.random() < 0.5
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(file.parent)}})
    with client.setup_kernel():
        pid = client.km.provisioner.pid  # type: ignore[union-attr]
        for number in cells[: cells.index(last)]:
            client.execute_cell(notebook.cells[number], number)
        moment = chance.choice([0.0, 0.01, 0.05, 0.2, 0.5, 1.0])
        timer = threading.Timer(moment, kill, [pid, signal.SIGKILL if brutal else signal.SIGINT])
        timer.start()
        client.timeout = 20  # a kernel that died before it heard of the cell never answers
        with contextlib.suppress(CellExecutionError, CellTimeoutError, DeadKernelError):
            client.execute_cell(notebook.cells[last], last)
        timer.join()
        kill(pid, signal.SIGKILL)  # who stops a cell does not run those that tidy up
    how = "killed" if brutal else "stopped"
    return f"{how} {moment} s into cell {last} of {len(notebook.cells)}"


def kill(pid: int, number: int) -> None:
    """To the kernel's whole process group, as Jupyter does it."""
    try:
        os.killpg(os.getpgid(pid), number)
    except ProcessLookupError:
        return


def look(root: Path) -> set[str]:
    """All that a notebook may have left: one line each."""
    parent = leaks.cgroup_parent_of(root)
    found = {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    found |= {f"link {name}" for _, name in socket.if_nameindex()}
    found |= {f"nft {table}" for table in leaks._nft_tables()}
    found |= {f"cgroup {each}" for each in leaks.cgroup_directories() if each.name == parent}
    found |= {f"network namespace {name}" for name in leaks._names("/run/netns")}
    found |= {f"file {each}" for each in root.glob("*")}
    for name in SETTINGS:
        if (path := Path("/proc/sys") / name).exists():
            found.add(f"setting {name} = {path.read_text().strip()}")
    return found | {f"process {each}" for each in descendants(os.getpid())}


def descendants(pid: int) -> list[str]:
    """The living processes below *pid*, with their command lines; the dead are buried."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    found = []
    for child in _children(pid):
        found += [_described(child), *descendants_of_other(child)]
    return found


def descendants_of_other(pid: int) -> list[str]:
    return [line for child in _children(pid) for line in (_described(child), *descendants_of_other(child))]


def _children(pid: int) -> list[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for each in listings for word in _read(each).split()]


def _described(pid: int) -> str:
    return f"{pid} {_read(Path(f'/proc/{pid}/cmdline')).replace(chr(0), ' ')[:120]}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), int(sys.argv[2])))
