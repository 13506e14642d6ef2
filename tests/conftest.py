"""What every test finds ready: a network namespace of its own, a state root, a real registry, the CLI.

The fixtures leave nothing behind, and :mod:`tests.leaks` proves it at the end of the run. Nothing here
imports minidock's insides: a broken floor must fail its own tests, not the collection of all.
"""

from __future__ import annotations

import json
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
    SEEDED_REGISTRY,
    Cli,
    accepts,
    cli_command,
    forget_helpers,
    libc,
    loopback_up,
    must,
    run_in_child,
    start_registry,
    stop_process,
    wait_for,
)

# ── the session: one base directory for all state, removed and checked at the end ────────────────────


def pytest_configure(config: pytest.Config) -> None:
    _set_hypothesis_profile()
    if os.geteuid() != 0:
        raise pytest.UsageError("minidock's tests make real containers: run them as root (sudo make test)")
    # A shell starts its background jobs deaf to these, and what we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if hasattr(config, "workerinput"):  # an xdist worker: the controller has prepared everything
        return
    base = leaks.make_base()
    os.environ["MINIDOCK_TEST_BASE"] = str(base)  # the workers inherit it
    # Tests must not depend on what the person at the keyboard has set.
    for name in ("MINIDOCK_ROOT", "MINIDOCK_CONFIG", "MINIDOCK_LAYERS"):
        os.environ.pop(name, None)
    config.stash[_before] = leaks.snapshot()


def _set_hypothesis_profile() -> None:
    """Short in `make test`, long in `make fuzz`; never a deadline: other processes share the machine."""
    try:
        import hypothesis
    except ModuleNotFoundError:  # the VM has only what its subset needs
        return
    hypothesis.settings.register_profile(
        "short", deadline=None, max_examples=50, database=None, derandomize=True
    )
    hypothesis.settings.register_profile("long", deadline=None, max_examples=20_000, database=None)
    hypothesis.settings.load_profile("long" if os.environ.get("MINIDOCK_LONG") else "short")


_before = pytest.StashKey[leaks.Snapshot]()
_leaked = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workerinput") or _before not in config.stash:
        return
    base = Path(os.environ["MINIDOCK_TEST_BASE"])
    found = leaks.compare(config.stash[_before], base)
    config.stash[_leaked] = found
    leaks.sweep(base)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        # A skip is not a pass: say so where nobody can miss it.
        terminalreporter.section(f"{len(skipped)} tests were SKIPPED, see above why", yellow=True, bold=True)
    found = config.stash.get(_leaked, [])
    if found:
        terminalreporter.section("left behind by the tests", red=True, bold=True)
        for line in found:
            terminalreporter.line(line, red=True)


@pytest.fixture(scope="session")
def session_base() -> Path:
    """The directory under which this run keeps all its state (its filesystem can be an overlay upper)."""
    return Path(os.environ["MINIDOCK_TEST_BASE"])


# ── a network of its own ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    """Move the test (this thread and all its children) to a fresh network namespace with lo up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        must(libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
        loopback_up()
        yield
    finally:
        forget_helpers()
        must(libc.setns(before, CLONE_NEWNET), "setns(network)")
        os.close(before)


# ── state roots ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def make_root(session_base: Path) -> Iterator[Callable[[], Path]]:
    """A function that makes one more fresh state root; all are torn down after the test."""
    made: list[Path] = []

    def make() -> Path:
        made.append(leaks.new_root(session_base))
        return made[-1]

    yield make
    for root in made:
        leaks.tear_down(root)


@pytest.fixture
def root(make_root: Callable[[], Path]) -> Path:
    """A fresh, empty state root on a filesystem that can be an overlay upper; torn down afterwards."""
    return make_root()


@pytest.fixture
def overlay_dir(root: Path) -> Path:
    """A scratch directory on the same filesystem as *root* (pytest's tmp_path may lie on an overlay)."""
    scratch = root / "scratch"
    scratch.mkdir()
    return scratch


@pytest.fixture
def cgroup_parent(session_base: Path) -> Iterator[str]:
    """The name of a top-level cgroup for one test; whatever is in it at the end is killed and removed."""
    root = leaks.new_root(session_base)
    yield leaks.cgroup_parent_of(root)
    leaks.tear_down(root)


# ── images and registries ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def busybox_rootfs(session_base: Path) -> Path:
    """A plain directory with a busybox root filesystem, for tests below the images floor. Read only!"""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    tree = session_base / f"busybox-rootfs-{worker}"
    if not tree.exists():
        for name in ("bin", "sbin", "usr/bin", "usr/sbin", "etc", "root", "dev", "proc", "sys", "tmp"):
            (tree / name).mkdir(parents=True)
        (tree / "tmp").chmod(0o1777)
        busybox = _static_busybox()
        shutil.copy2(busybox, tree / "bin/busybox")
        listed = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True)
        for applet in listed.stdout.split():
            if not (tree / applet).exists():
                (tree / applet).symlink_to("/bin/busybox")
        (tree / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
        )
        (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return tree


def _static_busybox() -> str:
    for candidate in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(candidate).exists():
            return candidate
    pytest.fail("busybox-static is not installed: run `make setup`")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """``127.0.0.1:5000``: a real docker-registry with the course images, read only, in this network."""
    process = start_registry(tmp_path, SEEDED_REGISTRY, read_only=True)
    yield REGISTRY_ADDRESS
    stop_process(process)


@pytest.fixture
def writable_registry(tmp_path: Path) -> Iterator[str]:
    """``127.0.0.1:5001``: a docker-registry of this test's own, holding busybox and hello-world."""
    data = tmp_path / "registry-data"
    _copy_repositories(SEEDED_REGISTRY, data, ("library/busybox", "library/hello-world"))
    process = start_registry(tmp_path, data, read_only=False, port=5001)
    yield "127.0.0.1:5001"
    stop_process(process)


def _copy_repositories(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy some repositories of a docker-registry's data with the blobs they link to."""
    inside = Path("docker/registry/v2")
    for name in names:
        shutil.copytree(source / inside / "repositories" / name, target / inside / "repositories" / name)
        for link in (source / inside / "repositories" / name).rglob("link"):
            digest = link.read_text().removeprefix("sha256:")
            blob = inside / "blobs/sha256" / digest[:2] / digest
            if (source / blob).exists() and not (target / blob).exists():
                shutil.copytree(source / blob, target / blob)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def daemon_json(tmp_path: Path) -> Path:
    """A daemon.json whose only registry mirror is the one that the `registry` fixture starts."""
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"registry-mirrors": [f"http://{REGISTRY_ADDRESS}"]}))
    return file


@pytest.fixture
def minidock(root: Path, daemon_json: Path, tmp_path: Path) -> Cli:
    """Run the real CLI on this test's root: ``minidock("ps", "-q").stdout``.

    Text in and out unless ``text=False``; ``check=True`` fails the test with both outputs when the
    exit code is not 0; ``env`` is added to the environment; ``timeout`` is in seconds.
    """

    def run(
        *arguments: str | Path,
        input: str | bytes | None = None,
        check: bool = True,
        text: bool = True,
        env: dict[str, str] | None = None,
        timeout: float = 60,
        **more: Any,
    ) -> subprocess.CompletedProcess[Any]:
        command = [*cli_command(), "--root", str(root), *map(str, arguments)]
        environment = os.environ | {"MINIDOCK_CONFIG": str(daemon_json), "HOME": str(tmp_path)} | (env or {})
        if input is None and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        elif input is not None:
            more["input"] = input
        # A detached container must never hold our pipes: a run that hangs here has found such a bug.
        done = subprocess.run(
            command,
            capture_output=True,
            text=text,
            errors="replace" if text else None,
            env=environment,
            timeout=timeout * PATIENCE,
            check=False,
            **more,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"$ minidock {' '.join(map(str, arguments))}\nexit code {done.returncode}\n"
                f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
            )
        return done

    return run


@pytest.fixture
def busybox(root: Path, minidock: Cli, session_base: Path) -> Path:
    """A root that already holds ``busybox``: pulled once by each worker, then copied."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    template = session_base / f"busybox-root-{worker}"
    if not (template / "images").exists():
        with _TemporaryRegistry(session_base):
            minidock("pull", "-q", "busybox")
        shutil.rmtree(template, ignore_errors=True)
        template.mkdir()
        for name in ("images", "layers"):
            subprocess.run(["cp", "-a", root / name, template / name], check=True)
    else:
        for name in ("images", "layers"):
            subprocess.run(["cp", "-a", template / name, root], check=True)
    return root


class _TemporaryRegistry:
    def __init__(self, base: Path) -> None:
        self.directory = base / f"registry-{os.getpid()}"

    def __enter__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        # The test may use the `registry` fixture too: then that one answers already.
        self.process = (
            None if accepts(5000) else start_registry(self.directory, SEEDED_REGISTRY, read_only=True)
        )

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            stop_process(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)


# ── small tools ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., Any]:
    """``wait_for(condition, seconds=10, what="…")``: poll with a deadline, return the first true value."""
    return wait_for


@pytest.fixture
def in_child() -> Callable[..., Any]:
    """``in_child(function, *args, seconds=30)``: run *function* in a forked child; its result or exception.

    The child is in a private mount namespace of its own (nothing is propagated to the host), so the
    function may mount, pivot, unshare or drop capabilities as it likes. Children that it leaves are
    killed with it.
    """
    return run_in_child


def pytest_report_header() -> str:
    kind = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    return (
        f"minidock: cgroup {kind}, state under {os.environ.get('MINIDOCK_TEST_BASE')}, patience {PATIENCE:g}"
    )
