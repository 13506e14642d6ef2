"""The API over TCP: plain on loopback with a warning, elsewhere with certificates only."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli

PORT = 23760


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, and certificates of it for a server and a client."""
    place = tmp_path / "certificates"
    place.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        wanted = ("-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("req", "-newkey", "rsa:2048", "-nodes", *wanted)
        openssl(
            *(
                "x509",
                "-req",
                "-in",
                f"{name}.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca-key.pem",
                "-CAcreateserial",
            ),
            *("-out", f"{name}.pem", "-days", "2", "-extfile", "names"),
        )
    return place


def test_plain_tcp_on_loopback_warns(daemon: Any) -> None:
    daemon.end()
    daemon.start("--host", f"tcp://127.0.0.1:{PORT}")
    assert "IS ROOT FROM NOW ON" in daemon.log.read_text()
    with socket.create_connection(("127.0.0.1", PORT)) as plain:
        plain.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_vanishes_is_asked_for_soon(daemon: Any) -> None:
    """Nothing tells a client of TCP that hung up from one that is silent, but the kernel's own question.

    The daemon's end of the connection has that timer (kind 02) set, in hundredths of seconds. To wait for
    what follows would take a minute. Source: Linux, Documentation/networking/proc_net_tcp.rst.
    """
    daemon.end()
    daemon.start("--host", f"tcp://127.0.0.1:{PORT}")
    with socket.create_connection(("127.0.0.1", PORT)) as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        client.recv(100)
        ends = f"{PORT:04X} 0100007F:{client.getsockname()[1]:04X}"
        (line,) = (each for each in Path("/proc/net/tcp").read_text().splitlines() if ends in each)
    kind, _, when = line.split()[5].partition(":")
    assert (kind, int(when, 16) <= 1500) == ("02", True)


def test_plain_tcp_elsewhere_is_refused(minidock: Cli) -> None:
    done = minidock("serve", "--host", f"tcp://0.0.0.0:{PORT}", check=False)
    assert done.returncode == 1
    assert "without TLS" in done.stderr


@pytest.mark.peer
def test_certificates_decide(daemon: Any, docker: Any, certificates: Path) -> None:
    daemon.end()
    mine = ["--tlscacert", str(certificates / "ca.pem"), "--tlscert", str(certificates / "server.pem")]
    mine += ["--tlskey", str(certificates / "server-key.pem")]
    daemon.start("--host", f"tcp://0.0.0.0:{PORT}", "--tlsverify", *mine)
    stranger = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with socket.create_connection(("127.0.0.1", PORT)) as plain:
        try:
            with stranger.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                secured.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                answer = secured.recv(100)
        except OSError:  # refused in the handshake, or right after it
            answer = b""
    assert not answer
    friend = [
        *("-H", f"tcp://127.0.0.1:{PORT}", "--tlsverify", "--tlscacert", str(certificates / "ca.pem")),
        *("--tlscert", str(certificates / "client.pem"), "--tlskey", str(certificates / "client-key.pem")),
    ]
    text = "".join(f"line {number}\n" for number in range(5000))
    assert docker(*friend, "run", "-i", "--rm", "busybox", "cat", input=text).stdout == text


def test_two_daemons_do_not_share_a_socket(daemon: Any, minidock: Cli) -> None:
    done = minidock("serve", "--host", daemon.host, check=False)
    assert done.returncode == 1
    assert "listens on" in done.stderr
    assert daemon.ask("GET", "/_ping") == (200, b"OK")
