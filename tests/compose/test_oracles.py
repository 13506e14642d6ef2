"""The same files, read by others: the specification's schema, docker compose, docker stack."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from worlds import PATIENCE, REPOSITORY, compose_v2

from minidock.compose import checks, reading, rules
from minidock.compose.reading import ComposeError, Place
from minidock.compose.rules import Anything, Each, Keys, Names, Or

Write = Callable[..., Path]
Compose = Callable[..., Any]
SCHEMA = REPOSITORY.parent / "shared/reference/compose-spec.schema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    if not SCHEMA.exists():
        pytest.skip("the specification's compose-spec.schema.json is not on this machine")
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    return found


def keys_of_schema(schema: dict[str, Any], part: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Every way of keys that the schema names: ``services.*.build.context``."""
    if depth > 14:
        return
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        definitions = schema.get("$defs") or schema["definitions"]
        yield from keys_of_schema(schema, definitions[name], path, depth + 1)
    for each in (*part.get("oneOf", ()), *part.get("anyOf", ())):
        yield from keys_of_schema(schema, each, path, depth + 1)
    if isinstance(part.get("items"), dict):
        yield from keys_of_schema(schema, part["items"], path, depth + 1)
    for key, below in part.get("properties", {}).items():
        yield f"{path}.{key}"
        yield from keys_of_schema(schema, below, f"{path}.{key}", depth + 1)
    for pattern, below in part.get("patternProperties", {}).items():
        if not pattern.startswith("^x-"):
            yield from keys_of_schema(schema, below, f"{path}.*", depth + 1)


def keys_of_rules(rule: Any, path: str = "") -> Iterator[str]:
    if isinstance(rule, Or):
        for each in rule.rules:
            yield from keys_of_rules(each, path)
    elif isinstance(rule, Each):
        yield from keys_of_rules(rule.item, path)
    elif isinstance(rule, Names):
        yield from keys_of_rules(rule.value, f"{path}.*")
    elif isinstance(rule, Keys):
        for key, below in rule.keys.items():
            yield f"{path}.{key}"
            yield from keys_of_rules(below, f"{path}.{key}")


def unread(rule: Any, path: str = "") -> Iterator[str]:
    """Where the rules take anything: minidock refuses those parts, or has no use for them."""
    if isinstance(rule, Anything):
        yield path
    elif isinstance(rule, Or):
        for each in rule.rules:
            yield from unread(each, path)
    elif isinstance(rule, Each):
        yield from unread(rule.item, path)
    elif isinstance(rule, Names):
        yield from unread(rule.value, f"{path}.*")
    elif isinstance(rule, Keys):
        for key, below in rule.keys.items():
            yield from unread(below, f"{path}.{key}")


def test_our_keys_are_those_of_the_schema(schema: dict[str, Any]) -> None:
    skipped = tuple(f"{path}." for path in unread(rules.FILE))
    theirs = {key for key in keys_of_schema(schema, schema) if not key.startswith(skipped)}
    ours = set(keys_of_rules(rules.FILE))
    assert ours - theirs == set()
    assert theirs - ours == set()


SAMPLES = [
    "services: {a: {image: x}}",
    "services: {a: {image: 5}}",
    "services: {a: {image: x, ports: [80, '80:80', {target: 80}]}}",
    "services: {a: {image: x, ports: {a: 1}}}",
    "services: {a: {image: x, ports: [true]}}",
    "services: {a: {image: x, environment: {A: 1, B: true, C: null}}}",
    "services: {a: {image: x, environment: [A=1, A=1]}}",
    "services: {a: {image: x, environment: {A: [1]}}}",
    "services: {a: {image: x, command: null, entrypoint: [a]}}",
    "services: {a: {image: x, command: 5}}",
    "services: {a: {image: x, privileged: 'true', tty: 1}}",
    "services: {a: {image: x, privileged: 'true', tty: false}}",
    "services: {a: {image: x, user: 5}}",
    "services: {a: {image: x, depends_on: [b, b]}}",
    "services: {a: {image: x, depends_on: {b: {condition: no}}}}",
    "services: {a: {image: x, depends_on: {b: {required: true}}}}",
    "services: {a: {image: x, depends_on: {b: {condition: service_healthy}}}}",
    "services: {a: {image: x, healthcheck: {test: [CMD, a], retries: 3, interval: 5s}}}",
    "services: {a: {image: x, healthcheck: {interval: 5}}}",
    "services: {a: {image: x, ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}}}",
    "services: {a: {image: x, ulimits: {nofile: {soft: 1}}}}",
    "services: {a: {image: x, volumes: ['a:/b', {type: bind, source: /a, target: /b}]}}",
    "services: {a: {image: x, volumes: [{source: a, target: /b}]}}",
    "services: {a: {image: x, volumes: [{type: mistake, target: /b}]}}",
    "services: {a: {image: x, networks: {n: null, m: {aliases: [x]}}}}",
    "services: {a: {image: x, networks: {n: {alias: [x]}}}}",
    "services: {a: {image: x, deploy: {replicas: 2, resources: {limits: {cpus: 0.5, memory: 5m}}}}}",
    "services: {a: {image: x, deploy: {resources: {limits: {memory: 5}}}}}",
    "services: {a: {image: x, build: {context: ., args: [A=1]}}}",
    "services: {a: {image: x, build: {contxt: .}}}",
    "services: {a: {image: x, extends: {file: a}}}",
    "services: {a: {image: x, env_file: [a, {path: b, required: false}]}}",
    "services: {a: {image: x, env_file: [{required: false}]}}",
    "services: {a: {image: x, x-mine: 1}, x!: {image: x}}",
    "services: {a: {image: x, container_name: '-a'}}",
    "services: {a: {image: x, pull_policy: sometimes}}",
    "services: {a: {image: x, mem_limit: 5m, cpus: '0.5', scale: 2}}",
    "services: {a: {image: x, scale: 1.5}}",
    "services: {a: {image: x, secrets: [a, {source: b, mode: 0400}]}}",
    "services: {a: {image: x, logging: {options: {a: 1, b: null}}}}",
    "volumes: {a: null, b: {external: true}, c: {driver_opts: {a: 1}}}",
    "volumes: {a: {driver: 5}}",
    "networks: {a: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}",
    "networks: {a: {ipam: {config: {subnet: x}}}}",
    "configs: {a: {content: x}}\nsecrets: {b: {file: x}}",
    "configs: {a: {contents: x}}",
    "include: [a, {path: [b], env_file: c}]",
    "include: {path: b}",
    "x-a: 1\nname: b\nversion: '3'",
    "versions: '3'",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_we_take_what_the_schema_takes(schema: dict[str, Any], text: str) -> None:
    value = reading.parse(text, "f")
    theirs = jsonschema.Draft202012Validator(schema).is_valid(reading.plain(value))
    try:
        checks.check(value, rules.FILE, "", Place("f", 1))
        ours = True
    except ComposeError:
        ours = False
    assert ours == theirs


# --- the real ones -------------------------------------------------------------------------------

PROJECT = """
name: demo
services:
  web:
    image: "httpd:${TAG:-2}"
    command: sh -c "echo $$HOME"
    environment: [A=1, "B=${TAG-none}"]
    ports: ["8080:80", "9000-9001:90-91/udp", "127.0.0.1:7000:70"]
    mem_reservation: 16m
    pull_policy: missing
    volumes: ["data:/data:ro", "./site:/www", /anon]
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M}}}
    networks: [front, back]
    configs: [{source: conf, target: /etc/conf}]
    labels: {a.b: "c"}
  db:
    image: busybox
    healthcheck: {test: "exit 0", interval: 1m30s, retries: 3}
    networks: {back: {aliases: [store]}}
    tmpfs: /run
    extra_hosts: ["one:10.0.0.1"]
    ulimits: {nofile: {soft: 10, hard: 20}}
    stop_grace_period: 5s
  off: {image: busybox, profiles: [never]}
networks: {front: {}, back: {driver: bridge, internal: true}}
volumes: {data: }
configs: {conf: {file: ./conf}}
"""


def ask(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60 * PATIENCE)


def settled(value: Any) -> Any:
    """What both mean alike, alike: numbers that one writes as text, sizes, empty parts, order of mounts."""
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [settled(item) for item in value]
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return {"64M": str(64 << 20), "16m": str(16 << 20)}.get(text, text)


@pytest.mark.peer
def test_docker_compose_reads_the_same(compose: Compose, write: Write) -> None:
    plugin = compose_v2()
    if plugin is None:
        pytest.skip("no docker compose plugin on this machine (COMPOSE_V2 may name one)")
    directory = write(PROJECT).parent
    done = ask([*plugin, "config"], directory)
    assert done.returncode == 0, done.stderr
    ours = yaml.safe_load(compose("config").stdout)
    assert settled(ours) == settled(yaml.safe_load(done.stdout))


@pytest.mark.peer
def test_docker_compose_reads_what_we_print(compose: Compose, write: Write) -> None:
    plugin = compose_v2()
    if plugin is None:
        pytest.skip("no docker compose plugin on this machine (COMPOSE_V2 may name one)")
    directory = write(PROJECT).parent
    before = compose("config").stdout
    write(before, "printed.yaml")
    done = ask([*plugin, "-f", "printed.yaml", "config"], directory)
    assert done.returncode == 0, done.stderr
    assert settled(yaml.safe_load(done.stdout)) == settled(yaml.safe_load(before))


@pytest.mark.peer
def test_docker_stack_reads_what_we_print(compose: Compose, write: Write) -> None:
    docker = shutil.which("docker")
    if docker is None or ask([docker, "stack", "config", "--help"], Path("/")).returncode != 0:
        pytest.skip("no docker command with `stack config` on this machine")
    directory = write(PROJECT).parent
    compose("config", "--stack", "-o", "stack.yaml")
    done = ask([docker, "stack", "config", "-c", "stack.yaml"], directory)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"web", "db"}
