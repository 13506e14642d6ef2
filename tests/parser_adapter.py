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

from minidock.errors import MinidockError
from minidock.images import reference

Request = dict[str, Any]


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
