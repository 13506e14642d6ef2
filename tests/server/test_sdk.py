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


def test_what_is_asked_for_is_shown_again(client: Any) -> None:
    """Also what changes nothing here, and what is 0."""
    made = client.containers.create(
        "busybox",
        ["true"],
        runtime="runc",
        isolation="default",
        volume_driver="other",
        mem_swappiness=0,
        device_cgroup_rules=["c 42:* rmw"],
        stop_signal="INT",
        log_config=docker.types.LogConfig(type="json-file", config={"max-file": "9"}),
    )
    shown = made.attrs["HostConfig"]
    assert (shown["Runtime"], shown["Isolation"], shown["VolumeDriver"]) == ("runc", "default", "other")
    assert (shown["MemorySwappiness"], shown["DeviceCgroupRules"]) == (0, ["c 42:* rmw"])
    assert shown["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "9"}}
    for wrong in ({"runtime": "other"}, {"mem_swappiness": 101}, {"device_cgroup_rules": ["c 42 rmw"]}):
        with pytest.raises(docker.errors.APIError) as caught:
            client.containers.create("busybox", ["true"], **wrong)
        assert caught.value.status_code == 400


def test_the_first_words_are_in_the_log_when_the_start_is_answered(client: Any) -> None:
    for _ in range(5):
        container = client.containers.run("busybox", ["echo", "first"], detach=True)
        assert container.logs() == b"first\n"
        assert client.api.attach(container.id, stream=False, logs=True) == b"first\n"


def test_a_pull_of_what_nobody_has(client: Any, registry: str) -> None:
    for name in ("nosuch", "busybox@sha256:" + "0" * 64):
        with pytest.raises(docker.errors.NotFound):
            client.api.pull(name)
    lines = list(client.api.pull("hello-world", tag="latest", stream=True, decode=True))
    assert lines[0] == {"status": "Pulling from library/hello-world", "id": "latest"}
    done = [each for each in lines if each["status"] in ("Download complete", "Pull complete")]
    assert len(done) == 2 and all(each["progressDetail"] == {} for each in done)  # no bytes behind "complete"
    assert any(each.get("progressDetail") for each in lines)


def test_a_commit_while_a_container_ends(client: Any) -> None:
    base = client.images.get("busybox")
    for _ in range(5):
        container = client.containers.run("busybox", ["touch", "/made"], detach=True)
        assert container.commit().attrs["Parent"] == base.id
    assert base.attrs["Parent"] == ""


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
    client.api._general_configs["detachKeys"] = "ctrl-x"  # as in the user's config.json
    made = client.api.exec_create(container.id, ["cat"], stdin=True, tty=True)
    stream = client.api.exec_start(made["Id"], tty=True, socket=True)
    stream._sock.sendall(b"\x18")
    assert stream.read() == b""
    assert client.api.exec_inspect(made["Id"])["Running"]
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


def build(client: Any, dockerfile: str, **options: Any) -> list[str]:
    file = io.BytesIO(dockerfile.encode())
    return [line.get("stream", "") for line in client.api.build(fileobj=file, decode=True, **options)]


def test_what_a_build_may_be_told(client: Any) -> None:
    hosts = {"db.test": "127.0.0.9", "web.test": "127.0.0.1"}
    text = "FROM busybox\nRUN grep -c -e 127.0.0.9.db.test -e 127.0.0.1.web.test /etc/hosts\n"
    assert "2\n" in build(client, text, extra_hosts=hosts)
    assert "\x1b[91mof old\n\x1b[0m" in build(client, "FROM busybox\nRUN echo of old >&2\n")
    text = "FROM busybox\nRUN true\nENV a=b\n"
    build(client, text, tag="made")
    for source, hits in (("made", 2), ("nosuch", 0)):
        lines = build(client, text, cache_from=[source])
        assert sum("Using cache" in line for line in lines) == hits


def test_a_dockerfile_that_is_none(client: Any) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        build(client, "FROM busybox\nBAD x\n")
    assert (caught.value.status_code, "unknown instruction: BAD" in str(caught.value)) == (400, True)


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


def test_what_an_endpoint_may_be_told(client: Any) -> None:
    pools = [
        docker.types.IPAMPool(
            subnet="10.7.0.0/24", gateway="10.7.0.254", aux_addresses={"router": "10.7.0.1"}
        )
    ]
    network = client.networks.create("in side", ipam=docker.types.IPAMConfig(pool_configs=pools))
    shown = network.attrs["IPAM"]["Config"][0]
    assert (shown["Gateway"], shown["AuxiliaryAddresses"]) == ("10.7.0.254", {"router": "10.7.0.1"})
    settings = client.api.create_endpoint_config(
        aliases=["www"],
        links={"later": "db"},
        link_local_ips=["169.254.8.8"],
        driver_opt={"some.key": "a=b,c"},
        mac_address="02:42:00:00:00:07",
    )
    web = client.containers.create(
        "busybox", ["sleep", "1000"], network="in side", networking_config={"in side": settings}
    )
    place = web.attrs["NetworkSettings"]["Networks"]["in side"]
    assert (place["Aliases"], place["Links"], place["DriverOpts"]) == (
        ["www"],
        ["later:db"],
        {"some.key": "a=b,c"},
    )
    assert (place["MacAddress"], place["IPAMConfig"]) == (
        "02:42:00:00:00:07",
        {"LinkLocalIPs": ["169.254.8.8"]},
    )
    web.start()
    assert b"inet 169.254.8.8/16 " in web.exec_run(["ip", "addr"]).output
    client.containers.run("busybox", ["sleep", "1000"], name="later", network="in side", detach=True)
    assert web.exec_run(["ping", "-c1", "db"]).exit_code == 0
    assert set(client.networks.get("in side").attrs["Containers"]) == {
        each.id for each in client.containers.list()
    }


def test_a_link_is_taken_away(client: Any) -> None:
    client.containers.run("busybox", ["sleep", "1000"], name="db", detach=True)
    web = client.containers.create("busybox", ["true"], name="web", links={"db": "store"})
    client.api.remove_container("web/store", link=True)
    web.reload()
    assert not web.attrs["HostConfig"]["Links"]
    with pytest.raises(docker.errors.NotFound):
        client.api.remove_container("web/store", link=True)
    assert len(client.containers.list(all=True)) == 2


def test_events(client: Any) -> None:
    stream = client.events(decode=True, filters={"type": "container"})
    client.containers.run("busybox", ["true"], remove=True)
    assert next(stream)["Action"] == "create"
    stream.close()
