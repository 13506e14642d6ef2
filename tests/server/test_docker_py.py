"""The SDK's own integration tests against our daemon: what passes on Docker's must pass here.

    make docker-py DOCKER_PY=DIR        DIR holds the source of github.com/docker/docker-py

Their names stand in docker_py_passing.txt: all that passed on dockerd 20.10 (Debian, docker-py 7.2) over a
Unix socket, without those of swarms, services, plugins, secrets and configs. Nothing of docker-py is here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from worlds import PATIENCE, Cli

pytestmark = [pytest.mark.peer, pytest.mark.slow]

PASSING = Path(__file__).with_name("docker_py_passing.txt").read_text().split()
FILES = sorted({name.partition("::")[0] for name in PASSING})
# The image that they call alpine has these beside what busybox has.
ALPINE = """\
FROM busybox
RUN echo postgres:x:70:70::/:/bin/sh >> /etc/passwd && mkdir -p /home /media /mnt /opt /run /srv /var/opt
"""


@pytest.fixture
def source() -> Path:
    """Their source, wherever it is."""
    where = os.environ.get("DOCKER_PY", "")
    if not where:
        pytest.skip("DOCKER_PY names no directory with the source of docker-py: its tests did not run")
    if not (Path(where) / "tests/integration").is_dir():
        pytest.fail(f"DOCKER_PY={where}: there is no tests/integration in it")
    if importlib.util.find_spec("paramiko") is None:
        pytest.skip(f"docker-py's tests need paramiko: {sys.executable} -m pip install paramiko")
    return Path(where).resolve()


@pytest.fixture
def daemon_json(tmp_path: Path, writable_registry: str) -> Path:
    """They pull: from a registry of this test's own."""
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"registry-mirrors": [f"http://{writable_registry}"]}))
    return file


@pytest.fixture
def prepared(source: Path, daemon: Any, minidock: Cli, writable_registry: str) -> Iterator[Any]:
    """A daemon with the images that they expect, for which / is a shared mount, as on most machines."""
    for tag in ("3.10", "latest"):
        name = f"{writable_registry}/library/alpine:{tag}"
        minidock("build", "-q", "-t", name, "-t", f"alpine:{tag}", "-", input=ALPINE)
        minidock("push", "-q", name)
        minidock("rmi", name)
    daemon.end()
    daemon.prefix = ("unshare", "--mount", "--propagation", "shared")
    daemon.start()
    yield daemon
    for container in minidock("ps", "-aq").stdout.split():
        minidock("rm", "-f", container)


@pytest.mark.parametrize("file", FILES)
def test_docker_py(file: str, source: Path, prepared: Any, tmp_path: Path) -> None:
    report, home = tmp_path / "report.xml", tmp_path / "client"
    home.mkdir()
    (home / "config.json").write_text("{}")
    environment = {
        **os.environ,
        "DOCKER_HOST": prepared.host,
        "DOCKER_CONFIG": str(home),  # contexts go there, too
        "HOME": str(home),
        "TMPDIR": str(home),  # they leave directories behind
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, f"tests/integration/{file}"],
        cwd=source,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600 * PATIENCE,
        check=False,
    )
    passed = set(_passed(report)) if report.exists() else set()
    wanted = [name for name in PASSING if name.partition("::")[0] == file]
    failed = [name for name in wanted if name not in passed]
    assert not failed, f"{len(failed)} of {len(wanted)}: {failed}\n{done.stdout[-20_000:]}\n{done.stderr}"


def _passed(report: Path) -> Iterator[str]:
    """``api_exec_test.py::ExecTest::test_exec_command`` of each test that passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        if not any(child.tag in ("failure", "error", "skipped") for child in case):
            parts = case.attrib["classname"].removeprefix("tests.integration.").split(".")
            at = next(number for number, part in enumerate(parts) if part.endswith("_test"))
            path = "/".join(parts[: at + 1]) + ".py"
            yield "::".join([path, *parts[at + 1 :], case.attrib["name"]])
