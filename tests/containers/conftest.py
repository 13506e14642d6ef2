"""Containers without images: a busybox tree stands in for the one layer of an image."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minidock.containers import lifecycle, state, timestamps
from minidock.containers.spec import Spec
from minidock.containers.state import Container
from minidock.containers.streams import Streams

LAYER = "b" * 64
PATIENCE = float(os.environ.get("MINIDOCK_PATIENCE", "1"))


@dataclass
class Ran:
    code: int | None
    out: bytes
    err: bytes
    container: Container

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class Box:
    """Makes busybox containers in one state root."""

    def __init__(self, root: Path, tree: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        layers = root / "layers"
        layers.mkdir(exist_ok=True)
        (layers / LAYER).symlink_to(tree)

    def spec(self, *argv: str, **wanted: Any) -> Spec:
        wanted.setdefault("name", "")
        return Spec(
            id=os.urandom(32).hex(),
            image="busybox",
            image_id="sha256:" + "0" * 64,
            layers=[f"sha256:{LAYER}"],
            created=timestamps.now(),
            arguments=list(argv),
            **wanted,
        )

    def create(self, *argv: str, **wanted: Any) -> Container:
        return lifecycle.create(self.root, self.spec(*argv, **wanted))

    def start(self, *argv: str, **wanted: Any) -> Container:
        """Start detached."""
        container = self.create(*argv, **wanted)
        lifecycle.start(container)
        return container

    def streams(self, input: bytes | None, out: list[bytes], err: list[bytes]) -> Streams:
        stdin = None
        if input is not None:
            file = self.scratch / f"input-{os.urandom(4).hex()}"
            file.write_bytes(input)
            stdin = os.open(file, os.O_RDONLY)
        return Streams(stdin, out.append, err.append, forward_signals=False)

    def run(self, *argv: str, input: bytes | None = None, **wanted: Any) -> Ran:
        """Run in the foreground; *input* is its stdin."""
        if input is not None:
            wanted = {"open_stdin": True, "stdin_once": True, **wanted}
        container = self.create(*argv, **wanted)
        out: list[bytes] = []
        err: list[bytes] = []
        code = lifecycle.start(container, self.streams(input, out, err))
        return Ran(code, b"".join(out), b"".join(err), container)

    def sh(self, script: str, **wanted: Any) -> Ran:
        return self.run("sh", "-c", script, **wanted)

    def exec(self, container: Container, *argv: str, input: bytes | None = None, **wanted: Any) -> Ran:
        out: list[bytes] = []
        err: list[bytes] = []
        streams = self.streams(input, out, err)
        code = lifecycle.exec(container, list(argv), streams=streams, **wanted)
        return Ran(code, b"".join(out), b"".join(err), container)

    def until_ready(self, container: Container) -> Container:
        """Wait until the container has written its first line."""
        next(iter(lifecycle.read_logs(container, follow=True)))
        return container

    def service(self, **wanted: Any) -> Container:
        """A container that runs until it is stopped."""
        return self.start("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done", **wanted)


@pytest.fixture
def box(root: Path, busybox_rootfs: Path, overlay_dir: Path) -> Iterator[Box]:
    made = Box(root, busybox_rootfs, overlay_dir)
    yield made
    for container in state.containers(root):
        with contextlib.suppress(Exception):
            lifecycle.remove(container, force=True)


def until(condition: Callable[[], Any], what: str, seconds: float = 10) -> Any:
    """Wait for *condition* to become true."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until
