"""The API fuzzed from its own specification (schemathesis): whatever comes, no 5xx, no hang, no traceback.

A request that is random all through hardly passes the first check. So there is a good request for each
operation, on things that exist; what schemathesis makes of the specification is mixed into it. And each
operation must have answered a good one with 2xx: else nothing behind the first check was ever reached.

Some requests of each kind in `make test`, at least ten minutes of them in `make fuzz`. The specification is
found as in test_contract.py; without it these tests are skipped.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from hypothesis.errors import Unsatisfiable
from worlds import PATIENCE, REPOSITORY, Cli, wait_for

FILE = Path(
    os.environ.get("MINIDOCK_API_SPECIFICATION")
    or REPOSITORY.parent / "shared/reference/docker-engine-api-v1.44.yaml"
)
SECONDS = 630 if os.environ.get("MINIDOCK_LONG") else 0  # 0: one round
EXAMPLES = 10 if os.environ.get("MINIDOCK_LONG") else 1  # of each operation in a round, good and bad each

# What one machine does not have, and says so: 503 as Docker outside a swarm, 404 for the rest.
ABSENT_KINDS = {"Swarm", "Node", "Service", "Task", "Secret", "Config", "Plugin", "Session"}
ABSENT = {"PUT /volumes/{name}"}
# Their answers go on, or come late, when that is asked for: the first line must come, the rest is not read.
GO_ON = ("/events", "/logs", "/stats", "/attach", "/wait", "/start")
REACHED = {101, *range(200, 300)}  # 101: the connection became a WebSocket
MAY_WAIT = ("/stop", "/restart")  # as long as `t` says

TRAP = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]


@dataclass
class Ask:
    """One request."""

    names: dict[str, str] = field(default_factory=dict)  # in the path
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None  # bytes, or what becomes JSON
    headers: dict[str, str] = field(default_factory=dict)


class World:
    """A daemon that always has a running container, a stopped one, and their like, whatever happened."""

    def __init__(self, daemon: Any, archive: bytes) -> None:
        self._daemon, self.archive = daemon, archive
        self.context = tar({"Dockerfile": b"FROM busybox\nLABEL a=b\n"})
        self.execution = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self._daemon.ask(method, path, body)
        assert status < 500, f"{method} {path}: {status} {answer!r}"
        return answer

    def mend(self) -> None:
        """Make what is missing."""
        images = json.dumps(self.ask("GET", "/images/json"))
        if '"busybox:latest"' not in images:
            self.ask("POST", "/images/load", self.archive)
        for name in ("spare:1", f"{OURS}/spare:1"):
            if f'"{name}"' not in images:
                self.ask("POST", f"/images/busybox/tag?repo={name[:-2]}&tag=1")
        found = {each["Names"][0][1:]: each for each in self.ask("GET", "/containers/json?all=1")}
        if found.get("box", {}).get("State") != "running":
            self.ask("DELETE", "/containers/box?force=1&v=1")
            self.ask("POST", "/containers/create?name=box", {"Image": "busybox", "Cmd": TRAP, "Tty": True})
            self.ask("POST", "/containers/box/start")
        if found.get("still", {}).get("State") not in ("created", "exited"):
            self.ask("DELETE", "/containers/still?force=1&v=1")
            self.ask("POST", "/containers/create?name=still", {"Image": "busybox", "Cmd": ["true"]})
        for name in set(found) - {"box", "still"}:
            self.ask("DELETE", f"/containers/{name}?force=1&v=1")
        for each in self.ask("GET", "/networks"):
            if each["Name"] not in ("bridge", "host", "none", "inner"):
                self.ask("DELETE", f"/networks/{each['Id']}")
        self.ask("POST", "/networks/create", {"Name": "inner"})
        self.ask("POST", "/volumes/create", {"Name": "data"})

    def new_execution(self, **more: Any) -> str:
        asked = {"Cmd": ["true"], "AttachStdout": True, **more}
        return str(self.ask("POST", "/containers/box/exec", asked)["Id"])


def tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


Make = Callable[[World], Ask]
BOX, STILL = {"id": "box"}, {"id": "still"}
JSON_OF_SPARE = {"name": "spare:1"}


def _of(names_in_path: dict[str, str], /, **query: Any) -> Make:
    return lambda world: Ask(dict(names_in_path), query)


def _with_pause(world: World) -> Ask:
    world.ask("POST", "/containers/box/pause")
    return Ask(dict(BOX))


def _sleeping_exec(world: World) -> Ask:
    made = world.new_execution(Cmd=["sleep", "60"], Tty=True)
    world.ask("POST", f"/exec/{made}/start", {"Detach": True, "Tty": True})
    return Ask({"id": made}, {"h": 24, "w": 80})


def _connected(world: World) -> Ask:
    world.ask("POST", "/networks/inner/connect", {"Container": "box"})
    return Ask({"id": "inner"}, {}, {"Container": "box", "Force": True})


WS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
OURS = "127.0.0.1:5001"
LOGIN = {"X-Registry-Auth": "e30="}
# A request that is answered with 2xx, for every operation that is here.
GOOD: dict[str, Make] = {
    "GET /containers/json": _of({}, all=True),
    "POST /containers/create": lambda world: Ask({}, {}, {"Image": "busybox", "Cmd": ["true"]}),
    "GET /containers/{id}/json": _of(BOX),
    "GET /containers/{id}/top": _of(BOX),
    "GET /containers/{id}/logs": _of(BOX, stdout=True),
    "GET /containers/{id}/changes": _of(BOX),
    "GET /containers/{id}/export": _of(STILL),
    "GET /containers/{id}/stats": _of(BOX, stream=False),
    "POST /containers/{id}/resize": _of(BOX, h=24, w=80),
    "POST /containers/{id}/start": _of(STILL),
    "POST /containers/{id}/stop": _of(BOX),
    "POST /containers/{id}/restart": _of(BOX),
    "POST /containers/{id}/kill": _of(BOX),
    "POST /containers/{id}/update": lambda world: Ask(dict(BOX), {}, {"Memory": 1 << 26}),
    "POST /containers/{id}/rename": _of(STILL, name="renamed"),
    "POST /containers/{id}/pause": _of(BOX),
    "POST /containers/{id}/unpause": _with_pause,
    "POST /containers/{id}/attach": _of(BOX, stream=True, stdout=True),
    "GET /containers/{id}/attach/ws": lambda world: Ask(
        dict(BOX), {"stream": True, "stdout": True}, None, WS
    ),
    "POST /containers/{id}/wait": _of(STILL),
    "DELETE /containers/{id}": _of(STILL),
    "HEAD /containers/{id}/archive": _of(STILL, path="/etc"),
    "GET /containers/{id}/archive": _of(STILL, path="/etc"),
    "PUT /containers/{id}/archive": lambda world: Ask(dict(STILL), {"path": "/tmp"}, world.context),
    "POST /containers/prune": _of({}),
    "GET /images/json": _of({}),
    "POST /build": lambda world: Ask({}, {"t": "built:1"}, world.context),
    "POST /build/prune": _of({}),
    "POST /images/create": _of({}, fromImage="busybox", tag="latest"),
    "GET /images/{name}/json": _of(JSON_OF_SPARE),
    "GET /images/{name}/history": _of(JSON_OF_SPARE),
    "POST /images/{name}/push": lambda world: Ask({"name": f"{OURS}/spare"}, {"tag": "1"}, None, LOGIN),
    "POST /images/{name}/tag": _of(JSON_OF_SPARE, repo="another", tag="2"),
    "DELETE /images/{name}": _of(JSON_OF_SPARE),
    "GET /images/search": _of({}, term="127.0.0.1:5000/busy"),
    "POST /images/prune": _of({}),
    "POST /auth": lambda world: Ask({}, {}, {"username": "a", "password": "b", "serveraddress": OURS}),
    "GET /info": _of({}),
    "GET /version": _of({}),
    "GET /_ping": _of({}),
    "HEAD /_ping": _of({}),
    "POST /commit": lambda world: Ask({}, {"container": "still", "repo": "made", "tag": "1"}, {}),
    "GET /events": _of({}, since=1, until=2),
    "GET /system/df": _of({}),
    "GET /images/{name}/get": _of(JSON_OF_SPARE),
    "GET /images/get": _of({}, names="spare:1"),
    "POST /images/load": lambda world: Ask({}, {}, world.archive),
    "POST /containers/{id}/exec": lambda world: Ask(dict(BOX), {}, {"Cmd": ["true"]}),
    "POST /exec/{id}/start": lambda world: Ask({"id": world.new_execution()}, {}, {"Detach": False}),
    "POST /exec/{id}/resize": _sleeping_exec,
    "GET /exec/{id}/json": lambda world: Ask({"id": world.new_execution()}),
    "GET /volumes": _of({}),
    "POST /volumes/create": lambda world: Ask({}, {}, {"Name": "more"}),
    "GET /volumes/{name}": _of({"name": "data"}),
    "DELETE /volumes/{name}": _of({"name": "data"}),
    "POST /volumes/prune": _of({}),
    "GET /networks": _of({}),
    "GET /networks/{id}": _of({"id": "inner"}),
    "DELETE /networks/{id}": _of({"id": "inner"}),
    "POST /networks/create": lambda world: Ask({}, {}, {"Name": "outer"}),
    "POST /networks/{id}/connect": lambda world: Ask({"id": "inner"}, {}, {"Container": "box"}),
    "POST /networks/{id}/disconnect": _connected,
    "POST /networks/prune": _of({}),
    "GET /distribution/{name}/json": _of({"name": "busybox:latest"}),
}


@some.composite
def mixed(draw: some.DrawFn, case: Any, good: Ask) -> Ask:
    """*good* with some of *case* in it."""
    if not draw(some.integers(0, 7)):  # all of it, now and then
        return at_home(Ask(dict(case.path_parameters or {}), dict(case.query or {}), _body_of(case, None)))
    made = Ask(dict(good.names), dict(good.query), good.body, {**good.headers})
    for key, value in dict(case.query or {}).items():
        if draw(some.booleans()):
            made.query[key] = value
    for key in draw(some.sets(some.sampled_from(sorted(made.query)), max_size=1)) if made.query else ():
        del made.query[key]
    made.body = _blended(draw, made.body, _body_of(case, good.body))
    made.headers.update(
        {key: value for key, value in dict(case.headers or {}).items() if draw(some.booleans())}
    )
    return at_home(made)


def at_home(ask: Ask) -> Ask:
    """*ask* with our registry for those that do not exist: nobody is there, a 500 as in Docker, is no bug.

    What of it is a bug, test_registries.py looks for.
    """
    for place, key in ((ask.names, "name"), (ask.query, "fromImage"), (ask.query, "term")):
        host, slash, rest = unquote(str(place.get(key, ""))).partition("/")
        if slash and re.search("[.:A-Z]|^localhost$", host):
            place[key] = f"{OURS}/{rest}"
    if isinstance(ask.body, dict) and ("serveraddress" in ask.body or "username" in ask.body):
        server = ask.body.get("serveraddress", "")
        if isinstance(server, str):
            host = (server.partition("://")[2] or server).partition("/")[0]
            if re.fullmatch(r"[\w.:\[\]-]*", host, re.ASCII):  # else it is refused before anybody is asked
                ask.body["serveraddress"] = OURS
    return ask


def _body_of(case: Any, default: Any) -> Any:
    body = case.body
    return default if type(body).__name__ == "NotSet" else body


def _blended(draw: some.DrawFn, ours: Any, theirs: Any) -> Any:
    if isinstance(ours, bytes):
        if draw(some.booleans()):
            return ours
        at = draw(some.integers(0, len(ours)))
        return ours[:at] + draw(some.binary(max_size=20)) + ours[at + draw(some.integers(0, 600)) :]
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return ours if draw(some.booleans()) else theirs
    made = dict(ours)
    for key, value in theirs.items():
        if draw(some.integers(0, 2)) == 0:
            made[key] = _blended(draw, made[key], value) if isinstance(made.get(key), dict) else value
    return made


class Sender:
    """Sends requests, and keeps what came back."""

    def __init__(self, address: str) -> None:
        import requests

        self._session = requests.Session()
        self._session.trust_env = False
        self._address = address
        self.seen: dict[str, Counter[int]] = {}

    def __call__(self, label: str, ask: Ask) -> tuple[int, bytes]:
        import requests

        method, _, template = label.partition(" ")
        path = template
        for name, value in ask.names.items():
            path = path.replace(f"{{{name}}}", quote(value, safe="/:%"))
        body = ask.body
        headers = {"Content-Type": "application/json", **ask.headers}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/x-tar"
        elif body is not None:
            body = json.dumps(body, default=str).encode()
        patience = (3 if template.endswith(MAY_WAIT) else 60) * PATIENCE
        try:
            with self._session.request(
                method,
                f"{self._address}/v1.44{path}",
                params={key: _text(value) for key, value in ask.query.items()},
                data=body,
                headers={key: _text(value).encode("latin-1", "replace") for key, value in headers.items()},
                stream=True,
                timeout=patience,
            ) as response:
                status = response.status_code
                if status == 101:
                    self._session.close()  # else the next request would go there
                text = b"" if status == 200 and template.endswith(GO_ON) else response.content
        except requests.Timeout:
            assert template.endswith(MAY_WAIT), f"no answer in {patience} s: {label} {ask}"
            return 0, b""
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL):
            return 0, b""  # this client would not send it
        self.seen.setdefault(label, Counter())[status] += 1
        return status, text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, default=str)


@pytest.fixture
def operations() -> dict[str, Any]:
    """By label (``GET /info``): those of the specification that are here."""
    if not FILE.exists():
        pytest.skip(f"the specification of the API is not here ({FILE}): nothing was fuzzed from it")
    schemathesis = pytest.importorskip("schemathesis")
    yaml = pytest.importorskip("yaml")
    text = FILE.read_text().replace(
        "application/x-tar", "application/octet-stream"
    )  # schemathesis knows that
    read = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    found = [each.ok() for each in schemathesis.openapi.from_dict(read).get_all_operations()]
    return {
        each.label: each
        for each in found
        if not set(each.tags or ()) & ABSENT_KINDS and each.label not in ABSENT
    }


@pytest.fixture
def sender(daemon: Any, registry: str, writable_registry: str) -> Iterator[Sender]:
    daemon.end()
    daemon.start("--host", "tcp://127.0.0.1:2375")
    yield Sender("http://127.0.0.1:2375")


def test_every_operation(
    operations: dict[str, Any], sender: Sender, daemon: Any, minidock: Cli, tmp_path: Path, capsys: Any
) -> None:
    from schemathesis import GenerationMode

    assert set(operations) == set(GOOD)
    archive = tmp_path / "busybox.tar"
    minidock("save", "-o", archive, "busybox")
    world = World(daemon, archive.read_bytes())
    world.mend()
    for label, make in GOOD.items():
        status, answer = sender(label, make(world))
        assert status in REACHED, f"{label}: {status} {answer[:300]!r}"
        world.mend()
    threads, memory = daemon.threads(), daemon.memory()

    end, rounds, wrong = time.monotonic() + SECONDS, 0, list[str]()
    while not rounds or time.monotonic() < end:
        for label, operation in operations.items():
            if rounds and time.monotonic() > end:
                break
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                wrong += _round(label, operation.as_strategy(generation_mode=mode), world, sender, daemon)
        rounds += 1

    with capsys.disabled():
        total = sum((each for each in sender.seen.values()), Counter())
        reached = sum(not REACHED.isdisjoint(each) for each in sender.seen.values())
        print(
            f"\n{total.total()} requests in {rounds} rounds, by status {dict(sorted(total.items()))}; "
            f"2xx of {reached} of {len(operations)} operations; "
            f"memory of the daemon {memory >> 20} → {daemon.memory() >> 20} MiB"
        )
    assert not wrong, "\n".join(wrong)
    world.ask("DELETE", "/containers/box?force=1")  # and with it those who watch it: TCP hides that they left
    wait_for(lambda: daemon.threads() <= threads + 2, seconds=30, what="the threads of requests to end")


def _round(label: str, strategy: Any, world: World, sender: Sender, daemon: Any) -> list[str]:
    """Some random requests of one operation; what was wrong with the answers."""
    wrong = []

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        derandomize=not SECONDS,
        suppress_health_check=list(HealthCheck),
    )
    @given(some.data())
    def one(data: some.DataObject) -> None:
        case = data.draw(strategy)
        if not label.startswith(("GET", "HEAD")):
            world.mend()
        ask = data.draw(mixed(case, GOOD[label](world)))
        said = len(daemon.log.read_bytes())
        status, answer = sender(label, ask)
        bug = daemon.log.read_bytes()[said:].decode(errors="replace")
        if status >= 500 or "Traceback" in bug:
            wrong.append(f"{label} {ask}: {status} {answer[:300]!r} {bug[-1000:]}")

    with contextlib.suppress(Unsatisfiable):  # of an operation without parameters nothing can be wrong
        one()
    world.mend()
    return wrong
