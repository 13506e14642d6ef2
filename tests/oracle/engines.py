"""Docker, Podman and skopeo as judges: each with its state in the run's own directory, in one shared network.

One dockerd serves a whole run: it takes a second to start and another to end. A module whose tests talk to it
uses the fixture ``peer_world`` to live in the daemon's network, where 127.0.0.1 is the same for all.
Skipped, loudly, where they are not installed: `make oracle` on such a machine proves less.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leaks
import pytest
from worlds import (
    CLONE_NEWNET,
    PATIENCE,
    REGISTRY_ADDRESS,
    cli_command,
    libc,
    loopback_up,
    must,
    runner,
    start_registry,
    stop_process,
    wait_for,
)

Run = Callable[..., subprocess.CompletedProcess[Any]]


def installed(*programs: str) -> dict[str, str]:
    """Where they are; skips the test, naming what is missing, unless all are."""
    found = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in programs}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"{name} is not installed: what it would say about our work is not known")
    return {name: path for name, path in found.items() if path}


# ── the network that all share ───────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def peer_network() -> Iterator[int]:
    """A descriptor of the network namespace in which the peers of this run live, loopback up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    must(libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
    loopback_up()
    network = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    must(libc.setns(before, CLONE_NEWNET), "setns(network)")
    os.close(before)
    yield network
    os.close(network)


@pytest.fixture
def peer_world(own_network: None, peer_network: int) -> Iterator[None]:
    """Move the test on, from a network of its own into that of the peers."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    must(libc.setns(peer_network, CLONE_NEWNET), "setns(network of the peers)")
    yield
    must(libc.setns(before, CLONE_NEWNET), "setns(network)")
    os.close(before)


def _within(network: int, function: Callable[[], Any]) -> Any:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    must(libc.setns(network, CLONE_NEWNET), "setns(network of the peers)")
    try:
        return function()
    finally:
        must(libc.setns(before, CLONE_NEWNET), "setns(network)")
        os.close(before)


@pytest.fixture
def shared_registry(tmp_path: Path) -> Iterator[str]:
    """An empty registry of this test's own on the address that the engines may reach without TLS."""
    process = start_registry(tmp_path, tmp_path / "registry-data", read_only=False)
    yield REGISTRY_ADDRESS
    stop_process(process)


# ── docker ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def dockerd(session_base: Path, peer_network: int) -> Iterator[Run]:
    """The real command with a real dockerd behind it, for the whole run."""
    programs = installed("docker", "dockerd", "containerd")
    directory = leaks.new_root(session_base)
    socket, log = directory / "docker.sock", directory / "dockerd.log"
    command = [
        programs["dockerd"], f"--host=unix://{socket}", f"--data-root={directory}/data",
        f"--exec-root={directory}/exec", f"--pidfile={directory}/docker.pid",
        "--bridge=none", "--iptables=false", "--ip6tables=false",
        f"--insecure-registry={REGISTRY_ADDRESS}",
        f"--cgroup-parent=/{leaks.cgroup_parent_of(directory)}",
    ]  # fmt: skip
    with log.open("wb") as output:
        daemon = _within(
            peer_network,
            lambda: subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            ),
        )
    run = runner([programs["docker"], f"--host=unix://{socket}"], {"DOCKER_CONFIG": str(directory)})
    try:
        wait_for(lambda: daemon.poll() is not None or run("version", check=False).returncode == 0, seconds=60)
        if daemon.poll() is not None:
            pytest.skip(f"dockerd does not start here: {log.read_text().splitlines()[-1]}")
        yield run
    finally:
        daemon.send_signal(signal.SIGTERM)  # it ends its containerd and unmounts
        daemon.wait(60 * PATIENCE)
        leaks.tear_down(directory)


@pytest.fixture
def docker(dockerd: Run) -> Iterator[Run]:
    """``docker("load", "-i", file)``: what a test makes with it is gone after the test."""
    before = set(dockerd("images", "-q", "--no-trunc").stdout.split())
    yield dockerd
    if containers := dockerd("ps", "-aq").stdout.split():
        dockerd("rm", "-f", *containers)
    if images := set(dockerd("images", "-q", "--no-trunc").stdout.split()) - before:
        dockerd("rmi", "-f", *images, check=False)  # "has dependent child images": these went before it
        dockerd("image", "prune", "-f")


# ── podman, skopeo ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine_directory(session_base: Path) -> Iterator[Path]:
    """Where another engine keeps its state: torn down like a root of ours."""
    directory = leaks.new_root(session_base)
    yield directory
    leaks.tear_down(directory)


@pytest.fixture
def podman(engine_directory: Path) -> Run:
    """``podman("pull", name)``: the real command with its own storage."""
    programs = installed("podman")
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
    return runner([programs["podman"]], environment)


@pytest.fixture(scope="session")
def skopeo(session_base: Path) -> Run:
    """``skopeo("copy", source, target)``: TLS is asked of no registry, no policy refuses an image."""
    program = installed("skopeo")["skopeo"]
    policy = session_base / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return runner([program, f"--policy={policy}"], {})


# ── the same images in both ──────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def twin_root(session_base: Path, peer_network: int) -> Iterator[Path]:
    """A state root of ours for all tests of a module, with busybox."""
    root = leaks.new_root(session_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDOCK_CONFIG", str(_mirror_configuration(session_base)))
        registry = _within(peer_network, lambda: _seeded_registry(root))
        run = runner([*cli_command(), f"--root={root}"], {"HOME": str(root)})
        _within(peer_network, lambda: run("pull", "-q", "busybox"))
        stop_process(registry)
    yield root
    leaks.tear_down(root)


def _mirror_configuration(base: Path) -> Path:
    file = base / "daemon.json"
    file.write_text(f'{{"registry-mirrors": ["http://{REGISTRY_ADDRESS}"]}}')
    return file


def _seeded_registry(directory: Path) -> subprocess.Popen[bytes]:
    from worlds import SEEDED_REGISTRY

    return start_registry(directory, SEEDED_REGISTRY, read_only=True)


@pytest.fixture(scope="module")
def twins(twin_root: Path, dockerd: Run, session_base: Path) -> tuple[Run, Run]:
    """(docker, minidock): the two commands, unchecked, each with the same busybox image."""
    configuration = str(_mirror_configuration(session_base))
    ours = runner(
        [*cli_command(), f"--root={twin_root}"],
        {"HOME": str(twin_root), "MINIDOCK_CONFIG": configuration},
        checked=False,
    )
    saved = ours("save", "busybox", text=False, check=True).stdout
    dockerd("load", input=saved, text=False)

    return runner(dockerd.command, dockerd.environment, checked=False), ours  # type: ignore[attr-defined]
