"""What the torture tests are made of: a storm that kills, and the checks that must hold after every kill.

Chance is seeded: a failure prints its seed, MINIDOCK_TORTURE_SEED plays the same choices again (not the
same scheduling). MINIDOCK_LONG=1 (`make torture`) is the long form, which also prints its figures.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import leaks
import pytest
from worlds import PATIENCE, Cli, cli_command, wait_for

LONG = bool(os.environ.get("MINIDOCK_LONG"))
SEED = int(os.environ.get("MINIDOCK_TORTURE_SEED") or random.SystemRandom().randrange(1 << 32))
STORM = "127.0.0.1:5001/storm:latest"


def times(short: int, long: int) -> int:
    """How often: in `make test`, and in `make torture`."""
    return long if LONG else short


def tell_figures(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """A table to fill; printed after the module's tests in the long form."""
    figures: dict[str, str] = {}
    yield figures
    plugins = request.config.pluginmanager
    terminal, capture = (plugins.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    if LONG and terminal is not None:
        with capture.global_and_fixture_disabled():  # what a fixture prints is shown after a failure only
            terminal.write_line("")
            terminal.section(f"{request.module.__name__}, seed {SEED}")
            for what, number in figures.items():
                terminal.write_line(f"  {what:<52} {number}")


@dataclass
class Storm:
    """One state root in bad weather."""

    root: Path
    cli: Cli
    environment: dict[str, str]
    scratch: Path
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    kills: dict[str, list[int]] = field(default_factory=dict)  # of what: [tries, those that hit]
    counts: Counter[str] = field(default_factory=Counter)  # of other misfortunes
    lasts: dict[str, float] = field(default_factory=dict)  # seconds that a command takes, undisturbed
    acknowledged: dict[str, str] = field(default_factory=dict)  # image name → id
    before: dict[str, str] = field(default_factory=dict)  # settings of the network before all

    def __post_init__(self) -> None:
        self.before = self.settings()
        print(f"chance: MINIDOCK_TORTURE_SEED={SEED}")

    # ── to begin, and to kill ────────────────────────────────────────────────────────────────────

    def begin(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """Start the real command; what it says goes to files that `said` and `complained` read."""
        command = [*cli_command(), "--root", str(self.root), *map(str, words)]
        with open(self.scratch / "out", "wb") as out, open(self.scratch / "err", "wb") as err:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ | self.environment,
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.scratch / "out").read_text()

    def complained(self) -> str:
        return (self.scratch / "err").read_text()

    def kill_command(self, *words: str | Path, prepare: Any = None) -> int | None:
        """Kill the command itself at a random moment of its life; its exit code when it was quicker."""
        kind = " ".join(map(str, words[:2])) if words[1:2] == ("-d",) else str(words[0])
        if kind not in self.lasts:
            before = time.monotonic()
            self.must_work(self.begin(*words), words)
            self.lasts[kind] = time.monotonic() - before
            return 0
        process = self.begin(*words)
        time.sleep(self.chance.uniform(0, self.lasts[kind] * 1.1))  # the random moment
        self.strike(f"command {kind}", process.pid if process.poll() is None else None)
        code = process.wait(60 * PATIENCE)
        return None if code == -signal.SIGKILL else code

    def strike(self, what: str, pid: int | None) -> bool:
        """SIGKILL, and count it."""
        tally = self.kills.setdefault(what, [0, 0])
        tally[0] += 1
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        tally[1] += 1
        return True

    def must_work(self, process: subprocess.Popen[bytes], words: Any) -> None:
        code = process.wait(120 * PATIENCE)
        assert code == 0, f"{words}: exit code {code}\n{self.said()}{self.complained()}"

    # ── who is who ───────────────────────────────────────────────────────────────────────────────

    def shim(self, identifier: str) -> int | None:
        """The process that holds the container's shim.lock, as the kernel lists it."""
        try:
            inode = os.stat(self.root / "containers" / identifier / "shim.lock").st_ino
        except OSError:
            return None
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "->" not in words and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                return int(words[4])
        return None

    def identifiers(self) -> list[str]:
        """The containers' directories, whatever is in them."""
        directory = self.root / "containers"
        return [each for each in os.listdir(directory) if len(each) == 64] if directory.exists() else []

    def init(self, identifier: str) -> int | None:
        try:
            state = json.loads((self.root / "containers" / identifier / "state.json").read_text())
        except (OSError, ValueError):
            return None
        return state["pid"] or None

    def processes(self) -> dict[str, set[int]]:
        """The living processes of every container, as the cgroups list them."""
        found: dict[str, set[int]] = {}
        for parent in leaks.cgroup_directories():
            if parent.name == leaks.cgroup_parent_of(self.root):
                for listing in parent.glob("*/cgroup.procs"):
                    pids = set(map(int, _read(listing).split()))
                    found.setdefault(listing.parent.name, set()).update(filter(_lives, pids))
        return found

    # ── what must hold ───────────────────────────────────────────────────────────────────────────

    def check(self, after: str) -> None:
        """After a kill: `ps` tells the truth, every image is whole, none that was acknowledged is gone."""
        lies: list[str] = []

        def truth() -> bool:
            lies[:] = self.lies()
            return not lies

        try:
            wait_for(truth, what="the truth in ps")
        except BaseException:
            print(f"after {after}:", *lies, sep="\n  ")
            raise
        self.check_images(after)

    def lies(self) -> list[str]:
        """Where `ps -a` and the kernel differ now (something may just be ending: ask again)."""
        lines = self.cli("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}").stdout.split("\n")
        shown = dict(line.split() for line in lines if line)
        alive = {each: pids for each, pids in self.processes().items() if pids}
        found = [
            f"{each[:12]} is said to be {shown.get(each, 'gone')}, and has processes {pids}"
            for each, pids in alive.items()
            if shown.get(each) not in ("running", "paused")
        ]
        return found + [
            f"{each[:12]} is said to be {state}, and has no process"
            for each, state in shown.items()
            if state in ("running", "paused") and each not in alive
        ]

    def check_images(self, after: str) -> None:
        """Hash every blob; follow every name to its last layer."""
        images = self.root / "images"
        blobs = {path.name: path.read_bytes() for path in (images / "blobs/sha256").iterdir()}
        for name, data in blobs.items():
            assert hashlib.sha256(data).hexdigest() == name, f"after {after}: blob {name} is damaged"
        found: dict[str, str] = {}
        for entry in json.loads((images / "index.json").read_text())["manifests"]:
            manifest = json.loads(blobs[entry["digest"][7:]])
            config = json.loads(blobs[manifest["config"]["digest"][7:]])
            for layer in manifest["layers"]:
                assert len(blobs[layer["digest"][7:]]) == layer["size"], f"after {after}: {layer}"
            for diff_id in config["rootfs"]["diff_ids"]:
                assert (self.root / "layers" / diff_id[7:]).is_dir(), f"after {after}: {diff_id} not unpacked"
            name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
            found[name] = manifest["config"]["digest"]
        for name, identifier in self.acknowledged.items():
            assert found.get(name) == identifier, (
                f"after {after}: {name} is {found.get(name)}, not {identifier}"
            )

    def acknowledge(self, name: str) -> None:
        """The image *name* was promised: from now on it must be there."""
        shown = self.cli("image", "inspect", "--format", "{{.Id}}", name).stdout.strip()
        full = name if "/" in name else f"docker.io/library/{name}:latest"
        assert self.acknowledged.setdefault(full, shown) == shown

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def left(self) -> list[str]:
        """What `doctor` lists as left behind."""
        out = self.cli("doctor", check=False).stdout
        lines = out.partition("Left behind")[2].splitlines()[1:]
        return [line for line in lines if "!" in line.split()[:1]]

    def calm_down(self) -> None:
        """Go on as people do: then nothing is left. At last reset: then nothing at all is there."""
        ids = self.cli("ps", "-aq").stdout.split()
        self.cli("run", "--rm", "busybox", "true")
        if ids:
            self.cli("rm", "-f", *ids)
        self.cli("image", "prune", "-f")
        left = self.left()
        assert not left, left
        self.check_no_litter()
        self.cli("reset", "--yes")
        self.check_gone()

    def check_no_litter(self) -> None:
        """No temporary file, no half-made or half-removed directory, where it would stay for ever."""
        root = self.root
        litter = [path for path in (root / "tmp").glob("*") if path.suffix != ".partial"]
        litter += [path for path in (root / "containers").glob(".*") if path.name not in (".lock", ".init")]
        litter += [*(root / "images").rglob(".*"), *root.glob(".*"), *(root / "names").glob("*")]
        litter += [*(root / "cache").rglob(".*"), *root.glob("containers/*/.*.json.*")]
        litter += [*(root / "networks").glob(".*.json.*")]
        assert not litter, litter

    def check_gone(self) -> None:
        """No process, cgroup, mount or file of this root; no link, rule or setting in this test's network."""

        def present() -> list[str]:
            parents = [
                each for each in leaks.cgroup_directories() if each.name == leaks.cgroup_parent_of(self.root)
            ]
            found = [*map(str, parents), *map(str, leaks._processes_of(self.root, parents))]
            found += [each for each in leaks._mounts_under(self.root) if each != str(self.root)]
            found += [name for _, name in socket.if_nameindex() if name != "lo"] + leaks._nft_tables()
            now = self.settings()
            found += [f"{name} = {now[name]}" for name, value in self.before.items() if now[name] != value]
            return found + [str(path) for path in self.root.glob("*")]

        wait_for(lambda: not present(), what=f"the end of {present()}")

    def settings(self) -> dict[str, str]:
        """What networks may set for the whole of a machine, as this test's network has it."""
        names = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/route_localnet")
        return {name: _read(Path("/proc/sys/net") / name) for name in names}

    def tell(self, figures: dict[str, str]) -> None:
        for what, (tried, hit) in sorted(self.kills.items()):
            figures[f"SIGKILL of {what}"] = f"{tried} ({hit} hit it alive)"
        for what, number in sorted(self.counts.items()):
            figures[what] = str(int(figures.get(what, 0)) + number)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    """Neither gone nor a zombie."""
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1]
    return bool(state) and state[0] not in "ZX"


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for each in listings for word in _read(each).split()]


def archive(path: Path, name: str, chance: random.Random, layers: int = 4, size: int = 1 << 20) -> Path:
    """A docker archive with an image that barely compresses, *size* bytes a layer in 40 files each."""
    tars = []
    for number in range(layers):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as layer:
            for file in range(40):
                info = tarfile.TarInfo(f"layer{number}/file{file}")
                info.size = size // 40
                layer.addfile(info, io.BytesIO(chance.randbytes(info.size)))
        tars.append(out.getvalue())
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Cmd": ["/none"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in tars],
        },
    }
    members = {"config.json": json.dumps(config).encode()}
    members |= {f"{number}.tar": data for number, data in enumerate(tars)}
    note = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in range(layers)]}]
    members["manifest.json"] = json.dumps(note).encode()
    with (
        open(path, "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w") as whole,
    ):
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            whole.addfile(info, io.BytesIO(data))
    return path
