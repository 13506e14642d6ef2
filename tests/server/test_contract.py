"""Every answer has the shape that Docker's own specification of the API says.

The specification is Docker's file (Apache-2.0), which is not part of this repository: the project keeps it
in a folder beside it, or MINIDOCK_API_SPECIFICATION names it. Without it these tests are skipped.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from worlds import REPOSITORY

FILE = Path(
    os.environ.get("MINIDOCK_API_SPECIFICATION")
    or REPOSITORY.parent / "shared/reference/docker-engine-api-v1.44.yaml"
)
# Docker's daemon sends null for these, too, when nobody asked; its specification does not know.
NULL = {"MemorySwappiness"}


@pytest.fixture(scope="module")
def specification() -> Any:
    if not FILE.exists():
        pytest.skip(f"the specification of the API is not here ({FILE}): no answer was checked against it")
    yaml = pytest.importorskip("yaml")
    return yaml.load(FILE.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def as_json_schema(node: Any) -> Any:
    """Swagger 2.0 → JSON schema: x-nullable, and null where Docker's Go sends it for an empty value."""
    if isinstance(node, list):
        return [as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: as_json_schema(value) for key, value in node.items() if key not in ("example", "examples")}
    if isinstance(made.get("format"), str):
        del made["format"]
    for name in NULL & set(made.get("properties", ())):
        made["properties"][name] = {"anyOf": [made["properties"][name], {"type": "null"}]}
    if made.get("type") in ("array", "object") or node.get("x-nullable"):
        made = {"anyOf": [made, {"type": "null"}]}
    return made


class Contract:
    """Asks the daemon, and holds its answers against the specification."""

    def __init__(self, daemon: Any, specification: Any) -> None:
        import jsonschema

        self._daemon, self._paths = daemon, specification["paths"]
        self._definitions = as_json_schema(specification["definitions"])
        self._validator = jsonschema.Draft4Validator
        self.asked: set[str] = set()

    def __call__(self, method: str, path: str, body: Any = None, *, expect: int = 200, **names: str) -> Any:
        template, _, query = path.partition("?")
        where = re.sub(r"\{(\w+)\}", lambda found: quote(names[found[1]], safe="/:"), template)
        status, answer = self._daemon.ask(method, f"/v1.44{where}" + (f"?{query}" if query else ""), body)
        assert status == expect, f"{method} {path}: {status} {answer!r}"
        operation = self._paths[template][method.lower()]
        described = operation["responses"].get(status) or operation["responses"].get(str(status))
        assert described, f"{method} {path}: the specification knows no {status}"
        if described.get("schema") and isinstance(answer, dict | list):
            schema = {"definitions": self._definitions, **as_json_schema(described["schema"])}
            wrong = sorted(self._validator(schema).iter_errors(answer), key=lambda each: len(each.path))
            assert not wrong, [f"{list(each.absolute_path)}: {each.message[:200]}" for each in wrong[:5]]
        self.asked.add(f"{method} {template}")
        return answer

    def plainly(self, method: str, path: str, body: Any) -> int:
        """The status alone."""
        status: int = self._daemon.ask(method, path, body)[0]
        return status


@pytest.fixture
def ask(daemon: Any, specification: Any) -> Iterator[Contract]:
    yield Contract(daemon, specification)


def test_the_whole(ask: Contract) -> None:
    ask("GET", "/_ping")
    ask("GET", "/version")
    ask("GET", "/info")
    ask("GET", "/system/df")


def test_containers(ask: Contract) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Labels": {"a": "b"},
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8099"}]}, "Memory": 64 << 20},
    }
    made = ask("POST", "/containers/create?name=box", body, expect=201)["Id"]
    ask("GET", "/containers/{id}/json", id=made)
    ask("POST", "/containers/{id}/start", id=made, expect=204)
    assert ask("POST", "/containers/{id}/start", id=made, expect=304) in (b"", None)
    ask("GET", "/containers/{id}/json?size=1", id=made)
    ask("GET", "/containers/json?all=1&size=1")
    ask("GET", "/containers/{id}/top", id=made)
    ask("GET", "/containers/{id}/stats?stream=0", id=made)
    ask("GET", "/containers/{id}/changes", id=made)
    ask("POST", "/containers/{id}/update", {"CpuShares": 512}, id=made)
    run = ask("POST", "/containers/{id}/exec", {"Cmd": ["true"]}, id=made, expect=201)["Id"]
    ask("POST", "/exec/{id}/start", {}, id=run)
    ask("GET", "/exec/{id}/json", id=run)
    ask("POST", "/containers/{id}/pause", id=made, expect=204)
    ask("POST", "/containers/{id}/unpause", id=made, expect=204)
    ask("POST", "/containers/{id}/restart?t=0", id=made, expect=204)
    ask("POST", "/containers/{id}/rename?name=other", id=made, expect=204)
    ask("POST", "/containers/{id}/kill", id=made, expect=204)
    ask("POST", "/containers/{id}/kill", id=made, expect=409)
    ask("POST", "/containers/{id}/stop", id=made, expect=304)
    assert ask("POST", "/containers/{id}/wait", id=made)["StatusCode"] == 137
    image = ask("POST", "/commit?container=other&repo=made&tag=1", {}, expect=201)["Id"]
    ask("GET", "/images/{name}/json", name=image)
    ask("DELETE", "/containers/{id}?v=1", id=made, expect=204)
    ask("GET", "/containers/{id}/json", id=made, expect=404)
    ask("POST", "/containers/prune")


def test_images(ask: Contract) -> None:
    ask("GET", "/images/json")
    ask("GET", "/images/{name}/json", name="busybox")
    ask("GET", "/images/{name}/history", name="busybox")
    ask("POST", "/images/{name}/tag?repo=two&tag=2", name="busybox", expect=201)
    ask("DELETE", "/images/{name}", name="two:2")
    ask("GET", "/images/{name}/json", name="two:2", expect=404)
    ask("POST", "/images/prune")
    ask("POST", "/build/prune")


def test_networks_and_volumes(ask: Contract) -> None:
    ask("GET", "/networks")
    made = ask("POST", "/networks/create", {"Name": "inner", "Labels": {"a": "b"}}, expect=201)["Id"]
    ask("GET", "/networks/{id}", id=made)
    assert (
        ask.plainly("POST", "/networks/create", {"Name": "inner"}) == 409
    )  # known to Docker, not to the file
    ask("DELETE", "/networks/{id}", id=made, expect=204)
    ask("POST", "/networks/prune")
    ask("POST", "/volumes/create", {"Name": "data"}, expect=201)
    ask("GET", "/volumes")
    ask("GET", "/volumes/{name}", name="data")
    ask("DELETE", "/volumes/{name}", name="data", expect=204)
    ask("POST", "/volumes/prune")


def test_events_have_the_shape(daemon: Any, specification: Any) -> None:
    import jsonschema

    daemon.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": ["true"]})
    status, answer = daemon.ask("GET", f"/events?since=1&until={int(time.time()) + 1}")
    assert (status, answer["Action"]) == (200, "create")
    lines = [answer]
    schema = {
        "definitions": as_json_schema(specification["definitions"]),
        "$ref": "#/definitions/EventMessage",
    }
    for line in lines:
        jsonschema.Draft4Validator(schema).validate(line)
