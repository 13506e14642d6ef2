"""What the tests of networks share: containers with wishes about their network, and a world outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worlds import PATIENCE, wait_for

from minidock import network_inspection, network_options
from minidock.containers import networks, state
from minidock.containers.spec import Namespaces
from minidock.containers.state import Container
from minidock.network_verbs import NetworkVerbs

WEB = "mkdir -p /www && hostname > /www/name && exec httpd -f -p 80 -h /www"


class Lan(NetworkVerbs):
    """The engine's verbs for networks over a test's root, and containers in them."""

    def __init__(self, box: Any) -> None:
        self.box, self.root = box, box.root

    def wishes(self, network: str | list[str] = "bridge", **options: Any) -> dict[str, Any]:
        """The keywords of a spec for what `run` was given: ``publish=["8080:80"]``."""
        options["network"] = network
        find = (lambda text: state.find(self.root, text).id, self.network_name)
        return {
            "wiring": network_options.wiring(options, *find),
            "namespaces": Namespaces(
                network=network_options.mode(options, *find), user=options.get("userns") or "host"
            ),
        }

    def start(self, *argv: str, name: str = "", exposed: tuple[str, ...] = (), **options: Any) -> Container:
        """Start a container in the background."""
        wishes = self.wishes(**options)
        return self.box.start(*argv, name=name, exposed_ports=list(exposed), **wishes)

    def web(self, name: str = "", **options: Any) -> Container:
        """A web server that tells its host name at /name; ready when this returns."""
        container = self.start("sh", "-c", WEB, name=name, **options)
        self.until_served(container)
        return container

    def until_served(self, container: Container, port: int = 80) -> None:
        """Wait until the container listens: asked from the host, at its own address."""
        addresses = [each.ip for _, each in network_inspection.places(container).values()]
        wait_for(lambda: any(accepts(each, port) for each in addresses), what=f"{container} to serve {port}")

    def sh(self, script: str, **options: Any) -> Any:
        return self.box.sh(script, **self.wishes(**options))

    def endpoint(self, container: Container, network: str = "bridge") -> networks.Endpoint:
        return networks.load(self.root)[network].endpoints[container.id]

    def port(self, container: Container, inside: int = 80, protocol: str = "tcp") -> int:
        """The host's port that leads to *inside*."""
        rows = [row for row in self.ports(container.id) if row["PrivatePort"] == inside]
        return next(row["PublicPort"] for row in rows if row["Type"] == protocol)


def accepts(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def get(host: str, port: int, path: str = "/name", timeout: float = 5) -> str:
    """What a web server answers, by a real socket."""
    with socket.create_connection((host, port), timeout * PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], answer
    return body.decode().strip()


def echo(host: str, port: int) -> bytes:
    """What a UDP server sends back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3 * PATIENCE)
        for _ in range(30):  # the server may still be on its way
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                client.sendto(b"hello", (host, port))
                return client.recv(4096)
    raise AssertionError(f"no answer from {host}:{port}/udp")


@contextlib.contextmanager
def udp_server(pid: int, port: int) -> Iterator[None]:
    """A server in the network of process *pid* that sends everything back in capitals."""
    program = (
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', {port}))\n"
        "while True: m, a = s.recvfrom(4096); s.sendto(m.upper(), a)"
    )
    server = subprocess.Popen(["nsenter", "-t", str(pid), "-n", sys.executable, "-c", program])
    try:
        yield
    finally:
        server.kill()
        server.wait()


def ip(*words: str, pid: int | None = None) -> str:
    """The program `ip`, in the network of process *pid*."""
    inside = ["nsenter", "-t", str(pid), "-n"] if pid else []
    done = subprocess.run([*inside, "ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"
    return done.stdout


def nft(*words: str) -> str:
    done = subprocess.run(["nft", *words], capture_output=True, text=True, check=False)
    return done.stdout


@contextlib.contextmanager
def outside(link: str = "wan", net: str = "198.51.100") -> Iterator[int]:
    """A network that plays the internet: 198.51.100.2; this host is 198.51.100.1. Yields a pid in it."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    try:
        here = os.stat("/proc/self/ns/net").st_ino
        there = Path(f"/proc/{holder.pid}/ns/net")
        while os.stat(there).st_ino == here:
            os.sched_yield()
        ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", str(holder.pid))
        ip("addr", "add", f"{net}.1/24", "dev", link)
        ip("link", "set", link, "up")
        if link == "wan":
            ip("route", "add", "default", "via", f"{net}.2")
        for words in (("addr", "add", f"{net}.2/24", "dev", link), ("link", "set", link, "up")):
            ip(*words, pid=holder.pid)
        ip("link", "set", "lo", "up", pid=holder.pid)
        yield holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


def elsewhere(pid: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the network of process *pid*."""
    words = ["nsenter", "-t", str(pid), "-n", "timeout", str(int(20 * PATIENCE)), "sh", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=False)
