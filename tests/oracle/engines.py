"""Docker and Podman as judges: each with its state in the test's own directory, in the test's own network.

Skipped, loudly, where they are not installed: `make oracle` on such a machine proves less.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import leaks
import pytest
from conftest import PATIENCE, REGISTRY_ADDRESS, wait_for

Run = Callable[..., subprocess.CompletedProcess[str]]


def _installed(*programs: str) -> dict[str, str]:
    found = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in programs}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"{name} is not installed: what it would say about our images is not known")
    return {name: path for name, path in found.items() if path}


def _runner(command: list[str], environment: dict[str, str]) -> Run:
    def run(
        *arguments: str | Path, check: bool = True, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            input=input,
            env=os.environ | environment,
            timeout=120 * PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{command[0]} {arguments}: {done.stdout}{done.stderr}"
        return done

    return run


@pytest.fixture
def engine_directory(session_base: Path) -> Iterator[Path]:
    """Where the other engine keeps its state: torn down like a root of ours."""
    directory = leaks.new_root(session_base)
    yield directory
    leaks.tear_down(directory)


@pytest.fixture
def docker(engine_directory: Path) -> Iterator[Run]:
    """``docker("load", "-i", file)``: the real command, with a real dockerd in this test's network."""
    programs = _installed("docker", "dockerd", "containerd")
    socket = engine_directory / "docker.sock"
    log = engine_directory / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [
                programs["dockerd"], f"--host=unix://{socket}", f"--data-root={engine_directory}/data",
                f"--exec-root={engine_directory}/exec", f"--pidfile={engine_directory}/docker.pid",
                "--bridge=none", "--iptables=false", "--ip6tables=false",
                f"--insecure-registry={REGISTRY_ADDRESS}",
                f"--cgroup-parent=/{leaks.cgroup_parent_of(engine_directory)}",
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    run = _runner([programs["docker"], f"--host=unix://{socket}"], {"DOCKER_CONFIG": str(engine_directory)})
    try:
        wait_for(lambda: daemon.poll() is not None or run("version", check=False).returncode == 0, seconds=30)
        if daemon.poll() is not None:
            pytest.skip(f"dockerd does not start here: {log.read_text().splitlines()[-1]}")
        yield run
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30 * PATIENCE)


@pytest.fixture
def podman(engine_directory: Path) -> Run:
    """``podman("pull", name)``: the real command with its own storage."""
    programs = _installed("podman")
    for name, text in {
        "storage.conf": '[storage]\ndriver = "overlay"\n'
        f'graphroot = "{engine_directory}/graph"\nrunroot = "{engine_directory}/run"\n',
        "registries.conf": f'[[registry]]\nlocation = "{REGISTRY_ADDRESS}"\ninsecure = true\n',
        # Podman raises RLIMIT_NPROC by default, which a machine without CAP_SYS_RESOURCE refuses.
        "containers.conf": '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
        "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
    }.items():
        (engine_directory / name).write_text(text)
    environment = {
        "CONTAINERS_STORAGE_CONF": str(engine_directory / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(engine_directory / "registries.conf"),
        "CONTAINERS_CONF": str(engine_directory / "containers.conf"),
    }
    return _runner([programs["podman"]], environment)
