"""`GET /containers/{id}/attach/ws`: a container's streams in the frames of a WebSocket.

The frames are written and read here byte by byte, after RFC 6455; what dockerd 20.10 and 26.1 answer to the
same bytes was compared by hand. The docker SDK does it with a client of other people.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from worlds import wait_for

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ALL = "stream=1&stdin=1&stdout=1&stderr=1"
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of RFC 6455, section 1.3
ASKED = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def frame(kind: int, data: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it."""
    size = len(data)
    head = bytes([kind | (0x80 if final else 0)])
    if size < 126:
        head += bytes([size | 0x80])
    else:
        head += struct.pack(">BH", 126 | 0x80, size) if size < 65536 else struct.pack(">BQ", 127 | 0x80, size)
    if not masked:
        return head[:1] + bytes([head[1] & 0x7F]) + head[2:] + data
    mask = b"\x01\x80\xff\x37"
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


class Peer:
    """The client's end."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._file = connection, connection.makefile("rb")

    def ask(self, path: str, **more: str | None) -> tuple[int, dict[str, str]]:
        """The handshake: status and headers of the answer."""
        lines = ASKED | {name.replace("_", "-"): value for name, value in more.items()}
        asked = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        self.connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{asked}\r\n".encode())
        status = int(self._file.readline().split()[1])
        found = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            found[name] = value
        return status, found

    def send(self, *frames: bytes) -> None:
        self.connection.sendall(b"".join(frames))

    def receive(self) -> tuple[int, bytes]:
        """The next frame; (-1, b"") at the end."""
        head = self._file.read(2)
        if not head:
            return -1, b""
        size = head[1]  # a server hides nothing: the bit of the mask is 0
        if size > 125:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        assert head[0] & 0x80
        return head[0] & 0x0F, self._file.read(size)

    def text(self, end: bytes) -> bytes:
        """The output up to *end*."""
        found = b""
        while not found.endswith(end):
            kind, data = self.receive()
            assert kind == BINARY, (kind, data, found)
            found += data
        return found

    def end(self) -> list[tuple[int, bytes]]:
        """All frames up to the end of the connection."""
        return list(iter(self.receive, (-1, b"")))


CLOSED = (CLOSE, struct.pack(">H", 1000))
BROKEN = (CLOSE, struct.pack(">H", 1002))
Box = Callable[..., str]


@pytest.fixture
def box(daemon: Any) -> Box:
    """Make a container (and start it) with a command; the path to attach to it."""

    def make(*command: str, start: bool = True, **more: Any) -> str:
        asked = {"Image": "busybox", "Cmd": list(command), "OpenStdin": True, **more}
        made = daemon.ask("POST", "/containers/create?name=box", asked)[1]["Id"]
        if start:
            assert daemon.ask("POST", f"/containers/{made}/start")[0] == 204
        return f"/v1.44/containers/{made}/attach/ws"

    return make


@pytest.fixture
def peer(daemon: Any) -> Iterator[Peer]:
    with daemon.connect() as connection:
        yield Peer(connection)


def test_both_ways(box: Box, peer: Peer, daemon: Any) -> None:
    status, headers = peer.ask(f"{box('cat')}?{ALL}")
    assert (status, headers["Sec-WebSocket-Accept"], headers["Upgrade"]) == (101, ACCEPT, "websocket")
    peer.send(frame(BINARY, b"bytes\n"))
    assert peer.text(b"\n") == b"bytes\n"
    peer.send(frame(TEXT, "Übung\n".encode()))
    assert peer.text(b"\n") == "Übung\n".encode()
    peer.send(frame(TEXT, b"in ", final=False), frame(PING, b"there?"), frame(0, b"parts\n"))
    assert peer.receive() == (PONG, b"there?")
    assert peer.text(b"\n") == b"in parts\n"
    peer.send(frame(PONG, b"unasked"), frame(BINARY, b""), frame(BINARY, b"still here\n"))
    assert peer.text(b"\n") == b"still here\n"
    for size in (125, 126, 65535, 65536, 300_001):
        line = b"x" * size + b"\n"
        peer.send(frame(BINARY, line))
        assert peer.text(b"\n") == line
    peer.send(frame(CLOSE, struct.pack(">H", 1000) + b"bye"))
    assert peer.end() == [CLOSED]
    assert daemon.ask("GET", "/containers/box/json")[1]["State"]["Running"]


def test_a_frame_arrives_byte_by_byte(box: Box, peer: Peer) -> None:
    peer.ask(f"{box('cat')}?{ALL}")
    for byte in frame(BINARY, b"slow but sure\n"):
        peer.send(bytes([byte]))
    assert peer.text(b"\n") == b"slow but sure\n"


def test_a_frame_with_the_handshake(box: Box, peer: Peer, daemon: Any) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in ASKED.items())
    head = f"GET {box('cat')}?{ALL} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()
    peer.send(head + frame(BINARY, b"early\n"))
    while peer._file.readline().strip():
        pass
    assert peer.text(b"\n") == b"early\n"


def test_the_end_of_the_container(box: Box, peer: Peer, daemon: Any) -> None:
    """Attached before its start, to its end."""
    peer.ask(f"{box('sh', '-c', 'read a; echo got $a; exit 3', start=False)}?{ALL}")
    assert daemon.ask("POST", "/containers/box/start")[0] == 204
    peer.send(frame(TEXT, b"hi\n"))
    assert peer.text(b"\n") == b"got hi\n"
    assert peer.end() == [CLOSED]


def test_a_client_that_vanishes_is_the_end_of_the_input(box: Box, daemon: Any) -> None:
    before = daemon.threads()
    path = box("sh", "-c", "cat >/typed; exit 4", StdinOnce=True)
    with daemon.connect() as connection:
        peer = Peer(connection)
        peer.ask(f"{path}?{ALL}")
        peer.send(frame(BINARY, b"last words"))
        peer._file.close()
    assert daemon.ask("POST", "/containers/box/wait")[1]["StatusCode"] == 4
    assert b"last words" in daemon.ask("GET", "/containers/box/archive?path=/typed")[1]
    wait_for(lambda: daemon.threads() <= before, what="the threads of who hung up to end")


def test_which_streams(box: Box, daemon: Any) -> None:
    path = box("sh", "-c", "echo old; read a; echo out; echo err >&2; read a")
    for query, expected in (
        ("stream=1&stderr=1&logs=1", b"err\n"),
        ("stream=1&stdout=1&logs=1", b"old\nout\n"),
    ):
        with daemon.connect() as one, daemon.connect() as other:
            watching, typing = Peer(one), Peer(other)
            watching.ask(f"{path}?{query}")
            typing.ask(f"{path}?{ALL}")
            typing.send(frame(TEXT, b"\n"))
            assert watching.text(expected[-4:]) == expected
        daemon.ask("POST", "/containers/box/restart?t=0")
    with daemon.connect() as connection:  # before 1.42 nobody was asked which
        old = Peer(connection)
        old.ask(f"{path.replace('v1.44', 'v1.41')}?stream=1")
        old.send(frame(TEXT, b"\n"))
        assert sorted(old.receive() for _ in range(2)) == [(BINARY, b"err\n"), (BINARY, b"out\n")]


def test_the_log_alone(box: Box, peer: Peer, daemon: Any) -> None:
    path = box("sh", "-c", "echo one; echo two")
    daemon.ask("POST", "/containers/box/wait")
    peer.ask(f"{path}?logs=1&stdout=1")
    assert b"".join(data for kind, data in peer.end() if kind == BINARY) == b"one\ntwo\n"


def test_a_terminal_and_its_detach_keys(box: Box, peer: Peer, daemon: Any) -> None:
    peer.ask(f"{box('cat', Tty=True)}?{ALL}&detachKeys=ctrl-x,x")
    peer.send(frame(TEXT, b"word\n"))
    assert peer.text(b"word\r\nword\r\n")
    peer.send(frame(TEXT, b"\x18"), frame(TEXT, b"x"))
    assert peer.end() == [CLOSED]
    assert daemon.ask("GET", "/containers/box/json")[1]["State"]["Running"]


MISTAKES = {
    "no mask": frame(BINARY, b"x\n", masked=False),
    "a kind that is none": frame(3, b"x\n"),
    "a control frame that is none": frame(11, b""),
    "an extension": bytes([0xC2]) + frame(BINARY, b"x\n")[1:],
    "a long ping": frame(PING, b"x" * 126),
    "a ping in parts": frame(PING, b"x", final=False),
    "the rest of nothing": frame(0, b"x\n"),
    "a message within a message": frame(TEXT, b"", final=False) + frame(TEXT, b""),
    "a length below zero": b"\x82\xff" + b"\xff" * 8 + b"mask",
}


def test_who_breaks_the_protocol_is_put_out(box: Box, daemon: Any) -> None:
    path = box("cat")
    for what, sent in MISTAKES.items():
        with daemon.connect() as connection:
            peer = Peer(connection)
            peer.ask(f"{path}?{ALL}")
            peer.send(sent)
            assert peer.end() == [BROKEN], what
    assert daemon.ask("GET", "/containers/box/json")[1]["State"]["Running"]


def test_a_frame_of_exabytes_costs_no_memory(box: Box, peer: Peer, daemon: Any) -> None:
    peer.ask(f"{box('sh', '-c', 'cat >/dev/null')}?{ALL}")
    before = daemon.memory()
    peer.send(b"\x82\xff" + struct.pack(">Q", 1 << 62) + b"mask")
    for _ in range(64):
        peer.send(bytes(1 << 20))
    assert daemon.memory() - before < 16 << 20


REFUSED: dict[str, dict[str, str | None]] = {
    "no upgrade": {"Upgrade": None},
    "another upgrade": {"Upgrade": "tcp"},
    "no word of it in Connection": {"Connection": "keep-alive"},
    "no key": {"Sec_WebSocket_Key": None},
    "a short key": {"Sec_WebSocket_Key": "c2hvcnQ="},
    "a key of another alphabet": {"Sec_WebSocket_Key": "ä" * 24},
    "no version": {"Sec_WebSocket_Version": None},
    "another version": {"Sec_WebSocket_Version": "8"},
}


def test_a_handshake_that_is_none(box: Box, peer: Peer) -> None:
    path = box("cat", start=False)
    for what, more in REFUSED.items():
        status, headers = peer.ask(f"{path}?{ALL}", **more)
        assert status == 400, what
        assert ("version" in what) == (headers.get("Sec-WebSocket-Version") == "13")
        assert json.loads(peer._file.read(int(headers["Content-Length"])))["message"]
    assert peer.ask("/_ping", Connection="close")[0] == 200  # the connection is still HTTP's


def test_what_is_told_before_the_handshake(box: Box, peer: Peer, daemon: Any) -> None:
    def status(path: str) -> int:
        found, headers = peer.ask(path)
        peer._file.read(int(headers["Content-Length"]))
        return found

    path = box("sleep", "1000", Tty=True)
    assert status(f"/containers/nosuch/attach/ws?{ALL}") == 404
    assert status(f"{path}?{ALL}&detachKeys=ctrl-nonsense") == 400
    assert daemon.ask("POST", f"{path.removesuffix('/ws')}?{ALL}&detachKeys=ctrl-nonsense")[0] == 400
    asked = {"Cmd": ["true"], "DetachKeys": "ctrl-nonsense"}
    assert daemon.ask("POST", "/containers/box/exec", asked)[0] == 400
    daemon.ask("POST", "/containers/box/pause")
    assert status(f"{path}?{ALL}") == 409
    daemon.ask("POST", "/containers/box/unpause")


def test_the_docker_sdk(daemon: Any) -> None:
    """With the client `websocket-client`, over TCP: it speaks no other way."""
    docker = pytest.importorskip("docker", reason="the docker SDK for Python is not installed (make setup)")
    pytest.importorskip("websocket", reason="websocket-client is not installed (make setup)")
    daemon.end()
    daemon.start("--host", "tcp://127.0.0.1:2375")
    client = docker.DockerClient(base_url="tcp://127.0.0.1:2375", version="auto", timeout=60)
    container = client.containers.run("busybox", ["cat"], stdin_open=True, detach=True)
    stream = client.api.attach_socket(container.id, {"stdin": 1, "stdout": 1, "stream": 1}, ws=True)
    stream.send("typed\n")
    assert stream.recv() == b"typed\n"
    stream.ping("there?")
    assert stream.recv_data(control_frame=True) == (PONG, b"there?")
    container.kill()
    assert stream.recv_data(control_frame=True) == (CLOSE, CLOSED[1])
    stream.close()
    client.close()
