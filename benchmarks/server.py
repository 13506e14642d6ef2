#!/usr/bin/env python3
"""How do the daemon's clients fare, beside dockerd?

    sudo .venv/bin/python benchmarks/server.py [--rounds 15] [--lines 1000000] [--peers DIRECTORY]

The docker command talks to `minidock serve` and to the peers' dockerd in turn:
`docker run --rm busybox true`; then `docker logs -f` of a container that writes lines of 100 bytes as fast as
it can. At the end 100 clients at once send 10,000 requests. Beside the times stands what the daemon weighs:
idle, and at most.

DIRECTORY, or $MINIDOCK_PEERS, is the peers' world, as in peers.py.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import peers
from peers import COMMAND, IMAGE, fetch

CLIENTS, REQUESTS = 100, 10_000
ASKED = (("/containers/json?all=1", 200), ("/_ping", 200), ("/images/json", 200), ("/info", 200), ("/x", 404))
LINE = "x" * 99


def main() -> None:
    options = peers.options(__doc__, rounds=15)
    options.add_argument("--lines", type=int, default=1_000_000)
    chosen = options.parse_args()
    there = peers.enter(chosen)
    with peers.workplace(chosen) as root:
        fetch(root, chosen.peers)
        with serving(root) as daemon:
            hosts = {"minidock": f"unix://{root}/api.sock"}
            if there:
                hosts["dockerd"] = os.environ["DOCKER_HOST"]
            measure(daemon, hosts, chosen)


@contextlib.contextmanager
def serving(root: Path) -> Iterator[int]:
    """A daemon on ``api.sock``: its process id."""
    command = [COMMAND, "--root", str(root), "serve", "--host", f"unix://{root}/api.sock"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (root / "api.sock").exists():
            time.sleep(0.02)
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def measure(daemon: int, hosts: dict[str, str], chosen: argparse.Namespace) -> None:
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {chosen.rounds} rounds\n")
    docker(hosts["minidock"], "version")
    print(f"idle daemon: {resident(daemon):.1f} MiB   (wanted: at most 45)")

    starts = {name: list[float]() for name in hosts}
    for number in range(chosen.rounds + 2):
        for name, host in hosts.items():
            begin = time.perf_counter()
            docker(host, "run", "--rm", IMAGE, "true")
            if number >= 2:
                starts[name].append((time.perf_counter() - begin) * 1000)
    row("docker run --rm busybox true", starts, "ms")
    compare(starts, "at most 0.5")

    before, rates = resident(daemon), {name: list[float]() for name in hosts}
    for _ in range(3):
        for name, host in hosts.items():
            rates[name].append(follow(host, chosen.lines))
    row(f"docker logs -f, {chosen.lines:,} lines of 100 bytes", rates, "MB/s")
    compare(rates, "at least 0.8")
    print(f"memory of the daemon meanwhile: {before:.1f} → at most {peak(daemon):.1f} MiB")

    load(hosts["minidock"].removeprefix("unix://"), REQUESTS // 10)
    before = resident(daemon)
    seconds, wrong = load(hosts["minidock"].removeprefix("unix://"), REQUESTS)
    print(
        f"\n{REQUESTS:,} requests of {CLIENTS} clients: {seconds:.1f} s, {wrong} errors; "
        f"memory {before:.1f} → {resident(daemon):.1f} MiB"
    )


def docker(host: str, *words: str) -> bytes:
    done = subprocess.run(
        ["docker", "-H", host, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    return done.stdout


def follow(host: str, lines: int) -> float:
    """Follow a container that writes *lines* from its start to its end: megabytes a second."""
    command = f"yes {LINE} | head -n {lines}"
    container = docker(host, "create", "--network", "none", IMAGE, "sh", "-c", command).decode().strip()
    begin = time.perf_counter()
    docker(host, "start", container)
    with subprocess.Popen(["docker", "-H", host, "logs", "-f", container], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        size = 0
        while data := reader.stdout.read1(1 << 20):
            size += len(data)
    seconds = time.perf_counter() - begin
    docker(host, "rm", container)
    if size != lines * 100:
        sys.exit(f"{host}: {lines * 100 - size} bytes of the log are lost")
    return size / seconds / 1e6


def load(path: str, requests: int) -> tuple[float, int]:
    """Many clients at once, each with one connection: seconds, and how many answers were wrong."""
    wrong: list[object] = []

    def client() -> None:
        connection = http.client.HTTPConnection("minidock")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(path)
            for number in range(requests // CLIENTS):
                where, status = ASKED[number % len(ASKED)]
                connection.request("GET", where)
                answer = connection.getresponse()
                answer.read()
                if answer.status != status:
                    wrong.append((where, answer.status))
        except OSError as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, len(wrong)


def resident(pid: int) -> float:
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float:
    """A line of /proc/PID/status, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def row(what: str, values: dict[str, list[float]], unit: str) -> None:
    shown = "   ".join(f"{name} {statistics.median(each):.1f} {unit}" for name, each in values.items())
    print(f"\n{what}: {shown}")


def compare(values: dict[str, list[float]], wanted: str) -> None:
    if "dockerd" in values:
        ratio = statistics.median(values["minidock"]) / statistics.median(values["dockerd"])
        print(f"minidock / dockerd: {ratio:.2f}   (wanted: {wanted})")


if __name__ == "__main__":
    if os.geteuid() != 0 or shutil.which("docker") is None:
        sys.exit("benchmarks/server.py: needs root and the docker command")
    main()
