"""HTTP proxies on the way to a registry: which requests take them, and what they are told.

The proxy here knows names that nobody else can resolve: what arrives, went through it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from image_samples import digest, sample
from registry_case import Puller, running_registry, upload
from test_registry import tls_registry as tls_registry
from worlds import Cli, cli_command

from minidock.errors import InvalidInput
from minidock.images import proxies, registry, wire
from minidock.images.mirrors import Endpoint
from minidock.images.session import Session

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Forward:
    """An HTTP proxy on 127.0.0.1. *names* are the hosts it knows, with the local port behind each."""

    def __init__(self, secret: str = "") -> None:
        self.names: dict[str, int] = {}
        self.heads: list[str] = []  # what came in before the first empty line of each connection
        self._secret = f"Basic {base64.b64encode(secret.encode()).decode()}" if secret else ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            received = b""
            while b"\r\n\r\n" not in received:
                data = client.recv(65536)
                if not data:
                    return
                received += data
            head = received.partition(b"\r\n\r\n")[0].decode()
            self.heads.append(head)
            if self._secret and f"Proxy-Authorization: {self._secret}" not in head:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            found = re.match(r"(CONNECT |\S+ http://)([^/ ]+)", head)
            if found is None or found[2] not in self.names:
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.names[found[2]])) as server:
                if found[1] == "CONNECT ":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(received)
                back = threading.Thread(target=_splice, args=(server, client), daemon=True)
                back.start()
                _splice(client, server)
                back.join()


def _splice(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what `use` sets is undone


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., Forward]]:
    made: list[Forward] = []

    def make(secret: str = "") -> Forward:
        made.append(Forward(secret))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path) as host:
        yield host


def test_a_pull_goes_through_the_proxy(
    server: str, make_proxy: Callable[..., Forward], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sample()
    upload(server, "app", one)
    proxy = make_proxy("pupil:se cret")
    proxy.names["registry.school:5005"] = 5005
    monkeypatch.setenv("HTTP_PROXY", f"http://pupil:se%20cret@{proxy.address}")
    puller = Puller(tmp_path / "state", insecure_registries=("registry.school:5005",))
    assert puller.pull("registry.school:5005/app").id == digest(one.config)
    assert any(head.startswith("GET http://registry.school:5005/v2/app/blobs/") for head in proxy.heads)


def test_tls_goes_through_a_tunnel(
    server: str,
    tls_registry: tuple[int, Path],
    make_proxy: Callable[..., Forward],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(server, "app", sample())
    proxy = make_proxy("pupil:secret")
    proxy.names["registry.school:443"] = tls_registry[0]
    monkeypatch.setenv("https_proxy", f"pupil:secret@{proxy.address}")
    endpoint = Endpoint("registry.school", "https://registry.school", trusted=True)
    registry.Registry(Session(endpoint)).manifest("app", "latest")
    assert [" ".join(head.split()[:2]) for head in proxy.heads] == ["CONNECT registry.school:443"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(
    make_proxy: Callable[..., Forward], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:secret@{gone}")
    with pytest.raises(wire.Unreachable) as caught:
        wire.Client().request("GET", f"{scheme}://registry.school/v2/")
    assert caught.value.message == (
        f"registry.school: the proxy {gone} does not let us through: connection refused"
    )
    assert "HTTP_PROXY" in str(caught.value.hint)
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://{make_proxy('pupil:secret').address}")
    with pytest.raises(wire.Unreachable, match="does not let us through: 407 proxy authentication"):
        wire.Client().request("GET", f"{scheme}://registry.school/v2/")


@pytest.mark.parametrize("text", ["socks5://h:1", "http://", "http://h:none", "ftp://h", "https://h:3128"])
def test_what_is_no_http_proxy_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", text)
    with pytest.raises(InvalidInput, match=r"HTTP_PROXY: .* is no HTTP proxy"):
        proxies.find("http", "registry.school")


# After the examples of Go's httpproxy: what NO_PROXY says, a host, whether the proxy is left out.
@pytest.mark.parametrize(
    ("setting", "host", "direct"),
    [
        ("", "localhost:5000", True),
        ("", "127.0.0.1:5000", True),
        ("", "127.9.9.9", True),
        ("", "[::1]:5000", True),
        ("", "localhost.school", False),
        ("", "registry.school", False),
        ("*", "registry.school", True),
        ("school", "registry.school:5000", True),
        ("SCHOOL", "registry.School.", True),
        ("registry.school", "registry.school", True),
        ("registry.school", "a.registry.school", True),
        ("registry.school", "myregistry.school", False),
        (".registry.school", "registry.school", False),
        (".registry.school", "a.registry.school", True),
        ("*.registry.school", "registry.school", False),
        ("*.registry.school", "a.registry.school", True),
        ("registry.school:5000", "registry.school:5000", True),
        ("registry.school:5000", "registry.school", False),
        ("registry.school:80", "registry.school", True),
        ("a, registry.school ,b", "registry.school", True),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3:5000", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3:5001", False),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.2.3", False),
        ("10.1.0.0/99", "10.1.2.3", False),
        ("10.1.0.0/16", "registry.school", False),
        ("2001:db8::1", "[2001:db8::1]:5000", True),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000", True),
        ("2001:db8::/32", "[2001:db8:1::2]", True),
        ("2.3", "10.1.2.3", False),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, setting: str, host: str, direct: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.school:3128")
    monkeypatch.setenv("NO_PROXY", setting)
    assert (proxies.find("http", host) is None) == direct


def test_daemon_json_stands_above_the_environment(
    server: str, make_proxy: Callable[..., Forward], tmp_path: Path, root: Path
) -> None:
    upload(server, "app", sample())
    proxy = make_proxy("pupil:secret")
    proxy.names["registry.school:5005"] = 5005
    settings = tmp_path / "daemon.json"
    settings.write_text(
        json.dumps(
            {
                "insecure-registries": ["registry.school:5005"],
                "proxies": {"http-proxy": f"http://pupil:secret@{proxy.address}", "no-proxy": "other.school"},
            }
        )
    )
    environment = os.environ | {"MINIDOCK_CONFIG": str(settings), "HTTP_PROXY": "http://192.0.2.1:1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*cli_command(), "--root", str(root), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    pulled = run("pull", "-q", "registry.school:5005/app")
    assert pulled.stdout == "registry.school:5005/app:latest\n", pulled.stderr
    told = run("info").stdout
    assert f"HTTP Proxy: http://xxxxx:xxxxx@{proxy.address}\nNo Proxy: other.school\n" in told
    assert "secret" not in told


@pytest.mark.parametrize("value", [{"https": "x"}, {"http-proxy": 3128}])
def test_other_settings_in_daemon_json_are_refused(
    minidock: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, object]
) -> None:
    settings = tmp_path / "wrong.json"
    settings.write_text(json.dumps({"proxies": value}))
    done = subprocess.run(
        [*cli_command(), "info"],
        env=os.environ | {"MINIDOCK_CONFIG": str(settings)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"minidock: {settings}: proxies: {next(iter(value))!r}: {next(iter(value.values()))!r}\n"
        "Keys: http-proxy, https-proxy, no-proxy.\n"
    )
