"""The peers' world: where dockerd, podman and crun run beside us, and what every benchmark does with it.

A directory, by --peers or $MINIDOCK_PEERS: `in COMMAND…` runs a command beside their dockerd, `vol/` is a
journaled ext4, `layouts/` holds their images, `bundle/` what crun starts. Without it minidock is alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COMMAND = str(REPOSITORY / ".venv/bin/minidock")
IMAGE = "busybox"


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all have in common."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--rounds", type=int, default=rounds)
    place = os.environ.get("MINIDOCK_PEERS", "/var/lib/minidock-peers")
    found.add_argument("--peers", type=Path, default=Path(place))
    found.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return found


def enter(chosen: argparse.Namespace, needed: str = "in") -> bool:
    """Whether the peers are there, with the file *needed*; then the program goes on in their world."""
    if not (chosen.peers / needed).exists():
        return False
    if not chosen.inside:
        script = str(Path(sys.argv[0]).resolve())
        os.execv(chosen.peers / "in", ["in", sys.executable, script, *sys.argv[1:], "--inside"])
    return True


@contextlib.contextmanager
def workplace(chosen: argparse.Namespace) -> Iterator[Path]:
    """A directory for the time of a benchmark, on the peers' disk: all contenders write to the same kind."""
    volume = chosen.peers / "vol"
    place = volume if volume.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, prefix="minidock-bench-") as name:
        yield Path(name)


def fetch(root: Path, peers: Path) -> None:
    """Put busybox into *root*: from the peers' layouts, or by the configured mirrors."""
    layout = peers / "layouts/busybox"
    if layout.exists():
        archive = root / "busybox.tar"
        copy = ["skopeo", "copy", "-q", f"oci:{layout}:latest", f"docker-archive:{archive}:{IMAGE}:latest"]
        subprocess.run(copy, check=True)
        subprocess.run([COMMAND, "--root", root, "load", "-q", "-i", archive], check=True)
    else:
        subprocess.run([COMMAND, "--root", root, "pull", "-q", IMAGE], check=True)


def run(command: list[str]) -> None:
    """Run a command that is not to be seen."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
