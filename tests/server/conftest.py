"""A daemon for each test, on a socket in the test's own root; the real `docker`, and raw sockets."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import PATIENCE, cli_command, wait_for


class Daemon:
    """`minidock serve` on *socket*; may be killed and started again."""

    def __init__(self, root: Path, config: Path, home: Path) -> None:
        self.root, self.config, self.home = root, config, home
        self.socket = root / "api.sock"
        self.log = home / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()  # words before the command: unshare …

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *more: str) -> None:
        environment = os.environ | {"MINIDOCK_CONFIG": str(self.config), "HOME": str(self.home)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *cli_command(), "--root", str(self.root), "serve", "--host", self.host, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        wait_for(self._answers, what="minidock serve")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"minidock serve ended: {self.log.read_text()}")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(30 * PATIENCE)
            if probe.connect_ex(str(self.socket)) != 0:
                return False
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")  # it may listen, and nobody be there yet
            return probe.recv(100).startswith(b"HTTP/1.1 200")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20 * PATIENCE)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30 * PATIENCE)
        connection.connect(str(self.socket))
        return connection

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request with http.client: the status and the answer, JSON where it is."""
        import http.client
        import json

        connection = http.client.HTTPConnection("minidock")
        connection.sock = self.connect()
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        sent = {
            "Content-Type": "application/json",
            **{key.replace("_", "-"): headers[key] for key in headers},
        }
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
            lines = text.count(b"\n")  # of a stream of progress several
            if answer.headers.get("Content-Type") == "application/json" and lines < 2:
                return answer.status, json.loads(text)
            return answer.status, text
        finally:
            connection.close()

    def threads(self) -> int:
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def memory(self) -> int:
        """Its resident bytes."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGESIZE")


@pytest.fixture
def daemon(busybox: Path, daemon_json: Path, tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon whose root holds busybox. No bug may have shown in it at the end."""
    made = Daemon(busybox, daemon_json, tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end()
    assert "Traceback" not in made.log.read_text(), made.log.read_text()


Docker = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.fixture
def docker(daemon: Daemon, tmp_path: Path) -> Docker:
    """The real docker command, talking to *daemon*; skips loudly where there is none."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("the docker command is not installed: nothing real speaks to the daemon here")

    def run(*words: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "DOCKER_HOST": daemon.host,
            "DOCKER_CONFIG": str(tmp_path / "docker"),
            "DOCKER_BUILDKIT": "0",
        }
        environment.pop("DOCKER_CONTEXT", None)
        more: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60 * PATIENCE,
            check=False,
            **more,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"$ docker {' '.join(words)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}\n"
                f"--- daemon\n{daemon.log.read_text()}"
            )
        return done

    return run
