"""References mean what they mean to Docker: every recorded answer of Docker's own parser, and the parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from minidock.errors import InvalidInput
from minidock.images import reference

TESTS = Path(__file__).parent.parent
CASES = TESTS / "data" / "dockerfile-parser-cases.jsonl"
DIGEST = "sha256:" + "f" * 64


def test_every_recorded_answer_of_docker() -> None:
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    cases = [case for case in cases if case["req"]["op"] in ("ref_normalize", "ref_pull")]
    assert len(cases) >= 599
    questions = "".join(json.dumps(case["req"]) + "\n" for case in cases)
    adapter = [sys.executable, str(TESTS / "parser_adapter.py")]
    answers = subprocess.run(adapter, input=questions, capture_output=True, text=True, check=True).stdout
    wrong = [
        (case["id"], case["expect"], answer)
        for case, answer in zip(cases, map(json.loads, answers.splitlines()), strict=True)
        if case["expect"] != answer
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("registry/app", "docker.io/registry/app:latest", "registry/app:latest"),
        ("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
    ],
)
def test_what_a_pull_asks_for(text: str, full: str, familiar: str) -> None:
    pinned = reference.parse(text).pinned()
    assert str(pinned) == full
    assert pinned.familiar == familiar


@pytest.mark.parametrize(
    "text", ["../../etc", "a/../b", "a\n", "a:b\n", "busybox:", "busybox@", "a b", "a:é"]
)
def test_nothing_dangerous_passes(text: str) -> None:
    with pytest.raises(InvalidInput):
        reference.parse(text)


def test_a_digest_is_checked() -> None:
    reference.check_digest(DIGEST)
    for bad in ("sha512:" + "f" * 128, "sha256:ff", "sha256:" + "F" * 64, "sha256:../../../etc/passwd", ""):
        with pytest.raises(InvalidInput):
            reference.check_digest(bad)
