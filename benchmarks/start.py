#!/usr/bin/env python3
"""How fast is a start, and what does a running container cost, against whichever peers are installed?

    sudo .venv/bin/python benchmarks/start.py [--rounds 20] [--peers DIRECTORY]

`run --rm --network none busybox true` from a shell, all contenders in turn in every round: minidock,
docker and crun. The same from a warm engine, as a notebook starts it. Then the memory of ten detached
containers beyond their own processes (USS: the pages that nobody else maps).

DIRECTORY, or $MINIDOCK_PEERS, is the peers' world: see peers.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import peers
from peers import COMMAND, IMAGE, fetch, run

sys.path.insert(0, str(peers.REPOSITORY))

from minidock.engine import Engine

CONTAINERS = 10


def main() -> None:
    chosen = peers.options(__doc__, rounds=20).parse_args()
    peers.enter(chosen)
    with peers.workplace(chosen) as root:
        fetch(root, chosen.peers)
        engine = Engine(root)
        times = start(root, engine, chosen)
        show(times)
        print(f"\nmemory of a detached container beyond its own process: {memory(engine):.1f} MiB (mean USS)")


def start(root: Path, engine: Engine, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds from the command to its end, by contender."""
    arguments = ["run", "--rm", "--network", "none", IMAGE, "true"]
    contenders: dict[str, Callable[[int], object]] = {
        "minidock run": lambda _: run([COMMAND, "--root", str(root), *arguments])
    }
    if (chosen.peers / "in").exists():
        contenders["docker run"] = lambda _: run(["docker", *arguments])
        bundle = str(chosen.peers / "bundle")
        contenders["crun run"] = lambda number: run(
            ["crun", "run", "-b", bundle, f"bench-{os.getpid()}-{number}"]
        )
    # A second thread, as every Jupyter kernel has them: the engine then starts through its spawner.
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    contenders["warm engine"] = lambda _: engine.run(IMAGE, ["true"], rm=True, network="none")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(chosen.rounds + 2):
        for name, contender in contenders.items():
            time.sleep(0.2)  # nobody pays for what the kernel still clears away of the one before
            begin = time.perf_counter()
            contender(number)
            if number >= 2:  # the first two rounds warm the caches of all
                times[name].append((time.perf_counter() - begin) * 1000)
    return times


def show(times: dict[str, list[float]]) -> None:
    rounds = len(times["minidock run"])
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {rounds} rounds\n")
    print(f"{'':<16}{'ms':>8}{'min':>8}")
    for name, values in times.items():
        print(f"{name:<16}{statistics.median(values):>8.1f}{min(values):>8.1f}")
    print()
    for ours, peer, target in (
        ("minidock run", "docker run", 0.25),
        ("minidock run", "crun run", 2.5),
        ("warm engine", "crun run", 0.6),
    ):
        if peer in times:
            ratio = statistics.median(times[ours]) / statistics.median(times[peer])
            print(f"{ours} / {peer}: {ratio:.2f}   (wanted: at most {target})")


def memory(engine: Engine) -> float:
    """Mean USS in MiB of the processes that keep a detached container, without the container's own."""
    names = [f"bench-{number}" for number in range(CONTAINERS)]
    for name in names:  # each from a shell, as people do
        run([COMMAND, "--root", str(engine.root), "run", "-d", "--name", name, IMAGE, "sleep", "600"])
    try:
        shims = [parent_of(engine.inspect(name)["State"]["Pid"]) for name in names]
        return statistics.mean(unique_set_size(shim) for shim in shims) / (1 << 20)
    finally:
        for name in names:
            engine.rm(name, force=True)


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))


def unique_set_size(pid: int) -> int:
    """Bytes of memory that only this process maps."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(
        int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))
    )


if __name__ == "__main__":
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("benchmarks/start.py: needs root")
    main()
