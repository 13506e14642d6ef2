"""A narrated tour in the terminal: real commands on real containers, under a minute (`make demo`).

What stands behind a ``$`` is what you may type yourself. The tour keeps its state in a directory of its
own and removes all of it at the end; your containers and images are not touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/var/lib/minidock-demo")
LONGEST = 24  # lines of output shown of one command


FETCH = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1").read())'


@dataclass(frozen=True)
class Scene:
    """One idea: what is said, then the commands with the exit code that each must end with."""

    title: str
    words: str
    commands: tuple[tuple[str, int], ...]


SCENES = (
    Scene(
        "A container runs",
        """The image comes from the registry on this machine, byte for byte checked; its only program is a
        kilobyte long and tells what happened.""",
        (("minidock run --rm hello-world", 0),),
    ),
    Scene(
        "A container is a process that sees less",
        """Its own process numbers, its own host name, no network but itself: namespaces. Its first process is
        number 1, and of the host's processes it sees none.""",
        (("minidock run --rm --hostname box busybox sh -c 'hostname; ps; ls /sys/class/net'", 0),),
    ),
    Scene(
        "Root in there is not root out here",
        """Everything is deleted in one container. The next one, from the same image, has it all again: what a
        container writes goes into a layer of its own (copy-on-write, 写时复制).""",
        (
            ("minidock run --rm busybox sh -c 'rm -rf /bin /usr /home; ls /'", 0),
            ("minidock run --rm busybox ls /", 0),
            ("minidock run --rm busybox mount -t tmpfs none /mnt", 1),
        ),
    ),
    Scene(
        "It gets what it was given, and no more",
        """The first asks for all memory and is allowed 32 MiB: the kernel ends it, exit code 137. The second
        starts processes without end and is allowed ten.""",
        (
            ("minidock run --name greedy --memory 32m busybox tail /dev/zero", 137),
            ("minidock inspect --format '{{.State.OOMKilled}}' greedy", 0),
            ("minidock run --rm --pids-limit 10 busybox sh -c 'while :; do sleep 9 & done'", 2),
        ),
    ),
    Scene(
        "A service in the background",
        """Apache, from an image of four layers. Its log is what it wrote to its standard output; exec joins
        it inside.""",
        (
            ("minidock run -d --name web httpd && sleep 1", 0),
            (f"minidock exec web python3 -c '{FETCH}'", 0),
            ("minidock ps", 0),
            ("minidock logs web 2>&1 | tail -n 1", 0),
            ("minidock stop web", 0),
        ),
    ),
    Scene(
        "Every container carries its birth record",
        """Each request to the kernel was recorded as it was made: what, why, how long, and the lesson that
        explains it.""",
        (
            ("minidock explain web | grep --after-context=7 pivot_into", 0),
            ("minidock explain web | grep --after-context=9 'Where the time went'", 0),
        ),
    ),
)  # fmt: skip


def main(root: Path = ROOT) -> int:
    """Give the tour with its state in *root*; returns 1 when a command did not end as it should."""
    began = time.monotonic()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"MINIDOCK_ROOT": str(root), "PATH": path}
    _run("minidock reset --yes", environment)  # what an interrupted tour left
    print("Pulling the images of the tour …", flush=True)
    failed = _run("minidock pull -q busybox && minidock pull -q httpd", environment).returncode != 0
    try:
        for number, scene in enumerate(SCENES, 1):
            failed |= not _play(number, scene, environment)
    finally:
        _run("minidock reset --yes", environment)
    took = time.monotonic() - began
    print(f"\nThat was minidock, in {took:.0f} seconds. The course opens with: sudo make lab")
    if failed:
        print("Something did not go as it should; `minidock doctor` looks at this machine.", file=sys.stderr)
    return 1 if failed else 0


def _play(number: int, scene: Scene, environment: Mapping[str, str]) -> bool:
    print(_styled(f"\n{number}. {scene.title}", "1;36"))
    print(textwrap.fill(" ".join(scene.words.split()), 100))
    good = True
    for command, expected in scene.commands:
        print(_styled(f"\n$ {command}", "1"), flush=True)
        done = _run(command, environment)
        lines = done.stdout.rstrip().splitlines()
        for line in lines[:LONGEST]:
            print(f"  {line}")
        if len(lines) > LONGEST:
            print(f"  … and {len(lines) - LONGEST} more lines")
        if done.returncode != expected:
            print(_styled(f"  (exit code {done.returncode}, not {expected})", "1;31"))
            good = False
        elif expected:
            print(_styled(f"  (exit code {expected})", "2"))
    return good


def _run(command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run *command* in a shell; its output and its messages come as one text."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )


def _styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    sys.exit(main())
