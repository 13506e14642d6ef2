"""Every recorded answer of BuildKit's own parser is ours, asked through the adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_every_recorded_answer() -> None:
    cases = [
        json.loads(row) for row in (TESTS / "data/dockerfile-parser-cases.jsonl").read_text().splitlines()
    ]
    assert len(cases) == 1149
    questions = "".join(json.dumps(case["req"]) + "\n" for case in cases)
    adapter = [sys.executable, str(TESTS / "parser_adapter.py")]
    answers = subprocess.run(adapter, input=questions, capture_output=True, text=True, check=True).stdout
    wrong = {
        case["id"]: (case["expect"], answer)
        for case, answer in zip(cases, map(json.loads, answers.splitlines()), strict=True)
        if case["expect"] != answer
    }
    assert wrong == {}


def test_operations_without_a_recorded_answer() -> None:
    requests = [
        {"op": "dockerfile_check", "text": "FROM a\nRUN b\n"},
        {"op": "dockerfile_check", "text": "FROM a\nEXPOSE\n"},
        {"op": "ignore_parse", "text": "\ufeff# no\n /a//b/ \n! c/../d\n\n"},
        {"op": "ignore_parse", "text": "!\n"},
        {"op": "dance"},
    ]
    questions = "".join(json.dumps(request) + "\n" for request in requests)
    adapter = [sys.executable, str(TESTS / "parser_adapter.py")]
    answers = subprocess.run(adapter, input=questions, capture_output=True, text=True, check=True).stdout
    assert [json.loads(answer) for answer in answers.splitlines()] == [
        {"result": "ok"},
        {"error": "EXPOSE requires at least one argument"},
        {"result": ["a/b", "!d"]},
        {"error": '.dockerignore:1: illegal exclusion pattern: "!"'},
        {"error": "unknown operation 'dance'"},
    ]
