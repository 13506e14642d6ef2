"""What a test run may leave behind, and proof that it did not.

Used by conftest.py, and by setup/world.sh around the notebooks: ``leaks.py begin ROOT`` makes a base
directory, notes what there is and prints it; ``leaks.py end BASE`` clears away and tells what was left.
What carries the run's own marks (its base directory, the cgroup parents of its roots) is always a leak.
What merely looks like minidock's (an interface ``minidock0``, a cgroup ``minidock-…``) counts when
MINIDOCK_LEAKS=strict, that is when nobody else works here: `make test` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

Snapshot = dict[str, list[str]]

PATIENCE = 5.0  # seconds until what the kernel frees late counts as left behind
_FREE_SPACE = 1 << 30  # bytes that a base directory's filesystem must have free


# ── the base directory and the roots in it ───────────────────────────────────────────────────────────


def make_base() -> Path:
    """A new base directory, short (unix sockets live below it) and able to be an overlay's upper layer."""
    candidates = [os.environ.get("MINIDOCK_TEST_DIR"), "/dev/shm", "/var/tmp", "/tmp"]
    for candidate in filter(None, candidates):
        directory = Path(candidate)
        if directory.is_dir() and shutil.disk_usage(directory).free > _FREE_SPACE:
            base = Path(tempfile.mkdtemp(prefix="minidock-t", dir=directory))
            if _can_be_upper(base):
                base.chmod(0o755)  # containers of other users walk through it
                return base
            shutil.rmtree(base)
    raise SystemExit(f"none of {candidates} can hold overlay uppers with xattrs: set MINIDOCK_TEST_DIR")


def _can_be_upper(base: Path) -> bool:
    """Try it: user and trusted xattrs (tmpfs lacks the first before Linux 6.6) and a real overlay mount."""
    probe = base / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    try:
        os.setxattr(probe, "user.probe", b"1")
        os.setxattr(probe, "trusted.probe", b"1")
    except OSError:
        return False
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    script = f"mount -t overlay o -o {options} {probe}/merged && : > {probe}/merged/file"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=False)
    shutil.rmtree(probe)
    return tried.returncode == 0


def new_root(base: Path) -> Path:
    """A fresh directory for one state root; its name is noted so that its cgroups can be told as ours."""
    root = Path(tempfile.mkdtemp(prefix="r", dir=base))
    root.chmod(0o755)
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    with (base / "roots").open("a") as note:  # O_APPEND: workers share it
        note.write(f"{root}\t{test}\n")
    return root


def _roots(base: Path) -> dict[Path, str]:
    """The roots of this run, each with the test that asked for it."""
    if not (base / "roots").exists():
        return {}
    lines = [line.partition("\t") for line in (base / "roots").read_text().splitlines()]
    return {Path(root): test for root, _, test in lines}


def cgroup_parent_of(root: Path) -> str:
    """The cgroup under which minidock puts the containers of *root* (the same rule as the engine's)."""
    return f"minidock-{zlib.crc32(str(root).encode()):08x}"


def bridge_prefix_of(root: Path) -> str:
    """What the names of the bridges of *root* begin with (the same rule as the engine's)."""
    return f"md{zlib.crc32(str(root).encode()):08x}-"


def cgroup_directories() -> list[Path]:
    """Top-level cgroups of every hierarchy mounted here."""
    hierarchies = [
        Path(line.split()[1])
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[2] in ("cgroup", "cgroup2")
    ]
    return [each for top in hierarchies for each in top.glob("minidock*") if each.is_dir()]


def tear_down(root: Path) -> None:
    """Kill what runs under *root*, unmount what is mounted there, remove its cgroups and its files."""
    parents = [each for each in cgroup_directories() if each.name == cgroup_parent_of(root)]
    if (root / "containers").exists() or (root / "run").exists() or parents:
        deadline = time.monotonic() + 10
        while processes := _processes_of(root, parents):
            for pid in processes:
                _kill(pid)
            if time.monotonic() > deadline:
                break  # the leak check names them
            time.sleep(0.01)
    for target in sorted(_mounts_under(root), reverse=True):
        ctypes.CDLL(None).umount2(target.encode(), 2)  # MNT_DETACH
    for parent in parents:
        _remove_cgroup(parent)
    shutil.rmtree(root, ignore_errors=True)
    if root.exists():  # an immutable or unreadable corner made by a hostile archive
        subprocess.run(["chattr", "-R", "-i", "-a", root], capture_output=True, check=False)
        shutil.rmtree(root, ignore_errors=True)


def _processes_of(root: Path, cgroups: list[Path]) -> set[int]:
    """Processes in the root's cgroups, and those that hold one of its files open (shims, helpers)."""
    found = set()
    for parent in cgroups:
        for listing in parent.rglob("cgroup.procs"):
            try:
                found |= {int(word) for word in listing.read_text().split()}
            except OSError:
                continue
        for frozen in [*parent.rglob("freezer.state"), *parent.rglob("cgroup.freeze")]:
            try:  # v1: a frozen process does not even die
                frozen.write_text("THAWED" if frozen.name == "freezer.state" else "0")
            except OSError:
                continue
    prefix = f"{root}/"
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(os.readlink(each).startswith(prefix) for each in (process / "fd").iterdir()):
                found.add(int(process.name))
        except OSError:
            continue
    return found - {os.getpid()}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        pass


def _mounts_under(directory: Path) -> list[str]:
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [target for target in targets if target == str(directory) or target.startswith(f"{directory}/")]


def _remove_cgroup(top: Path) -> None:
    deadline = time.monotonic() + 5
    while top.exists():
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                if time.monotonic() > deadline:
                    return  # the leak check names it
                time.sleep(0.01)


# ── before and after ─────────────────────────────────────────────────────────────────────────────────


def snapshot() -> Snapshot:
    """What exists now, by kind. Values are JSON, so that a shell script can keep it in a file."""
    return {
        "mount": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroup": sorted(map(str, cgroup_directories())),
        "network interface": sorted(name for _, name in socket.if_nameindex()),
        "nft table": sorted(_nft_tables()),
        "network namespace": sorted(_names("/run/netns")),
        "process": sorted(_minidock_processes()),
        "temporary file": sorted(
            f"{place}/{name}"
            for place in ("/tmp", "/var/tmp", "/dev/shm", "/run")
            for name in _names(place)
            if "minidock" in name
        ),
    }


def compare(before: Snapshot, base: Path) -> list[str]:
    """What is there now, was not before, and is this run's: one line each, empty when all is clean."""
    strict = os.environ.get("MINIDOCK_LEAKS") == "strict"
    roots = _roots(base)
    marks = {cgroup_parent_of(root): test for root, test in roots.items()}
    marks |= {bridge_prefix_of(root): test for root, test in roots.items()}
    marks |= {str(root): test for root, test in roots.items()} | {str(base): ""}
    _drop_empty_cgroups(before, marks, strict)
    deadline = time.monotonic() + PATIENCE
    while True:  # the kernel frees namespaces and dead processes a moment late
        now = snapshot()
        found = []
        for kind, things in now.items():
            for thing in things:
                if thing in before[kind] or thing == str(base):
                    continue
                tests = [test for mark, test in marks.items() if mark in thing]
                if tests or (strict and (kind == "mount" or "minidock" in thing)):
                    found.append(f"{kind}: {thing}{_of(tests)}")
        found += [f"state root: {root}{_of([test])}" for root, test in roots.items() if root.exists()]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _drop_empty_cgroups(before: Snapshot, marks: dict[str, str], strict: bool) -> None:
    """The cgroup of a root stays when its last container goes: empty, it is no more than a name."""
    for parent in cgroup_directories():
        if str(parent) not in before["cgroup"] and (strict or parent.name in marks):
            with contextlib.suppress(OSError):  # not empty: a leak
                parent.rmdir()


def _of(tests: list[str]) -> str:
    named = [test for test in tests if test]
    return f" (of {named[0]})" if named else ""


def sweep(base: Path) -> None:
    """Remove all that this run made, also after a failed run."""
    for root in _roots(base):
        tear_down(root)
    for target in sorted(_mounts_under(base), reverse=True):
        ctypes.CDLL(None).umount2(target.encode(), 2)
    shutil.rmtree(base, ignore_errors=True)


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if Path(directory).is_dir() else []


def _nft_tables() -> list[str]:
    program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if program is None:
        return []
    listed = subprocess.run([program, "list", "tables"], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()


def _minidock_processes() -> list[str]:
    """``pid command line`` of processes that run minidock or hold the state of a test run."""
    found, ourselves = [], _ancestors()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) in ourselves:
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            cgroups = (process / "cgroup").read_text()
        except OSError:
            continue
        places = [line.split(":", 2)[2] for line in cgroups.splitlines()]
        inside = sorted({place for place in places if place.startswith("/minidock")})
        opened = _test_files(process)
        if inside or opened or ("minidock" in command.split("/")[-1] and "pytest" not in command):
            found.append(f"{process.name} {command[:120]} {' '.join([*inside, *opened[:1]])}".rstrip())
    return found


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def _test_files(process: Path) -> list[str]:
    try:
        links = [os.readlink(each) for each in (process / "fd").iterdir()]
    except OSError:
        return []
    return [link for link in links if "/minidock-t" in link and "/r" in link]


def begin(root: Path) -> Path:
    """For a shell script: a base directory whose one state root is *root*, and what existed before."""
    base = make_base()
    (base / "roots").write_text(f"{root}\n")
    (base / "before.json").write_text(json.dumps(snapshot()))
    return base


def end(base: Path) -> list[str]:
    """The counterpart of :func:`begin`: what was left behind, after clearing it away."""
    before: Snapshot = json.loads((base / "before.json").read_text())
    found = compare(before, base)
    sweep(base)
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["begin", root]:
            print(begin(Path(root)))
        case ["end", base]:
            found = end(Path(base))
            for line in found:
                print(f"left behind: {line}", file=sys.stderr)
            return 1 if found else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
