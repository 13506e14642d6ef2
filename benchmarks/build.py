#!/usr/bin/env python3
"""How fast is a build of ten steps, beside `docker build` (classic) where the peers are set up?

    sudo .venv/bin/python benchmarks/build.py [--rounds 5] [--peers DIRECTORY]

Cold (--no-cache) and fully cached, all contenders in turn in every round. Then a context of a gigabyte in
which one file changes: what it takes minidock to find out, which is all there is to do before the copy.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import peers
from peers import COMMAND, fetch

DOCKERFILE = """\
FROM busybox
ENV A=1
RUN echo one > /one
COPY Dockerfile /a/
RUN mkdir -p /b && echo two > /b/two
WORKDIR /srv
RUN seq 1 1000 > /srv/list
COPY Dockerfile /srv/
RUN rm /one
CMD ["cat", "/srv/list"]
"""
TARGETS = {"cold": 0.5, "cached": 1.0}  # of docker's time


def main() -> None:
    chosen = peers.options(__doc__, rounds=5).parse_args()
    there = peers.enter(chosen)
    with peers.workplace(chosen) as place:
        root, context = place / "root", place / "context"
        root.mkdir()
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        fetch(root, chosen.peers)
        compare(root, context, chosen.rounds, docker=there)
        large_context(root, place / "large")


def compare(root: Path, context: Path, rounds: int, *, docker: bool) -> None:
    """The ten steps, cold and cached."""
    contenders = {"minidock": [COMMAND, "--root", str(root), "build", "-q"]}
    if docker:
        contenders["docker"] = ["env", "DOCKER_BUILDKIT=0", "docker", "build", "-q"]
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for kind, flags in (("cold", ["--no-cache"]), ("cached", [])):
            for name, command in contenders.items():
                if kind == "cached":
                    seconds([*command, str(context)])  # what was built cold may be older than the cache
                taken = seconds([*command, *flags, str(context)])
                if number:  # the first round warms the caches of all
                    times.setdefault((kind, name), []).append(taken)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {rounds} rounds\n")
    for (kind, name), values in times.items():
        print(f"{kind:<8}{name:<10}{statistics.median(values) * 1000:>8.0f} ms{min(values) * 1000:>8.0f} min")
    for kind, target in TARGETS.items() if docker else ():
        ratio = statistics.median(times[kind, "minidock"]) / statistics.median(times[kind, "docker"])
        print(f"{kind}: minidock / docker: {ratio:.2f}   (wanted: at most {target})")


def large_context(root: Path, context: Path) -> None:
    """A gigabyte in a thousand files, of which one changes."""
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY 0 /data/\nCOPY [0-9]* /data/\n")
    for number in range(16):
        (context / str(number)).mkdir()
        for file in range(64):
            (context / str(number) / str(file)).write_bytes(os.urandom(1 << 20))
    command = [COMMAND, "--root", str(root), "build", "-q", str(context)]
    time.sleep(2.1)  # a file that is younger is not believed to stay as it is
    print(f"\n1 GiB: built in {seconds(command):.1f} s; ", end="")
    print(f"nothing changed {seconds(command):.2f} s; ", end="")
    with open(context / "9/9", "ab") as file:
        file.write(b"x")
    begin = time.perf_counter()
    with subprocess.Popen([*command[:-2], context], stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout
        for line in build.stdout:
            if "changed" in line:
                print(
                    f"one file changed: known after {time.perf_counter() - begin:.2f} s (wanted: at most 2)"
                )
                build.terminate()


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
