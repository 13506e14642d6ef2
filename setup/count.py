"""How long is what the lessons walk through (`make count`)? Code only: no blanks, comments, docstrings."""

from __future__ import annotations

import ast
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "minidock"

# The files that a lesson opens; everything else serves the command, the tests of the lab, or speed.
WALK = {
    "01 a root of its own": "kernel/rootfs kernel/mounts kernel/paths",
    "02 namespaces": "kernel/namespaces",
    "03 cgroups": "kernel/cgroups kernel/cgroup_tree kernel/cgroups_v1 kernel/cgroups_v2",
    "04 the union filesystem": "kernel/overlay",
    "05 images": "images/layer images/extract images/layout images/store images/image",
    "06 registries": "images/distribution images/reference images/auth images/registry images/session",
    "07 Dockerfile": "build/dockerfile build/parser build/scope build/settings build/stages",
    "08 building": "build/steps build/builder build/stage_builder build/run_step build/cache"
    " build/draft build/commit",
    "09 a container's life": "containers/spec containers/child containers/program containers/shim"
    " containers/lifecycle containers/state containers/logs containers/exec",
    "10 storage": "containers/mounts containers/volumes containers/filling",
    "11 networks": "kernel/net kernel/nat kernel/netlink containers/networks containers/cables"
    " containers/forwarding",
    "what root may do": "kernel/capabilities kernel/seccomp kernel/devices",
    "the recorder and the doors": "trace layers kernel/door kernel/syscalls",
}


def lines_of(path: Path) -> int:
    """The lines of *path* that hold code."""
    tree = ast.parse(path.read_text())
    prose: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            text = node.body[0]
            prose |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in quiet | {tokenize.ENCODING, tokenize.ENDMARKER}:
                code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


def main() -> int:
    total = 0
    for title, names in WALK.items():
        count = sum(lines_of(PACKAGE / f"{name}.py") for name in names.split())
        total += count
        print(f"{count:6,}  {title}")
    everything = sum(lines_of(path) for path in PACKAGE.rglob("*.py"))
    print(f"{total:6,}  what the lessons walk through, of {everything:,} lines in the package")
    return 0


if __name__ == "__main__":
    sys.exit(main())
