#!/usr/bin/env python3
"""How fast is a start on the bridge with a published port, and how much goes through the port, beside Docker?

    sudo .venv/bin/python benchmarks/network.py [--rounds 20] [--peers DIRECTORY]

`run --rm -p 80 busybox true` from a shell, minidock and docker in turn in every round. Then a web server in a
container of each, and the same file fetched through the published port of one and of the other: by an address
of the host (the kernel translates, with both) and by 127.0.0.1 (with Docker a program of its own carries it).

DIRECTORY, or $MINIDOCK_PEERS, is the peers' world, as in peers.py.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import peers
from peers import COMMAND, IMAGE, fetch, run

ADDRESS = "192.0.2.80"  # for documentation: nobody has it. The host gets it for as long as we measure
SIZE = 60  # MiB in the file that is fetched; /dev/shm of a container has 64
FETCHES = 8  # of it in each round
PORTS = {"minidock": 18080, "docker": 18081}
SERVE = f"dd if=/dev/zero of=/dev/shm/file bs=1M count={SIZE} && exec httpd -f -p 80 -h /dev/shm"


def main() -> None:
    chosen = peers.options(__doc__, rounds=20).parse_args()
    there = peers.enter(chosen)
    with peers.workplace(chosen) as root:
        engines = {"minidock": [COMMAND, "--root", str(root)]} | ({"docker": ["docker"]} if there else {})
        try:
            fetch(root, chosen.peers)
            start(engines, chosen.rounds)
            throughput(engines, max(chosen.rounds // 4, 3))
        finally:
            run([COMMAND, "--root", str(root), "reset", "-y"])


def start(engines: dict[str, list[str]], rounds: int) -> None:
    """Milliseconds from the command to its end."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 2):
        for name, command in engines.items():
            time.sleep(0.2)  # nobody pays for what the kernel still clears away of the one before
            begin = time.perf_counter()
            run([*command, "run", "--rm", "-p", "80", IMAGE, "true"])
            if number >= 2:  # the first two rounds warm the caches of all, and make the bridge
                times[name].append((time.perf_counter() - begin) * 1000)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {rounds} rounds\n")
    print(f"{'run -p 80':<24}{'ms':>8}{'min':>8}")
    for name, values in times.items():
        print(f"{name:<24}{statistics.median(values):>8.1f}{min(values):>8.1f}")
    compare(times, "run -p 80", "at most 0.3")


def throughput(engines: dict[str, list[str]], rounds: int) -> None:
    """MiB a second through a published port."""
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    started: list[Callable[[], object]] = []
    try:
        for name, command in engines.items():
            box = f"bench-{os.getpid()}"
            port = f"{PORTS[name]}:80"
            run([*command, "run", "-d", "--name", box, "-p", port, IMAGE, "sh", "-c", SERVE])
            started.append(lambda command=command, box=box: run([*command, "rm", "-f", box]))  # type: ignore[misc]
            until_served(PORTS[name])
        for host, wanted in ((ADDRESS, "at least 0.95"), ("127.0.0.1", "at least 0.95")):
            rates: dict[str, list[float]] = {name: [] for name in engines}
            for number in range(rounds + 1):
                for name in engines:
                    begin = time.perf_counter()
                    received = sum(download(host, PORTS[name]) for _ in range(FETCHES))
                    if number:
                        rates[name].append(received / (time.perf_counter() - begin) / (1 << 20))
            print(f"\n{f'by {host}':<24}{'MiB/s':>8}{'max':>8}")
            for name, values in rates.items():
                print(f"{name:<24}{statistics.median(values):>8.0f}{max(values):>8.0f}")
            compare(rates, f"throughput by {host}", wanted)
    finally:
        for stop in started:
            stop()
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=False)


def download(host: str, port: int) -> int:
    """Fetch the file and throw it away; the bytes that came."""
    received, buffer = 0, bytearray(1 << 20)
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        while count := connection.recv_into(buffer):
            received += count
    if received < SIZE << 20:
        raise ConnectionError(f"only {received} bytes from {host}:{port}")
    return received


def until_served(port: int) -> None:
    for _ in range(200):
        try:
            download("127.0.0.1", port)
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"benchmarks/network.py: nobody answers at port {port}")


def compare(values: dict[str, list[float]], what: str, wanted: str) -> None:
    if "docker" in values:
        ratio = statistics.median(values["minidock"]) / statistics.median(values["docker"])
        print(f"{what}, minidock / docker: {ratio:.2f}   (wanted: {wanted})")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("benchmarks/network.py: needs root")
    main()
