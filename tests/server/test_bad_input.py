"""Whatever a client sends: a 4xx with a message, never a hang, never a dead thread, never a traceback."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from worlds import wait_for


def said(daemon: Any, sent: bytes) -> tuple[int, bytes]:
    """Send these bytes and read all of the answer: its status and its body."""
    with daemon.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def post(path: str, body: bytes, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def create(more: str) -> bytes:
    """The making of a container, with *more* in its JSON."""
    return post("/containers/create", b'{"Image":"busybox",' + more.encode() + b"}")


def login(server: str) -> bytes:
    value = f'{{"username":"a","password":"b","serveraddress":"{server}"}}'
    return post("/auth", value.encode())


GET = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BAD = {
    "malformed JSON": post("/containers/create", b"{"),
    "JSON of another kind": post("/containers/create", b"[1]"),
    "JSON that nests too deeply": post("/containers/create", b'{"a":' + b"[" * 100_000),
    "no body": post("/containers/create", b""),
    "no image": post("/containers/create", b"{}"),
    "a field of another type": post("/containers/create", b'{"Image":"busybox","Cmd":{"a":1}}'),
    "a number for a list": post("/containers/create", b'{"Image":"busybox","HostConfig":{"Binds":7}}'),
    "invalid UTF-8": post("/containers/create", b'{"Image":"\xff"}'),
    "what minidock does not have": post(
        "/containers/create", b'{"Image":"busybox","HostConfig":{"BlkioWeight":7}}'
    ),
    "a chunk without a length": b"POST /images/load HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a body cut short": b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    "a length that is none": b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length of five thousand digits": b"POST /auth HTTP/1.1\r\nContent-Length: "
    + b"9" * 5000
    + b"\r\n\r\n",
    "two lengths": b"POST /auth HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length and chunks": b"POST /auth HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{",
    "another encoding": b"POST /auth HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk of terabytes": b"POST /auth HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n{}",
    "half a character in the command": create(r'"Cmd":["\ud800"]'),
    "half a character in the environment": create(r'"Env":["A=\ud800"]'),
    "half a character in a label": create(r'"Labels":{"a":"\ud800"}'),
    "half a character in the image": post("/containers/create", rb'{"Image":"\ud800"}'),
    "a zero byte in the command": create(r'"Cmd":["a\u0000b"]'),
    "a zero byte in the environment": create(r'"Env":["A=a\u0000b"]'),
    "a zero byte in a mount": create(r'"HostConfig":{"Binds":["/a\u0000:/b"]}'),
    "a zero byte in the directory": create(r'"WorkingDir":"/a\u0000b"'),
    "a number beyond all": create('"HostConfig":{"Memory":' + "9" * 40 + "}"),
    "a number below all": create('"HostConfig":{"CpuShares":-' + "9" * 40 + "}"),
    "a number with five thousand digits": create('"HostConfig":{"Memory":' + "9" * 5000 + "}"),
    "no number": create('"HostConfig":{"NanoCpus":NaN}'),
    "a health check that waits for ever": create(
        '"Healthcheck":{"Test":["CMD","a"],"Interval":1' + "0" * 40 + "}"
    ),
    "no HTTP": b"\x16\x03\x01 hello there\r\n\r\n",
    "another HTTP": b"GET / HTTP/7.0\r\n\r\n",
    "a long line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "many parameters": GET % (b"/info?" + b"&".join(b"a%d=1" % n for n in range(2000))),
    "a version of tomorrow": GET % b"/v9.99/info",
    "a version of yesterday": GET % b"/v1.0/info",
    "no such page": GET % b"/nothing",
    "up and away": GET % b"/containers/..%2f..%2fetc/json",
    "dots": GET % b"/containers/../../etc/passwd/json",
    "a volume outside": GET % b"/volumes/..%2f..%2fetc",
    "an image outside": GET % b"/images/..%2f..%2fetc/json",
    "a zero byte": GET % b"/containers/a%00b/json",
    "filters that are none": GET % b"/containers/json?filters=%7B",
    "an unknown filter": GET % b"/containers/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D",
    "a number that is none": GET % b"/containers/json?limit=x",
    "another method": b"PATCH /containers/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "an exec that nobody made": post("/exec/" + "0" * 64 + "/start", b"{}"),
    "a path of an exec": post("/exec/..%2f..%2fx/start", b"{}"),
    "a commit with labels that are none": post("/commit?container=x", b'{"Labels":7}'),
    "a commit with ports that are none": post("/commit?container=x", b'{"ExposedPorts":7}'),
    "a commit with volumes that are none": post("/commit?container=x", b'{"Volumes":[1]}'),
    "a commit with a label that is a number": post("/commit?container=x", b'{"Labels":{"a":7}}'),
    "limits of a build that are none": post("/build?ulimits=%5B7%5D", b""),
    "limits of a build without numbers": post(
        "/build?ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A%22x%22%7D%5D", b""
    ),
    "labels of a build that are numbers": post("/build?labels=%7B%22a%22%3A7%7D", b""),
    "arguments of a build that are numbers": post("/build?buildargs=%7B%22a%22%3A7%7D", b""),
    "labels that are numbers": create('"Labels":{"a":7}'),
    "options of a log that are numbers": create(
        '"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"a":7}}}'
    ),
    "sysctls that are numbers": create('"HostConfig":{"Sysctls":{"net.core.somaxconn":[7]}}'),
    "a tmpfs with a number": create('"HostConfig":{"Tmpfs":{"/a":7}}'),
    "labels of a volume that are numbers": post("/volumes/create", b'{"Labels":{"a":7}}'),
    "options of a volume that are lists": post("/volumes/create", b'{"DriverOpts":{"type":[1]}}'),
    "labels of a network that are numbers": post("/networks/create", b'{"Name":"n","Labels":{"a":7}}'),
    "options of a network that are lists": post("/networks/create", b'{"Name":"n","Options":{"a":[7]}}'),
    "a driver option that is a list": post(
        "/networks/bridge/connect", b'{"Container":"x","EndpointConfig":{"DriverOpts":{"a":[7]}}}'
    ),
    "a registry that is none": login("ä\u0080"),
    "a registry with two ports": login("a:1:2"),
    "half a character in a build's label": post("/build?labels=%7B%22a%22%3A%22%5Cud800%22%7D", b""),
    "a quota of microseconds": create('"HostConfig":{"CpuQuota":5}'),
    "a period of years": create('"HostConfig":{"CpuPeriod":99999999999}'),
    "a negative reservation": create('"HostConfig":{"MemoryReservation":-99999}'),
    "negative shares": create('"HostConfig":{"CpuShares":-2}'),
    "pids without number": create('"HostConfig":{"PidsLimit":99999999999}'),
    "a path to another file": GET % b"/containers/x/archive?path=../../etc/passwd",
    "a slash too many": GET % b"//containers//json",
    "a version alone": GET % b"/v1.44",
    "a version that is none": GET % b"/v1.x/info",
    "a version of ten digits": GET % b"/v1.4400000000/info",
    "bytes of no alphabet": GET % b"/containers/\xff\xfe/json",
    "a moment that is none": GET % b"/events?since=yesterday&until=1",
    "logs of nothing": GET % b"/containers/nosuch/logs?stdout=1",
    "attach to nothing": post("/containers/nosuch/attach?stream=1&stdout=1", b""),
    "a wait for something": post("/containers/nosuch/wait?condition=later", b""),
    "a build without a context": post("/build", b""),
    "a build of noise": post("/build", b"noise" * 1000),
    "a build of what the daemon reads": post("/build?remote=-", b""),
    "a Dockerfile that the daemon reads": post("/build?dockerfile=-", b""),
    "a Dockerfile outside": post("/build?dockerfile=/etc/passwd", b""),
    "a volume of a swarm": post("/volumes/create", b'{"ClusterVolumeSpec":{"a":1}}'),
    "a load of noise": post("/images/load", b"noise" * 1000),
    "arguments that are no JSON": post("/build?buildargs=x", b""),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(daemon: Any, what: str) -> None:
    status, body = said(daemon, BAD[what])
    if status == 200:  # a stream of progress had begun: then its last line tells
        assert b'"errorDetail"' in body
    else:
        assert 400 <= status < 500, (status, body)
        assert json.loads(body)["message"]
    assert b"Traceback" not in body
    assert daemon.ask("GET", "/_ping") == (200, b"OK")


def test_a_build_never_reads_a_directory_of_the_daemon(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY . /\n")
    status, answer = daemon.ask("POST", f"/build?remote={tmp_path}")
    assert (status, "recognized as URL" in answer["message"]) == (400, True)


def test_a_body_that_is_too_large(daemon: Any) -> None:
    with daemon.connect() as connection:
        connection.sendall(
            b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_vanish_while_sending(daemon: Any) -> None:
    """Whoever hangs up in the middle of a body, or of an answer, leaves nothing behind."""
    before = daemon.threads()
    for path in ("/build", "/images/load", "/images/create?fromSrc=-", "/containers/create"):
        with daemon.connect() as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nxyz".encode()
            )
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["true"]})
    for path in (
        b"/images/get?names=busybox",
        b"/containers/box/export",
        b"/containers/box/archive?path=/bin",
    ):
        with daemon.connect() as connection:
            connection.sendall(GET % path)
            assert connection.recv(12).startswith(b"HTTP/1.1 200")
    wait_for(lambda: daemon.threads() <= before, what="the threads of those who hung up to end")
    assert daemon.ask("DELETE", "/containers/box")[0] == 204
    assert daemon.ask("GET", "/images/json")[1][0]["RepoTags"] == ["busybox:latest"]
    assert list((daemon.root / "tmp").iterdir()) == []


def test_hijack_and_vanish(daemon: Any) -> None:
    """Who hangs up leaves no thread and no guest behind, whatever they were waiting for."""
    made = daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["sleep", "1000"]})
    assert made[0] == 201
    daemon.ask("POST", "/containers/create?name=quiet", {"Image": "busybox", "Cmd": ["true"]})
    daemon.ask("POST", "/containers/box/start")
    before = daemon.threads()
    paths = (
        "/containers/box/attach?stream=1&stdin=1&stdout=1&stderr=1",
        "/containers/quiet/attach?stream=1&stdout=1",
        "/containers/box/wait",
        "/containers/quiet/wait?condition=removed",
    )
    for path in paths:
        with daemon.connect() as connection:
            connection.sendall(post(path, b"", "Connection: Upgrade", "Upgrade: tcp"))
            assert connection.recv(12).startswith(b"HTTP/1.1 ")
    for path in (b"/events", b"/containers/box/logs?follow=1&stdout=1"):
        with daemon.connect() as connection:
            connection.sendall(GET % path)
            assert connection.recv(12).startswith(b"HTTP/1.1 200")
    wait_for(lambda: daemon.threads() <= before, what="the threads of those who hung up to end")
    assert daemon.ask("DELETE", "/containers/box?force=1")[0] == 204
    assert daemon.ask("DELETE", "/containers/quiet")[0] == 204


def test_the_last_words_before_a_hangup_arrive(daemon: Any) -> None:
    """As when the user types a command and leaves at once: both reach the daemon together."""
    program = ["sh", "-c", "read line; echo got $line"]
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": program, "OpenStdin": True})
    daemon.ask("POST", "/containers/box/start")
    with daemon.connect() as connection:
        connection.sendall(post("/containers/box/attach?stream=1&stdin=1", b"", "Upgrade: tcp"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")
        daemon.process.send_signal(signal.SIGSTOP)
        connection.sendall(b"it\n")
    daemon.process.send_signal(signal.SIGCONT)
    assert daemon.ask("POST", "/containers/box/wait")[1]["StatusCode"] == 0
    assert b"got it\n" in daemon.ask("GET", "/containers/box/logs?stdout=1")[1]


def test_who_detaches_before_the_answer_came(daemon: Any) -> None:
    """Typed together with the request, detach keys are detach keys, not input."""
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["sleep", "1000"]})
    daemon.ask("POST", "/containers/box/start")
    wish = {"Cmd": ["cat"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
    made = daemon.ask("POST", "/containers/box/exec", wish)[1]["Id"]
    status, body = said(daemon, post(f"/exec/{made}/start", b'{"Tty":true}', "Upgrade: tcp") + b"\x10\x11")
    assert (status, body) == (101, b"")
    assert daemon.ask("GET", f"/exec/{made}/json")[1]["Running"]


def test_silent_clients_do_not_keep_others_waiting(daemon: Any) -> None:
    silent = [daemon.connect() for _ in range(50)]
    for each in silent[::2]:
        each.sendall(b"GET /info HT")
    assert daemon.ask("GET", "/_ping") == (200, b"OK")
    for each in silent:
        each.close()


def test_one_connection_many_requests(daemon: Any) -> None:
    """Kept alive, also over bodies that no endpoint wanted, and over failures."""
    with daemon.connect() as connection:
        connection.sendall(
            post("/containers/nosuch/start", b"x" * 1000)
            + b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
            + GET % b"/version"
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"404", b"200", b"200"]


def test_a_stop_may_wait_for_centuries(daemon: Any) -> None:
    """A number that no clock has is no reason for the shim to fall."""
    command = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]
    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": command})
    assert daemon.ask("POST", "/containers/box/start")[0] == 204
    wait_for(lambda: "trap" in str(daemon.ask("GET", "/containers/box/top")), what="the shell")
    assert daemon.ask("POST", "/containers/box/stop?t=101266537237351")[0] == 204
    assert daemon.ask("DELETE", "/containers/box")[0] == 204


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET /info HTTP/1.1\r\nHost: x\r\nX: ", "the request did not come within its time"),
        (post("/containers/create", b"{}")[:-1], "the request's body did not come within its time"),
        (post("/images/load", b"..")[:-1], "the request's body did not come within its time"),
    ],
)
def test_a_slow_client_hears_that_it_is_too_slow(
    root: Path, monkeypatch: Any, capfd: Any, sent: bytes, why: str
) -> None:
    """In this process: the daemon's own patience is a minute."""
    from minidock.engine import Engine
    from minidock.server import endpoints, handler

    monkeypatch.setattr(handler, "HEAD", 0.05)
    monkeypatch.setattr(handler, "PAUSE", 0.05)
    kind = type("Handler", (handler.Handler,), {"engine": Engine(root), "table": endpoints.table()})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        kind(theirs, ("", 0), None)  # returns when the connection is over
        theirs.close()
        head, _, body = b"".join(iter(lambda: ours.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == {"message": why}
    assert capfd.readouterr().err == ""
