"""Fuzz the unpacking of layers: `python tests/fuzz/fuzz_tar.py [SECONDS] [SEED]`.

Valid and hostile archives are mutated (fields, names, whole blocks, the compressed bytes) and unpacked.
Whatever comes out: nothing beside the target changes, no input takes long, no descriptor or thread is
left, and the only exception is a MinidockError of one line. An input that breaks this is kept.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path[:0] = [str(Path(__file__).parent.parent.parent), str(Path(__file__).parent.parent / "images")]

import hostile  # noqa: E402
import zstandard  # noqa: E402

from minidock import files  # noqa: E402
from minidock.errors import MinidockError  # noqa: E402
from minidock.images import layer  # noqa: E402

LIMIT = 10  # seconds that one input may take: a thousand times the usual
NAMES = [
    b"..",
    b"../canary/file",
    b"/",
    b".",
    b"a",
    b"a/b",
    b"a/../..",
    b".wh.a",
    b".wh...",
    b".wh..wh..opq",
    b"l",
]
NAMES += [b"l/file", b"", b"d/", b"\xff", b"a" * 101, b"../canary"]
KINDS = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"\0", b"V"]
FIELDS = [
    (0, 100),
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (136, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (329, 16),
]
FIELDS += [(345, 155), (386, 96), (482, 13)]


def seeds() -> list[bytes]:
    """Archives to begin with: every hostile one, and honest ones of each format."""
    found = [case.make(b"/canary") + hostile.END for case in hostile.CASES if not case.raw]
    found = [data for data in found if len(data) < 60_000]
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
            for name in ("d/", "d/file", "d/" + "long/" * 25 + "x", "l", "h", "dev"):
                entry = tarfile.TarInfo(name)
                entry.type = {"d/": b"5", "l": b"2", "h": b"1", "dev": b"3"}.get(name, b"0")
                entry.linkname = {"l": "../canary", "h": "d/file"}.get(name, "")
                entry.mtime, entry.devmajor, entry.devminor = 1.25 if kind == tarfile.PAX_FORMAT else 1, 1, 3
                entry.size = 700 if entry.type == b"0" else 0
                archive.addfile(entry, io.BytesIO(b"c" * entry.size))
        found.append(out.getvalue())
    return found


def mutate(data: bytes, chance: random.Random, all_seeds: list[bytes]) -> bytes:
    """One to six changes; checksums are mended most of the time, or little would be reached."""
    tar = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(max(1, len(tar) // 512)) * 512
        start, length = chance.choice(FIELDS)
        what = chance.randrange(9)
        if what == 0 and tar:
            tar[chance.randrange(len(tar))] = chance.randrange(256)
        elif what == 1:
            tar[at : at + 512] = tar[at : at + 512] * chance.choice((0, 2, 3))
        elif what == 2:
            other = chance.choice(all_seeds)
            cut = chance.randrange(len(other) // 512 + 1) * 512
            tar[at:at] = other[cut : cut + 512 * chance.randint(1, 4)]
        elif what == 3:
            tar[at : at + 100] = chance.choice(NAMES)[:100].ljust(100, b"\0")
        elif what == 4:
            tar[at + 157 : at + 257] = chance.choice(NAMES)[:100].ljust(100, b"\0")
        elif what == 5:
            tar[at + 156 : at + 157] = chance.choice(KINDS)
        elif what == 6:
            tar[at + start : at + start + length] = chance.randbytes(length)
        elif what == 7:
            digits = chance.choice((b"7" * 11 + b"\0", b"\xff" * 12, b"\x80" + b"\0" * 11, b"0" * 12))
            tar[at + start : at + start + min(length, 12)] = digits[: min(length, 12)]
        elif chance.random() < 0.2:
            del tar[chance.randrange(len(tar) + 1) :]
    if chance.random() < 0.9:
        mend(tar)
    packed = bytes(tar)
    how = chance.randrange(10)
    if how == 0:
        packed = zstandard.compress(packed)
    elif how == 1:
        packed = gzip.compress(packed, 1)
    if how < 2 and chance.random() < 0.5:
        spoiled = bytearray(packed)
        spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
        packed = bytes(spoiled)
    return packed


def mend(tar: bytearray) -> None:
    """Give every block that looks like a header its right checksum, where a reader would look for one."""
    for at in range(0, len(tar) - 511, 512):
        looks_like_one = tar[at + 257 : at + 262] == b"ustar" or not tar[at + 148 : at + 156].strip(
            b"\0 01234567"
        )
        if looks_like_one and any(tar[at : at + 512]):
            tar[at + 148 : at + 156] = b" " * 8
            tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])


def state(base: Path) -> object:
    """What must not change: the canary, and the names beside the target."""
    canary = base / "canary"
    looks = [os.lstat(path) for path in (canary, canary / "file", canary / "directory", canary / "link")]
    seen = [(look.st_mode, look.st_uid, look.st_mtime_ns, look.st_ctime_ns, look.st_nlink) for look in looks]
    return seen, (canary / "file").read_bytes(), sorted(os.listdir(canary)), sorted(os.listdir(base))


def attempt(data: bytes, base: Path) -> str | None:
    """Unpack *data*; what is wrong with how that went, or None."""
    before = state(base)
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    wrong = None
    try:
        layer.apply_layer(io.BytesIO(data), base / "target", max_size=1 << 20)
    except MinidockError as error:
        if "\n" in str(error):
            wrong = f"a message of several lines: {error!s}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        wrong = f"{type(error).__name__}: {error}"
    files.remove_tree(base / "target")
    if state(base) != before:
        wrong = "something beside the target changed"
    if (len(os.listdir("/proc/self/fd")), threading.active_count()) != (descriptors, threads):
        wrong = "a descriptor or a thread is left open"
    return wrong


def run(seconds: float, seed: int, base: Path, say: Callable[[str], None] = print) -> int:
    """Fuzz for *seconds* below *base*; the number of inputs tried. Raises AssertionError on a find."""

    def too_long(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {LIMIT} s")

    canary = base / "canary"
    canary.mkdir(parents=True)
    (canary / "file").write_text("untouched")
    (canary / "directory").mkdir()
    (canary / "link").symlink_to("file")
    chance, beginnings, tried = random.Random(seed), seeds(), 0
    deadline = time.monotonic() + seconds
    old = signal.signal(signal.SIGALRM, too_long)
    try:
        while time.monotonic() < deadline:
            data = mutate(chance.choice(beginnings), chance, beginnings)
            signal.alarm(LIMIT)
            wrong = attempt(data, base)
            signal.alarm(0)
            tried += 1
            if wrong:
                kept = Path(tempfile.gettempdir()) / f"minidock-fuzz-{zlib.crc32(data):08x}.tar"
                kept.write_bytes(data)
                raise AssertionError(f"seed {seed}, input {tried}: {wrong}; kept in {kept}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    say(f"{tried} archives, seed {seed}: all as it should be")
    return tried


if __name__ == "__main__":
    where = Path(tempfile.mkdtemp(prefix="minidock-fuzz-", dir="/dev/shm"))
    try:
        run(
            float(sys.argv[1]) if len(sys.argv) > 1 else 60,
            int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32),
            where,
        )
    finally:
        shutil.rmtree(where, ignore_errors=True)
