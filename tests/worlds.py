"""What the fixtures of conftest.py are made of, for tests that want a piece of it: ``from worlds import …``.

(A module of its own, because each directory of tests may have a conftest.py and only one can be imported
by that name.)
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SEEDED_REGISTRY = Path(os.environ.get("MINIDOCK_SEED", "/var/lib/minidock-registry")) / "data"
REGISTRY_ADDRESS = "127.0.0.1:5000"
# Software emulation (the cgroup v2 VM) is 25–40 times slower: every deadline is stretched by this.
PATIENCE = float(os.environ.get("MINIDOCK_PATIENCE", "1"))

CLONE_NEWNET, CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x40000000, 0x00020000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def must(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def loopback_up() -> None:
    import fcntl
    import struct

    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        request = fcntl.ioctl(door, siocgifflags, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack_from("h", request, 16)[0] | iff_up
        fcntl.ioctl(door, siocsifflags, struct.pack("16sh14x", b"lo", flags))


def forget_helpers() -> None:
    """End the helper processes that the engine keeps for the network namespace that a test now leaves.

    They would wait there, with the namespace, until the whole run ends: one more for every test.
    """
    for name, helpers in (("waiting", "_prepared"), ("spawner", "_warm")):
        module = sys.modules.get(f"minidock.containers.{name}")
        if module is not None:
            kept = getattr(module, helpers)
            for connection in kept.values():
                connection.close()
            kept.clear()
    if "minidock.containers.waiting" in sys.modules:
        sys.modules["minidock.containers.waiting"].reap()


def start_registry(
    directory: Path, data: Path, *, read_only: bool, port: int = 5000
) -> subprocess.Popen[bytes]:
    """Start a docker-registry on 127.0.0.1:*port* of this network namespace and wait until it answers."""
    program = shutil.which("docker-registry")
    if program is None or (read_only and not data.exists()):
        pytest.fail("docker-registry or its course images are missing: run `make setup`")
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "maintenance": {"readonly": {"enabled": read_only}, "uploadpurging": {"enabled": False}},
            "delete": {"enabled": not read_only},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "tests"},
    }
    file = directory / f"registry-{port}.yml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    with (directory / f"registry-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "serve", file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    wait_for(lambda: accepts(port) or process.poll() is not None, what=f"docker-registry on port {port}")
    if process.poll() is not None:
        pytest.fail(f"docker-registry ended: {(directory / f'registry-{port}.log').read_text()[-2000:]}")
    return process


def stop_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10 * PATIENCE)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


Cli = Callable[..., subprocess.CompletedProcess[Any]]


def cli_command() -> list[str]:
    """How the tests start minidock: the launcher that `make setup` wrote, as people do."""
    launcher = REPOSITORY / ".venv/bin/minidock"
    if launcher.exists():
        return [str(launcher)]
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from minidock.__main__ import main"
    return [sys.executable, "-I", "-c", f"{code}; main()"]


def compose_v2() -> list[str] | None:
    """The compose plugin, run on its own: as COMPOSE_V2 says, or where docker keeps its plugins."""
    places = [os.environ.get("COMPOSE_V2", "")]
    places += [f"/usr/{lib}/docker/cli-plugins/docker-compose" for lib in ("libexec", "lib", "local/lib")]
    return next(([place] for place in places if place and os.access(place, os.X_OK)), None)


def runner(command: list[str], environment: dict[str, str], *, checked: bool = True) -> Cli:
    """A function that runs *command* with more arguments, like the `minidock` fixture."""

    def run(
        *arguments: str | Path,
        check: bool = checked,
        input: str | bytes | None = None,
        text: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[Any]:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=text,
            errors="replace" if text else None,
            env=os.environ | environment,
            timeout=timeout * PATIENCE,
            check=False,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
        )
        if check:
            assert done.returncode == 0, f"{command[0]} {arguments}: {done.stdout!r}{done.stderr!r}"
        return done

    run.command, run.environment = command, environment  # type: ignore[attr-defined]  # for a terminal's sake
    return run


def wait_for(condition: Callable[[], Any], *, seconds: float = 10, what: str = "the condition") -> Any:
    """Poll until *condition* returns something true, and return it; fails the test after *seconds*."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds * PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.005)


class ChildFailed(Exception):
    """The function run by `in_child` raised something that cannot travel; its traceback is the message."""


def run_in_child(function: Callable[..., Any], *arguments: Any, seconds: float = 30) -> Any:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _serve(function, arguments, writer)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + seconds * PATIENCE)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        pytest.fail(f"the child of in_child ended without an answer within {seconds} s (exit code {code})")
    good, value = pickle.loads(answer)
    if good:
        return value
    raise value


def _serve(function: Callable[..., Any], arguments: tuple[Any, ...], writer: int) -> None:
    """The child's side: never returns into pytest, whatever happens."""
    code = 1
    try:
        os.setpgid(0, 0)
        must(libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
        must(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount(private)")
        try:
            answer = (True, function(*arguments))
        except BaseException as error:
            answer = (False, error)
        try:
            data = pickle.dumps(answer)
            pickle.loads(data)
        except Exception:
            report = "".join(traceback.format_exception(answer[1])) if not answer[0] else repr(answer[1])
            data = pickle.dumps((False, ChildFailed(report)))
        while data:
            data = data[os.write(writer, data) :]
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _read_all(descriptor: int, deadline: float) -> bytes:
    data = b""
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
            return b""
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return data
        data += chunk
        # A grandchild may hold the pipe open: a whole answer is enough.
        try:
            pickle.loads(data)
        except Exception:
            continue
        return data
