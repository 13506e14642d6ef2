"""What the daemon asks registries: what it may not do, or cannot, has Docker's status (20.10 and 26.1)."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from proxy import Proxy
from worlds import Cli

INDEX = "application/vnd.oci.image.index.v1+json"


def login(name: str, password: str) -> dict[str, str]:
    value = json.dumps({"username": name, "password": password}).encode()
    return {"X_Registry_Auth": base64.urlsafe_b64encode(value).decode()}


@pytest.fixture
def guarded(registry: str) -> Iterator[Proxy]:
    """A registry for ann alone."""
    with Proxy(registry) as proxy:
        proxy.users = {"ann": "secret"}
        proxy.public = False
        yield proxy


def test_what_a_registry_has_under_a_name(daemon: Any, writable_registry: str, registry: str) -> None:
    """Docker asks the registry, whatever is here: through a mirror, or itself."""
    status, found = daemon.ask("GET", "/v1.44/distribution/busybox/json")
    assert (status, found["Platforms"]) == (200, [{"architecture": "amd64", "os": "linux"}])
    descriptor = found["Descriptor"]
    assert descriptor["digest"].startswith("sha256:") and descriptor["size"] < 10_000
    assert "manifest" in descriptor["mediaType"]
    by_digest = f"/v1.44/distribution/{writable_registry}/library/busybox@{descriptor['digest']}/json"
    assert daemon.ask("GET", by_digest) == (200, found)

    platforms = [("amd64", ""), ("arm", "v7"), ("unknown", "")]
    entry = {name: descriptor[name] for name in ("mediaType", "digest", "size")}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {**entry, "platform": {"os": "linux", "architecture": architecture, "variant": variant}}
            for architecture, variant in platforms
        ],
    }
    data = json.dumps(index).encode()
    connection = http.client.HTTPConnection(writable_registry)
    connection.request("PUT", "/v2/library/busybox/manifests/many", data, {"Content-Type": INDEX})
    assert connection.getresponse().status == 201
    connection.close()
    status, found = daemon.ask("GET", f"/v1.44/distribution/{writable_registry}/library/busybox:many/json")
    assert (status, found["Descriptor"]["mediaType"], found["Descriptor"]["size"]) == (200, INDEX, len(data))
    assert found["Platforms"] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
        {"architecture": "unknown", "os": "linux"},
    ]


def test_names_that_a_registry_lacks_or_cannot_have(daemon: Any, registry: str) -> None:
    daemon.ask("POST", f"/images/busybox/tag?repo={registry}/only-here&tag=1")
    for name in ("nosuch", "busybox:nosuch", f"busybox@sha256:{'0' * 64}", f"{registry}/only-here:1"):
        assert daemon.ask("GET", f"/distribution/{name}/json")[0] == 404, name
    for name in ("UPPER", "busybox:", "0" * 64, "a//b"):
        assert daemon.ask("GET", f"/distribution/{name}/json")[0] == 400, name


@pytest.mark.parametrize("bearer", [False, True], ids=["basic", "bearer"])
def test_a_registry_that_wants_to_know_who_asks(daemon: Any, guarded: Proxy, bearer: bool) -> None:
    guarded.bearer = bearer
    ours = f"{guarded.host}/library/busybox"
    right, wrong = login("ann", "secret"), login("ann", "guessed")
    assert daemon.ask("GET", f"/distribution/{ours}/json", **right)[0] == 200
    assert daemon.ask("POST", f"/images/create?fromImage={ours}&tag=latest", **right)[0] == 200
    for who in ({}, wrong):
        status, answer = daemon.ask("POST", f"/images/create?fromImage={ours}&tag=latest", **who)
        assert status in ((404, 401) if who and bearer else (404,)), answer
        assert daemon.ask("GET", f"/distribution/{ours}/json", **who)[0] == status
    body = {"username": "ann", "password": "guessed", "serveraddress": guarded.host}
    status, answer = daemon.ask("POST", "/auth", body)
    assert (status, "incorrect username or password" in answer["message"]) == (401, True)
    assert daemon.ask("POST", "/auth", body | {"password": "secret"})[0] == 200


def test_a_registry_that_is_not_there(daemon: Any) -> None:
    """500, as in Docker: no request is wrong for the network's sake."""
    for host, why in (("127.0.0.1:9", "connection refused"), ("nosuch.invalid", "no such host")):
        daemon.ask("POST", f"/images/busybox/tag?repo={host}/a&tag=1")
        body = {"username": "a", "password": "b", "serveraddress": host}
        for method, path, sent in (
            ("POST", f"/images/create?fromImage={host}/a&tag=1", None),
            ("GET", f"/distribution/{host}/a:1/json", None),
            ("GET", f"/images/search?term={host}/a", None),
            ("POST", "/auth", body),
        ):
            status, answer = daemon.ask(method, path, sent)
            assert (status, answer["message"]) == (500, f"{host}: {why}"), path
        status, answer = daemon.ask("POST", f"/images/{host}/a/push?tag=1", **login("a", "b"))
        assert (status, answer.splitlines()[-1].count(why.encode())) == (200, 2)  # it had begun


def test_the_command_says_so(docker: Any, guarded: Proxy, minidock: Cli) -> None:
    done = docker("pull", f"{guarded.host}/library/busybox", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error response from daemon: pull access denied for ")
    done = docker("login", "-u", "ann", "--password-stdin", guarded.host, input="guessed", check=False)
    assert (done.returncode, "incorrect username or password" in done.stderr) == (1, True)
