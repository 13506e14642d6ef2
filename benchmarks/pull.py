#!/usr/bin/env python3
"""How fast is a pull, against whichever peers are installed? Ratios of one run, rounds interleaved.

    sudo .venv/bin/python benchmarks/pull.py [--rounds 5] [--peers DIRECTORY]

With a peers' world in DIRECTORY (see peers.py) the image is their ``big``: 5 layers, 260 MB of gzip,
25 thousand files; dockerd and podman pull it too. Without them a synthetic image of that shape is
made, served by a docker-registry of our own, and compared with `igzip | tar` and `gzip | tar` only.

Everything is written to a journaled ext4 on a loop device (other filesystems create files at wildly
different speeds), and each contender starts from synced disks, with memory that is really there.
minidock's time ends when the image is durable; the `tar` lines say both, without and with the sync that
durability would cost them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
REGISTRY = "127.0.0.1:5000"
CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE = 0x20000, 0x40000000, 0x4000, 0x40000
SAMPLE_EVERY = 0.02  # seconds between two looks at the memory

_PULL = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from minidock.config import Config
from minidock.images import store, transfer
transfer.pull(store.Store(Path({root!r})), {name!r}, Config(root=Path({root!r})))
"""


def main() -> None:
    options = peers.options(__doc__, rounds=5)
    options.add_argument("--registry", default=REGISTRY, help="where minidock finds the peers' image")
    options.add_argument("--only", default="", help="comma-separated parts of contenders' names")
    chosen = options.parse_args()
    has_peers = peers.enter(chosen, needed="layouts/big.ok")
    with tempfile.TemporaryDirectory(prefix="minidock-bench-") as scratch:
        if has_peers:
            place = chosen.peers / "vol" / "minidock-bench"
            layers = layers_of(chosen.peers / "layouts/big")
            compare(place, layers, chosen, docker=True)
            shutil.rmtree(place, ignore_errors=True)
        else:
            alone(Path(scratch), chosen)


def alone(scratch: Path, chosen: argparse.Namespace) -> None:
    """No peers here: a network, a filesystem, a registry and an image of our own, all gone afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        sys.exit("benchmarks/pull.py: needs root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    disk, place = scratch / "disk", scratch / "volume"
    with disk.open("wb") as file:
        file.truncate(12 << 30)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    configuration = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(scratch / "registry")}},
        "http": {"addr": REGISTRY, "secret": "bench"},
    }
    (scratch / "registry.yml").write_text(json.dumps(configuration))
    with (scratch / "registry.log").open("wb") as log:
        registry = subprocess.Popen(
            ["docker-registry", "serve", scratch / "registry.yml"], stdout=log, stderr=log
        )
    try:
        time.sleep(1)
        compare(place / "work", synthetic(scratch / "layers"), chosen, docker=False)
    finally:
        registry.kill()
        registry.wait()
        subprocess.run(["umount", "-l", place], check=False)


def compare(place: Path, layers: list[Path], chosen: argparse.Namespace, *, docker: bool) -> None:
    """Run every contender *rounds* times, in turn, and print medians and ratios."""
    contenders: dict[str, tuple[Callable[[], object], list[str]]] = {}
    code = _PULL.format(path=[str(REPOSITORY), *sys.path], root=str(place), name=f"{chosen.registry}/big")
    contenders["minidock pull"] = (lambda: None, [sys.executable, "-c", code])
    for tool in ("igzip", "gzip"):
        if shutil.which(tool):
            contenders[f"{tool} -dc | tar -x"] = (lambda: None, ["sh", "-c", unpacking(tool, layers, place)])
            contenders[f"{tool} -dc | tar -x; sync"] = (
                lambda: None,
                ["sh", "-c", unpacking(tool, layers, place) + f"sync -f {place}"],
            )
    # What the disk itself takes for as many bytes, layers and files: no durable pull can be quicker.
    megabytes = sum(layer.stat().st_size + unpacked_size(layer) for layer in layers) >> 20
    write = f"dd if=/dev/zero of={place}/bytes bs=1M count={megabytes} conv=fsync 2>/dev/null"
    contenders[f"the disk alone: {megabytes} MiB and a sync"] = (lambda: None, ["sh", "-c", write])
    for engine in ("docker", "podman") if docker else ():
        remove = [engine, "rmi", "-f", f"{REGISTRY}/big:latest"]
        contenders[f"{engine} pull"] = (quiet(remove), [engine, "pull", f"{REGISTRY}/big:latest"])
    wanted = [part for part in chosen.only.split(",") if part]
    names = [name for name in contenders if not wanted or any(part in name for part in wanted)]
    times: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, float] = {}
    for _ in range(chosen.rounds):
        for name in names:
            prepare, command = contenders[name]
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            prepare()
            os.sync()
            fetch_memory()
            seconds, peak = measured(command)
            times[name].append(seconds)
            memory[name] = max(memory.get(name, 0), peak)
    report(times, memory)


def fetch_memory() -> None:
    """Touch the free memory that the next contender will use.

    In a virtual machine the host takes free pages back, and who writes to them next waits for them: a pull
    for seconds, and not the same contender in every round.
    """
    size = min(4 << 30, os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE // 2)
    with mmap.mmap(-1, size) as memory:
        memory[:: mmap.PAGESIZE] = b"x" * (size // mmap.PAGESIZE)


def quiet(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, capture_output=True, check=False)


def unpacking(tool: str, layers: list[Path], place: Path) -> str:
    lines = [
        f"mkdir {place}/{number}; {tool} -dc {layer} | tar -x --numeric-owner -p -C {place}/{number}; "
        for number, layer in enumerate(layers)
    ]
    return "exec 2>/dev/null; " + "".join(lines)


def unpacked_size(layer: Path) -> int:
    """Bytes of a gzip file's content. Source: RFC 1952, ISIZE."""
    with layer.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds until *command* ended, and the peak memory (PSS, MiB) of it and its descendants."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0.0
    while True:
        try:
            _, errors = process.communicate(timeout=SAMPLE_EVERY)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, sum(map(pss, family(process.pid))))
    seconds = time.perf_counter() - begin
    if process.returncode:
        sys.exit(f"{command}: {errors.decode()}")
    return seconds, peak


def family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                found += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0


def report(times: dict[str, list[float]], memory: dict[str, float]) -> None:
    ours = statistics.median(times.get("minidock pull", [0.0]))
    best = min(times.get("minidock pull", [0.0]))
    load = os.getloadavg()[0]
    print(f"\nload {load:.1f} at the end; medians of {len(next(iter(times.values())))} rounds\n")
    print("| contender | median s | min s | minidock is × of it (median, min) | peak MiB |")
    print("|---|---|---|---|---|")
    for name, seconds in times.items():
        ratio = f"{ours / statistics.median(seconds):.2f}, {best / min(seconds):.2f}"
        # A daemon does docker's work: the memory of its client says nothing.
        peak = "(daemon)" if name == "docker pull" else f"{memory[name]:.0f}"
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {ratio} | {peak} |")


def layers_of(layout: Path) -> list[Path]:
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    return [blobs / each["digest"].removeprefix("sha256:") for each in manifest["layers"]]


def synthetic(directory: Path) -> list[Path]:
    """Make an image of 5 layers (about 260 MB of gzip, 25 thousand files), push it, and return its layers."""
    sys.path.insert(0, str(REPOSITORY))
    import gzip
    import hashlib
    import io
    import tarfile

    from minidock.images import mirrors
    from minidock.images.registry import Registry
    from minidock.images.session import Session

    directory.mkdir()
    registry = Registry(Session(mirrors.origin(REGISTRY)))
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(3, 12)) for _ in range(4000)]
    files, diff_ids, described = [], [], []
    for number, (count, size) in enumerate([(9000, 260), (4500, 130), (5000, 120), (4000, 100), (2500, 90)]):
        packed = directory / str(number)
        diff_id = hashlib.sha256()
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for position in range(count):
                length = int(chance.expovariate(1) * size * 1e6 / count)
                text = b" ".join(chance.choices(words, k=length // 10 + 1)) + bytes(length // 5)
                entry = tarfile.TarInfo(f"usr/layer{number}/d{position // 20}/file{position}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        diff_id.update(out.getbuffer())
        packed.write_bytes(gzip.compress(out.getbuffer(), 6))
        digest = "sha256:" + hashlib.sha256(packed.read_bytes()).hexdigest()
        with packed.open("rb") as file:
            registry.upload_blob("big", digest, packed.stat().st_size, file)
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        described.append({"mediaType": kind, "digest": digest, "size": packed.stat().st_size})
        diff_ids.append(f"sha256:{diff_id.hexdigest()}")
        files.append(packed)
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    data = json.dumps(config).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    registry.upload_blob("big", digest, len(data), io.BytesIO(data))
    kind = "application/vnd.oci.image.config.v1+json"
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": kind, "digest": digest, "size": len(data)},
        "layers": described,
    }
    registry.put_manifest(
        "big", "latest", json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json"
    )
    return files


if __name__ == "__main__":
    main()
