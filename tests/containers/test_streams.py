"""Output and input: of any size, of any bytes, to several at once, and never stuck."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from minidock.containers import lifecycle, protocol
from minidock.containers.streams import Streams

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def test_binary_through_stdin_and_stdout(box):
    data = os.urandom(3 << 20)
    ran = box.run("cat", input=data)
    assert hashlib.sha256(ran.out).hexdigest() == hashlib.sha256(data).hexdigest()


def test_big_output_on_both_streams(box):
    script = "yes out | head -c 5000000 & yes err | head -c 5000000 >&2; wait"
    ran = box.sh(script)
    assert (len(ran.out), len(ran.err)) == (5_000_000, 5_000_000)
    assert set(ran.out.split(b"\n")[:-1]) <= {b"out"}
    assert set(ran.err.split(b"\n")[:-1]) <= {b"err", b"er", b"e"}


def test_the_log_has_what_was_shown(box):
    ran = box.sh("seq 1 20000; printf 'no end'")
    logged = b"".join(entry[1] for entry in lifecycle.read_logs(ran.container))
    assert logged == ran.out


def test_stdin_is_half_closed(box):
    ran = box.sh("cat; echo after the end", input=b"before\n")
    assert ran.text == "before\nafter the end\n"


def test_without_i_stdin_is_empty(box):
    assert box.sh("cat; echo done").text == "done\n"


def test_a_container_that_ignores_its_stdin(box):
    ran = box.sh("echo busy; exit 2", input=b"x" * 5_000_000)
    assert (ran.code, ran.out) == (2, b"busy\n")


def test_a_container_that_closes_its_stdin(box):
    ran = box.sh("exec <&-; sleep 0.2; echo fine", input=b"x" * 3_000_000)
    assert (ran.code, ran.out) == (0, b"fine\n")


def test_detached_stdin_stays_open_for_the_next(box):
    container = box.start("sh", "-c", "read a; read b; echo $a $b", open_stdin=True)
    connection = protocol.connect(container.directory)
    assert connection is not None
    with connection:
        protocol.send_request(connection, op="attach", stdin=True)
        protocol.answer(connection)
        connection.sendall(protocol.frame(protocol.STDIN, b"first\n"))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            connection.recv(10)
    out: list[bytes] = []
    assert lifecycle.attach_to(container, box.streams(b"second\n", out, [])) == 0
    assert b"".join(out) == b"first second\n"


def test_several_clients_see_the_same(box):
    container = box.start("sh", "-c", "read go; seq 1 1000", open_stdin=True)
    outputs: list[list[bytes]] = [[], [], []]
    watchers = [
        threading.Thread(
            target=lifecycle.attach_to,
            args=(container, Streams(None, out.append, None, forward_signals=False)),
        )
        for out in outputs
    ]
    connections = []
    for watcher in watchers:
        watcher.start()
    # They are attached when the shim has answered a later request of ours.
    import time

    time.sleep(0.3)
    connections.append(lifecycle.attach_to(container, box.streams(b"go\n", [], [])))
    for watcher in watchers:
        watcher.join(20)
    expected = "".join(f"{n}\n" for n in range(1, 1001)).encode()
    assert [b"".join(out) for out in outputs] == [expected] * 3


def test_a_client_that_hangs_up_does_not_stop_the_others(box):
    container = box.start("sh", "-c", "read go; yes | head -c 8000000; echo end", open_stdin=True)
    lazy = protocol.connect(container.directory)
    assert lazy is not None
    protocol.send_request(lazy, op="attach", stdout=True)
    protocol.answer(lazy)  # attached, and reads nothing: the container must wait for it …
    done = threading.Event()
    out: list[bytes] = []

    def watch() -> None:
        lifecycle.attach_to(container, box.streams(b"go\n", out, []))
        done.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert not done.wait(0.5)
    lazy.close()  # … until it hangs up
    assert done.wait(30)
    watcher.join()
    assert b"".join(out).endswith(b"end\n")
    assert sum(len(entry[1]) for entry in lifecycle.read_logs(container)) == 8_000_004


def test_nonsense_on_the_socket_harms_nobody(box):
    container = box.service()
    for nonsense in (b"\0" * 100, b"{}\n", b'{"op":"attach"}\n' + b"\xff" * 50, b"x" * (2 << 20), b"[1]\n"):
        connection = protocol.connect(container.directory)
        assert connection is not None
        with connection:
            connection.settimeout(2)
            try:
                connection.sendall(nonsense)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
    assert box.exec(container, "echo", "alive").out == b"alive\n"


def test_the_command_lines_way(box, tmp_path):
    """A small process with one thread forks the shim itself, and forwards its own stdin and stdout."""
    container = box.create("sh", "-c", "cat; echo err >&2; exit 9", open_stdin=True, stdin_once=True)
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\n"
        "from minidock.containers import lifecycle, state\n"
        "from minidock.containers.streams import Streams\n"
        f"c = state.find(Path({str(box.root)!r}), {container.id!r})\n"
        "sys.exit(lifecycle.start(c, Streams(0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], input=b"hello\n" * 100_000, capture_output=True
    )
    assert (done.returncode, done.stderr) == (9, b"err\n")
    assert done.stdout == b"hello\n" * 100_000


def test_the_log_is_dockers_json(box):
    ran = box.sh(r"""printf 'a "quote" \\ tab\t\n\377\n'; printf 'x%.0s' $(seq 1 20000); echo; echo e >&2""")
    lines = [json.loads(line) for line in (ran.container.directory / "log.json").read_text().splitlines()]
    out = [line["log"] for line in lines if line["stream"] == "stdout"]
    assert out[:2] == ['a "quote" \\ tab\t\n', "\ufffd\n"]
    assert [len(text) for text in out[2:]] == [16384, 3617]
    assert [line["log"] for line in lines if line["stream"] == "stderr"] == ["e\n"]
    assert all(set(line) == {"log", "stream", "time"} and line["time"].endswith("Z") for line in lines)
