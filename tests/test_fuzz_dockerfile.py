"""BuildKit's own parser as the judge of ours: whatever the text, both read the same or both refuse.

The judge is the package `dockerfile` from PyPI, a binding of BuildKit 0.12; where BuildKit changed its mind
since then we go with the new one, and such texts are left out. For what instructions mean and for variables
there is no judge, only the promise that nothing but a SyntaxProblem ever comes out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from minidock.build import arguments, instructions, parser
from minidock.build.problems import SyntaxProblem

CASES = Path(__file__).parent / "data" / "dockerfile-parser-cases.jsonl"
NAMES = [*arguments.KEYWORDS, "Run", "CoPy", "ONBUILD run", "onbuild copy", "onbuild", "form"]
PIECES = [
    *("\n", "\n", "\r\n", " \\\n", "\\\n", "`\n", "\\ \t\n", "\\\\\n", "\n\n", "\n#", "# c\n", "\t", "  "),
    *(" ", " ", "\v", "\f", "\r", "\\", "`", "'", '"', "$", "${x:-", "}", "=", "a=b", "a='b c'", 'k="v w" '),
    *("--", " --x=1", " --from=y ", "--mount=type=cache,target=/t ", "-- ", "--q='a b' ", "[", "]", "[]"),
    *('["a", "b"]', '["a",', "[1]", '["\\u00e9\\n"]', "{}", ",", "é", "中", "/dst/", "CMD ", "NONE", "AS n"),
    *(" <<EOF", "\nEOF\n", "<<-E", "\n\tE\n", "<<'E F'", "\nE F\n", '<<"E"', "\nE\n", "3<<E", "<< E", "<<<"),
    *("<<a<<b", "<<E|", "<<\\E", "#", "# escape=`\n", "# syntax=x\n", "#escape = \\\n"),
]
LINE_ENDS = ["\n", "\r\n", ""]

line = some.builds(
    lambda name, rest, end: f"{name} {''.join(rest)}{end}",
    some.sampled_from(NAMES),
    some.lists(some.sampled_from(PIECES), max_size=8),
    some.sampled_from(LINE_ENDS),
)
written = some.builds(
    lambda top, lines: "".join(top + lines),
    some.lists(some.sampled_from(["# escape=`\n", "#\n", "# syntax = a b\n", "\n", "\ufeff"]), max_size=2),
    some.lists(line, min_size=1, max_size=4),
)


@some.composite
def altered(draw: some.DrawFn) -> str:
    """A Dockerfile of the recorded cases with something put in or taken out here and there."""
    text = draw(some.sampled_from(recorded()))
    for _ in range(draw(some.integers(1, 4))):
        at = draw(some.integers(0, len(text)))
        gone = draw(some.integers(0, 3))
        text = text[:at] + draw(some.sampled_from(["", *PIECES])) + text[at + gone :]
    return text


def recorded() -> list[str]:
    requests = [json.loads(row)["req"] for row in CASES.read_text().splitlines()]
    return [each["text"] for each in requests if each["op"].startswith(("dockerfile", "instruction"))]


Reading = list[dict[str, Any]]


def judged(text: str) -> Reading | None:
    """What BuildKit reads; None when it refuses."""
    judge = pytest.importorskip("dockerfile", reason="the PyPI package dockerfile is the judge: x86-64 only")
    try:
        commands = judge.parse_string(text)
    except judge.GoParseError:
        return None
    return [
        {
            "keyword": (command.cmd or "").lower(),
            "trigger": (command.sub_cmd or "").lower(),
            "json": command.json,
            "flags": tuple(flag.encode("latin-1").decode() for flag in command.flags),  # it reads bytes there
            "arguments": command.value,
            "lines": (command.start_line, command.end_line),
            "heredocs": [(each.name, each.file_descriptor, each.content) for each in command.heredocs],
        }
        for command in commands
    ]


def ours(text: str) -> Reading | None:
    try:
        nodes = parser.parse(text).nodes
    except SyntaxProblem:
        return None
    assume(not any(json_and_more(node.trigger or node) for node in nodes))
    return [reading(node) for node in nodes]


def json_and_more(node: parser.Node) -> bool:
    """``["a"] b``: until 2024 a JSON list counted, whatever stood behind it."""
    text = " ".join(node.arguments[1:] if node.keyword == "healthcheck" else node.arguments)
    try:
        return not node.exec_form and isinstance(json.JSONDecoder().raw_decode(text)[0], list)
    except ValueError:
        return False


# Until 2025 no space could stand behind <<, and flags knew one escape character, whatever the directive
# said; fewer kinds of space were known before a directive. In ${…} the judge stumbles over what only a
# shell knows.
NOT_JUDGED = re.compile(
    r"<<-?\s|<<.*\$\{|\$\{.*<<|\[.*\].*<<|#\s*\v|escape\s*=\s*`.*--", re.DOTALL | re.IGNORECASE
)


def reading(node: parser.Node) -> dict[str, Any]:
    inner = node.trigger or node
    shown = () if node.trigger else node.heredocs  # the judge has only those of the instruction itself
    words = inner.arguments
    if inner.keyword not in arguments.KEYWORDS or inner.trigger:
        words = ("",)  # what the judge says where it has nothing to say
    elif inner.keyword in ("env", "label"):
        words = tuple(word for index, word in enumerate(words) if index % 3 < 2)  # 0.12 had no delimiter
    return {
        "keyword": node.keyword,
        "trigger": inner.keyword if inner is not node else "",
        "json": inner.exec_form,
        "flags": node.flags,
        "arguments": tuple(word.partition("\0")[0] for word in words),  # "\u0000" ends a C string
        "lines": (node.first_line, node.last_line),
        "heredocs": [(each.name, each.descriptor, each.content) for each in shown],
    }


@given(text=some.one_of(written, altered()))
def test_read_as_buildkit_reads(text: str) -> None:
    assume(not NOT_JUDGED.search(text))
    assert ours(text) == judged(text)


@given(text=some.one_of(written, altered(), some.text(max_size=200)), value=some.text(max_size=20))
def test_nothing_but_a_syntax_problem_comes_out(text: str, value: str) -> None:
    try:
        dockerfile = parser.parse(text)
        for node in dockerfile.nodes:
            instruction = instructions.read(node)
            instructions.expanded(instruction, {"x": value, "HOME": "/root"}, dockerfile.escape)
    except SyntaxProblem as problem:
        assert "\n" not in problem.message
