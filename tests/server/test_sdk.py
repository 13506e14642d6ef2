"""The docker SDK for Python drives the daemon."""

from __future__ import annotations

import io
import socket
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

docker = pytest.importorskip("docker", reason="the docker SDK for Python is not installed (make setup)")


@pytest.fixture
def client(daemon: Any) -> Iterator[Any]:
    made = docker.DockerClient(base_url=daemon.host, version="auto", timeout=60)
    yield made
    made.close()


def test_run(client: Any) -> None:
    assert client.ping()
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError):
        client.containers.run("busybox", ["false"], remove=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("nosuch:1", "true")
    assert client.containers.list(all=True) == []


def test_an_exec_with_its_streams_apart(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    code, (out, err) = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert (code, out, err) == (5, b"out\n", b"err\n")
    made = client.api.exec_create(container.id, ["cat"], stdin=True)
    stream = client.api.exec_start(made["Id"], socket=True)
    stream._sock.sendall(b"typed\n")
    stream._sock.shutdown(socket.SHUT_WR)
    assert b"typed\n" in stream.read()
    assert client.api.exec_inspect(made["Id"])["ExitCode"] == 0
    container.remove(force=True)


def test_logs_stats_and_waiting(client: Any) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo one; sleep 1; echo two; exit 3"], detach=True
    )
    assert container.stats(stream=False)["id"] == container.id
    assert list(container.logs(stream=True, follow=True)) == [b"one\n", b"two\n"]
    assert container.wait()["StatusCode"] == 3
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 3


def test_a_build_from_memory(client: Any) -> None:
    image, lines = client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nLABEL made=here\n"), tag="made:1", rm=True
    )
    assert image.labels == {"made": "here"}
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    client.images.remove("made:1")


def test_archives(client: Any) -> None:
    container = client.containers.create("busybox", ["true"])
    blocks, found = container.get_archive("/etc/passwd")
    assert found["name"] == "passwd"
    archive = tarfile.open(fileobj=io.BytesIO(b"".join(blocks)))
    assert archive.getnames() == ["passwd"]
    sent = io.BytesIO()
    with tarfile.open(fileobj=sent, mode="w") as made:
        entry = tarfile.TarInfo("new")
        entry.size = 4
        made.addfile(entry, io.BytesIO(b"text"))
    assert container.put_archive("/tmp", sent.getvalue())
    assert any(each["Path"] == "/tmp/new" for each in container.diff())


def test_networks_and_volumes(client: Any) -> None:
    network = client.networks.create("inner", labels={"a": "b"})
    assert [each.name for each in client.networks.list(filters={"label": "a=b"})] == ["inner"]
    container = client.containers.create("busybox", ["true"])
    network.connect(container, aliases=["www"])
    network.disconnect(container)
    network.remove()
    volume = client.volumes.create("data")
    client.containers.run("busybox", ["touch", "/d/x"], volumes={"data": {"bind": "/d"}}, remove=True)
    volume.remove()


def test_events(client: Any) -> None:
    stream = client.events(decode=True, filters={"type": "container"})
    client.containers.run("busybox", ["true"], remove=True)
    assert next(stream)["Action"] == "create"
    stream.close()
