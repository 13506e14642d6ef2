"""A project to build: a directory with a Dockerfile, and the command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli


class Project:
    """A build context, and `minidock build` in it. Images are made from ``busybox``."""

    def __init__(self, directory: Path, minidock: Cli) -> None:
        self.directory = directory
        self.minidock = minidock

    def write(self, name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def build(
        self, dockerfile: str, *flags: str | Path, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Build *dockerfile* as the image ``app``."""
        self.write("Dockerfile", dockerfile)
        return self.minidock("build", "-t", "app", *flags, self.directory, check=check, **more)

    def refused(self, dockerfile: str, *flags: str | Path, code: int = 1) -> str:
        """The build fails with *code*, leaves no container, and says why: what it says."""
        done = self.build(dockerfile, *flags, check=False)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        assert self.minidock("ps", "-aq").stdout == ""
        return str(done.stderr)

    def run(self, *words: str, image: str = "app") -> str:
        return str(self.minidock("run", "--rm", image, *words).stdout)

    def sh(self, script: str, image: str = "app") -> str:
        return self.run("sh", "-c", script, image=image)

    def inspect(self, image: str = "app") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.minidock("image", "inspect", image).stdout)[0]
        return found

    def config(self, image: str = "app") -> dict[str, Any]:
        config: dict[str, Any] = self.inspect(image)["Config"]
        return config

    def history(self, image: str = "app") -> list[str]:
        """What the steps of this build say, the oldest first; busybox has two of its own."""
        lines = self.minidock("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
        return list(reversed(lines.splitlines()))[2:]


@pytest.fixture
def project(busybox: Path, minidock: Cli, tmp_path: Path) -> Project:
    directory = tmp_path / "project"
    directory.mkdir()
    return Project(directory, minidock)
