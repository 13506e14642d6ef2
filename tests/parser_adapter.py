"""Answers parser questions: one JSON request a line on stdin, one JSON answer a line on stdout.

    echo '{"op": "ref_pull", "text": "busybox"}' | python tests/parser_adapter.py
    {"result": "docker.io/library/busybox:latest"}

An operation is a function in OPERATIONS that takes the request and returns the result; a
MinidockError becomes ``{"error": "text"}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minidock.build import ignore, instructions, parser, words
from minidock.errors import MinidockError
from minidock.images import reference

Request = dict[str, Any]


def dockerfile_dump(request: Request) -> str:
    """The nodes in the notation of BuildKit's tests: ``(from "busybox")``, a line each."""
    return "".join(f"({dumped(node)})\n" for node in _parsed(request).nodes)


def dumped(node: parser.Node) -> str:
    pieces = [node.keyword]
    if node.flags:
        pieces.append(f"[{' '.join(map(quoted, node.flags))}]")
    pieces += [f"({dumped(node.trigger)})"] if node.trigger else map(quoted, node.arguments)
    return " ".join(pieces)


def quoted(text: str) -> str:
    """As Go's strconv.Quote writes it."""
    short = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    short |= {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(short.get(letter) or _printable(letter) for letter in text) + '"'


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def dockerfile_lines(request: Request) -> list[list[int]]:
    return [[node.first_line, node.last_line] for node in _parsed(request).nodes]


def dockerfile_heredocs(request: Request) -> list[list[dict[str, Any]]]:
    return [[_heredoc(each) for each in node.heredocs] for node in _parsed(request).nodes]


def _heredoc(heredoc: parser.Heredoc) -> dict[str, Any]:
    return {
        "name": heredoc.name,
        "content": heredoc.content,
        "expand": heredoc.expand,
        "chomp": heredoc.chomp,
    }


def instruction(request: Request) -> str:
    """Whether the first instruction is a valid one."""
    instructions.read(_parsed(request).nodes[0])
    return "ok"


def dockerfile_check(request: Request) -> str:
    """Whether every instruction is."""
    for node in _parsed(request).nodes:
        instructions.read(node)
    return "ok"


def _parsed(request: Request) -> parser.Dockerfile:
    return parser.parse(request["text"], name="")  # without a name an error is BuildKit's bare text


def expand_word(request: Request) -> str:
    return words.expand(request["text"], _variables(request))


def expand_words(request: Request) -> list[str]:
    return words.split(request["text"], _variables(request))


def _variables(request: Request) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in request.get("env") or [])


def ignore_match(request: Request) -> bool:
    return ignore.Patterns(request["patterns"]).matches(request["path"])


def ignore_parse(request: Request) -> list[str]:
    """The patterns of a .dockerignore file, cleaned."""
    patterns = ignore.read(request["text"]).patterns
    return ["!" * pattern.brings_back + pattern.text for pattern in patterns]


def ref_normalize(request: Request) -> dict[str, str]:
    parsed = reference.parse(request["text"])
    return {
        "domain": parsed.domain,
        "path": parsed.path,
        "tag": parsed.tag,
        "digest": parsed.digest,
        "full": str(parsed),
        "familiar": parsed.familiar,
    }


def ref_pull(request: Request) -> str:
    return str(reference.parse(request["text"]).pinned())


OPERATIONS: dict[str, Callable[[Request], Any]] = {
    "dockerfile_dump": dockerfile_dump,
    "dockerfile_lines": dockerfile_lines,
    "dockerfile_heredocs": dockerfile_heredocs,
    "dockerfile_check": dockerfile_check,
    "instruction": instruction,
    "expand_word": expand_word,
    "expand_words": expand_words,
    "ignore_match": ignore_match,
    "ignore_parse": ignore_parse,
    "ref_normalize": ref_normalize,
    "ref_pull": ref_pull,
}


def answer(request: Request) -> dict[str, Any]:
    """``{"result": …}``, or ``{"error": "text"}`` when the input is refused or the operation unknown."""
    operation = OPERATIONS.get(request.get("op", ""))
    if operation is None:
        return {"error": f"unknown operation {request.get('op')!r}"}
    try:
        return {"result": operation(request)}
    except MinidockError as error:
        return {"error": str(error)}


def main() -> None:
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(json.loads(line)), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
