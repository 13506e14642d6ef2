"""What compose files mean: variables, merging, extending, including, profiles; and mistakes in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock.compose import dotenv, interpolation, reading
from minidock.compose.interpolation import Variables
from minidock.compose.reading import ComposeError

Write = Callable[..., Path]
Compose = Callable[..., Any]


def config(compose: Compose, *words: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(compose(*words, "config", "--format", "json", **more).stdout)
    return found


# --- variables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$A", "one"),
        ("${A}x", "onex"),
        ("$$A $${A}", "$A ${A}"),
        ("${A-two}", "one"),
        ("${E-two}", ""),
        ("${E:-two}", "two"),
        ("${N-two}", "two"),
        ("${N:-two}", "two"),
        ("${A+two}", "two"),
        ("${E+two}", "two"),
        ("${E:+two}", ""),
        ("${N+two}", ""),
        ("${A:?why}", "one"),
        ("${E?why}", ""),
        ("${N:-${M:-${A}}}", "one"),
        ("${N:-a:-b}", "a:-b"),
        ("${N:-{}}", "{}"),
        ("${N:-http://x?y=1}", "http://x?y=1"),
        ("$N-$M", "-"),
    ],
)
def test_modifiers(template: str, expected: str) -> None:
    assert interpolation.text(template, Variables({"A": "one", "E": ""})) == expected


@pytest.mark.parametrize("template", ["${", "${}", "${A", "$", "a $ b", "${1}", "${A!b}"])
def test_malformed_variables(template: str) -> None:
    with pytest.raises(ComposeError, match="malformed"):
        interpolation.text(template, Variables({"A": "1"}))


@pytest.mark.parametrize(("template", "why"), [("${N?gone}", "gone"), ("${E:?}", "is empty or not set")])
def test_required_variables(template: str, why: str) -> None:
    with pytest.raises(ComposeError, match=why):
        interpolation.text(template, Variables({"E": ""}))


def test_dotenv() -> None:
    text = """
# comment
A=1
export B = two words  # said here
C='$A ${A}'
D="$A\\n${B}"
E="a
b"
F: yes
G
H=a#b
I=
"""
    assert dotenv.parse(text, ".env", {"G": "g", "X": "x"}) == {
        "A": "1",
        "B": "two words",
        "C": "$A ${A}",
        "D": "1\ntwo words",
        "E": "a\nb",
        "F": "yes",
        "G": "g",
        "H": "a#b",
        "I": "",
    }
    with pytest.raises(ComposeError, match=r"\.env:2: the quote of A"):
        dotenv.parse('\nA="open', ".env", {})


def test_scalars_are_those_of_yaml_1_2() -> None:
    value = reading.parse("a: yes\nb: true\nc: 22:30\nd: 0644\ne: 0o17\nf: 1.5\ng: ~\nh: 2026-01-01", "f")
    assert value == {
        "a": "yes",
        "b": True,
        "c": "22:30",
        "d": 0o644,
        "e": 15,
        "f": 1.5,
        "g": None,
        "h": "2026-01-01",
    }


def test_aliases_cannot_take_all_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ComposeError, match="more than"):
        reading.parse("\n".join(lines), "f")


def test_env_file_and_dot_env(compose: Compose, write: Write) -> None:
    write("TAG=from-file\nPORT=9000", ".env")
    write("A=1\nB=$A$TAG\nC=file", "web.env")
    write(
        """
        services:
          web:
            image: "busybox:${TAG}"
            env_file: [web.env, {path: missing.env, required: false}]
            environment: [C=own, SHELLED, UNKNOWN]
            ports: ["${PORT}:80"]
        """
    )
    web = config(compose, env={"SHELLED": "s"})["services"]["web"]
    assert web["image"] == "busybox:from-file"
    assert web["environment"] == {
        "A": "1",
        "B": "1from-file",
        "C": "own",
        "SHELLED": "s",
        "UNKNOWN": None,
    }
    assert web["ports"] == [{"mode": "ingress", "protocol": "tcp", "published": 9000, "target": 80}]
    assert config(compose, env={"TAG": "shell"})["services"]["web"]["image"] == "busybox:shell"


def test_a_missing_variable_is_told_once(compose: Compose, write: Write) -> None:
    write('services: {web: {image: "busybox${TAG}", hostname: "h${TAG}"}}')
    assert compose("config", "-q").stderr.count('"TAG" is not set') == 1


# --- several files -------------------------------------------------------------------------------

BASE = """
services:
  web:
    image: busybox
    command: [a, b]
    environment: {A: "1", B: "2"}
    ports: ["8080:80", "9090:90"]
    volumes: ["data:/data", "./a:/a"]
    dns: 1.1.1.1
    cap_add: [NET_ADMIN]
    labels: [x=1]
    healthcheck: {test: "true", interval: 1s}
    logging: {driver: json-file, options: {max-size: 1m}}
    depends_on: [db]
  db: {image: busybox}
volumes: {data: }
"""


def test_merging(compose: Compose, write: Write) -> None:
    write(BASE)
    write(
        """
        services:
          web:
            command: c d
            environment: [B=3, C=4]
            ports: ["8080:80", "7070:70"]
            volumes: ["./b:/data"]
            dns: [8.8.8.8]
            cap_add: [SYS_TIME, NET_ADMIN]
            labels: {y: 2}
            healthcheck: {retries: 3}
            logging: {options: {max-file: "2"}}
            depends_on: {cache: {condition: service_started}}
          cache: {image: busybox}
        """,
        "more.yaml",
    )
    web = config(compose, "-f", "compose.yaml", "-f", "more.yaml")["services"]["web"]
    assert web["command"] == ["c", "d"]
    assert web["environment"] == {"A": "1", "B": "3", "C": "4"}
    assert [each["published"] for each in web["ports"]] == [8080, 9090, 7070]
    assert [(each["type"], each["target"]) for each in web["volumes"]] == [("bind", "/data"), ("bind", "/a")]
    assert web["dns"] == ["1.1.1.1", "8.8.8.8"]
    assert web["cap_add"] == ["NET_ADMIN", "SYS_TIME"]
    assert web["labels"] == {"x": "1", "y": "2"}
    assert web["healthcheck"] == {"interval": "1s", "retries": 3, "test": ["CMD-SHELL", "true"]}
    assert web["logging"]["options"] == {"max-size": "1m", "max-file": "2"}
    assert sorted(web["depends_on"]) == ["cache", "db"]


def test_reset_and_override(compose: Compose, write: Write) -> None:
    write(BASE)
    write(
        """
        services:
          web:
            ports: !override ["1:1"]
            environment: {A: !reset null}
            healthcheck: !reset
            dns: !reset []
        """,
        "compose.override.yaml",
    )
    web = config(compose)["services"]["web"]
    assert [each["target"] for each in web["ports"]] == [1]
    assert web["environment"] == {"B": "2"}
    assert "healthcheck" not in web and "dns" not in web


def test_anchors_and_extensions(compose: Compose, write: Write) -> None:
    write(
        """
        x-base: &base {image: busybox, environment: &env {A: "1"}}
        services:
          web: {<<: *base, environment: {<<: *env, B: "2"}, x-note: 5}
        """
    )
    web = config(compose)["services"]["web"]
    assert web["environment"] == {"A": "1", "B": "2"} and web["image"] == "busybox" and web["x-note"] == 5


def test_extends(compose: Compose, write: Write) -> None:
    write(
        """
        services:
          base: {image: busybox, environment: {A: "1"}, volumes: ["./here:/x"], env_file: b.env}
          mid: {extends: base, environment: {B: "2"}}
        """,
        "common/base.yaml",
    )
    write("FROM_FILE=1", "common/b.env")
    write(
        """
        services:
          web:
            extends: {file: common/base.yaml, service: mid}
            environment: {A: "9"}
          again: {extends: web, command: top}
        """
    )
    services = config(compose)["services"]
    assert services["web"]["environment"] == {"FROM_FILE": "1", "A": "9", "B": "2"}
    assert services["web"]["volumes"][0]["source"].endswith("/shop/common/here")
    assert services["again"]["command"] == ["top"] and services["again"]["environment"]["B"] == "2"


def test_include(compose: Compose, write: Write) -> None:
    write("TAG=inside", "db/.env")
    write(
        "services: {db: {image: 'busybox:${TAG}', volumes: ['./d:/d', 'data:/e']}}\nvolumes: {data: }",
        "db/compose.yaml",
    )
    write("include: [db/compose.yaml]\nservices: {web: {image: busybox, depends_on: [db]}}")
    model = config(compose)
    assert model["services"]["db"]["image"] == "busybox:inside"
    assert model["services"]["db"]["volumes"][0]["source"].endswith("/shop/db/d")
    assert model["volumes"] == {"data": {"name": "shop_data"}}


def test_profiles(compose: Compose, write: Write) -> None:
    write(
        """
        services:
          web: {image: busybox}
          debug: {image: busybox, profiles: [dev]}
        """
    )

    def services(*words: str, **more: Any) -> list[str]:
        return compose(*words, "config", "--services", **more).stdout.split()

    assert services() == ["web"]
    assert services("--profile", "dev") == ["web", "debug"]
    assert services("--profile", "*") == ["web", "debug"]
    assert services(env={"COMPOSE_PROFILES": "dev"}) == ["web", "debug"]
    assert compose("config", "debug", "--services").stdout.split() == ["debug"]


@pytest.mark.parametrize(
    ("words", "text", "env", "name"),
    [
        ([], "", {}, "shop"),
        ([], "name: filed", {}, "filed"),
        ([], "name: filed", {"COMPOSE_PROJECT_NAME": "env"}, "env"),
        (["-p", "flag"], "name: filed", {"COMPOSE_PROJECT_NAME": "env"}, "flag"),
        ([], "name: '${WHO:-me}'", {}, "me"),
    ],
)
def test_project_names(
    compose: Compose, write: Write, words: list[str], text: str, env: dict[str, str], name: str
) -> None:
    write(f"{text}\nservices: {{web: {{image: busybox, hostname: $COMPOSE_PROJECT_NAME}}}}")
    model = config(compose, *words, env=env)
    assert (model["name"], model["services"]["web"]["hostname"]) == (name, name)


def test_files_by_variable_and_from_below(compose: Compose, write: Write, tmp_path: Path) -> None:
    write("services: {a: {image: busybox}}")
    write("services: {b: {image: busybox}}", "more.yaml")
    assert compose("config", "--services", env={"COMPOSE_FILE": "compose.yaml:more.yaml"}).stdout == "a\nb\n"
    below = tmp_path / "shop/deep/down"
    below.mkdir(parents=True)
    # What compose prints can be read again, from standard input too.
    printed = compose("config").stdout
    assert compose("-f", "-", "config", input=printed).stdout == printed


# --- mistakes ------------------------------------------------------------------------------------

WEB = "services:\n  web:\n    image: x\n    "


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        ("services:\n  web:\n    imgae: x", 'compose.yaml:3: unknown key "imgae" in services.web', '"image"'),
        ("servcies: {}", 'compose.yaml:1: unknown key "servcies" in the file', '"services"'),
        (
            "services:\n  web: {image: x, privileged: [1]}",
            "compose.yaml:2: services.web.privileged must be",
            "",
        ),
        (
            WEB + "user: 5",
            "compose.yaml:4: services.web.user must be a text",
            '"5"',
        ),
        (
            WEB + "image: y",
            'compose.yaml:4: the key "image" stands here twice',
            "",
        ),
        ("services:\n  web: [\n", "compose.yaml:3: not valid YAML", ""),
        (WEB + "ports: ['a:b']", "compose.yaml:4: ports: 'a:b' is not", ""),
        (
            WEB + "networks: [bak]\nnetworks: {back: }",
            "compose.yaml:4: ",
            '"back"',
        ),
        (
            WEB + "volumes: ['d:/d']",
            'there is no volume "d"',
            "Define it under",
        ),
        ("services:\n  web:\n    hostname: x", "neither an image nor a build", ""),
        ("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}", "a → b → a", ""),
        (
            "services:\n  a: {image: x, depends_on: {b: {condition: healthy}}}",
            "must be one of",
            "service_healthy",
        ),
        ("services:\n  web:\n    image: '${X:?give X}'", "compose.yaml:3: services.web.image: required", ""),
        ("services:\n  web:\n    extends: {service: no}", 'there is no service "no"', ""),
        ("services:\n  a: {extends: b}\n  b: {extends: a}", "extends goes round in a circle", ""),
        ("include: [no.yaml]", "no such file", ""),
        (
            WEB + "env_file: no.env",
            "compose.yaml:4: services.web.env_file: no",
            "",
        ),
        ("", "the file is empty", ""),
        ("- a", "must be a mapping, not a list", ""),
        ("services:\n  web: {image: x, restart: !wrong no}", "unknown tag !wrong", "!reset"),
        ("name: Shop!\nservices: {a: {image: x}}", "invalid project name", "Lower case"),
    ],
)
def test_mistakes(compose: Compose, write: Write, text: str, expected: str, hint: str) -> None:
    write(text)
    failed = compose("config", check=False)
    assert failed.returncode == 1
    assert expected in failed.stderr and hint in failed.stderr
    assert "Traceback" not in failed.stderr and "internal" not in failed.stderr
    assert len(failed.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "service",
    [
        "gpus: all",
        "blkio_config: {weight: 300}",
        "cgroup_parent: x",
        "build: {context: ., additional_contexts: {a: .}}",
        "networks: {default: {interface_name: eth7}}",
        "runtime: other",
        "deploy: {mode: global}",
        "volumes: [{type: npipe, source: a, target: /b}]",
        "post_start: [{command: x}]",
    ],
)
def test_what_is_not_supported_is_refused_by_name(compose: Compose, write: Write, service: str) -> None:
    write(f"services:\n  web:\n    image: busybox\n    {service}")
    compose("config", "-q")  # the file is right, only not for us
    failed = compose("up", "-d", check=False)
    assert failed.returncode == 1
    assert (
        failed.stderr.startswith("minidock: compose.yaml:")
        and "is not supported by minidock" in failed.stderr
    )


def test_wrong_usage(compose: Compose, write: Write) -> None:
    assert "no compose file in" in compose("up", check=False).stderr
    write("services: {web: {image: busybox}}")
    assert 'Did you mean "web"?' in compose("up", "wbe", check=False).stderr
    assert "Did you mean 'down'?" in compose("donw", check=False).stderr
    assert "is not in minidock" in compose("watch", check=False).stderr
    assert "no such compose file" in compose("-f", "gone.yaml", "up", check=False).stderr
    assert "Define and run" in compose("--help").stdout
    assert "Detached mode" in compose("up", "--help").stdout
