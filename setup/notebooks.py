"""Execute every notebook of the course and keep the outputs that still say the same (`make notebooks`).

    notebooks.py [--check] [FILE…]

Notebooks are committed with their outputs, so that they read well where nobody runs them. Ids, pids,
inodes and times differ in every run. A page whose outputs are the same once numbers and ids are masked
stays as it was committed; only one that says something new is replaced. So a second run changes no file.
Widget state is left out: where no kernel runs, a question shows its folded page instead.
Lesson 03 shows cgroup v2. On a machine with v1 it is left as it is: `make vm-notebooks` executes it.

--check: change nothing, fail when a notebook would change.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

REPOSITORY = Path(__file__).resolve().parent.parent
# How many times as long as usual everything may take; more than 1 in the test VM.
PATIENCE = float(os.environ.get("MINIDOCK_PATIENCE", "1"))
WIDGET = "application/vnd.jupyter.widget-view+json"
# Digests (first: a number would take "256:12" out of "sha256:12ab…"), addresses, ids (also cut ones),
# names of temporary directories and of cables, times with their unit, numbers.
VARIES = re.compile(
    r"\bsha256:[0-9a-f]+\b|\b0x[0-9a-f]+\b|\b[0-9a-f]{12,64}\b|[0-9a-f]*…|\bminidock-\w+|\bveth\w+"
    r"|\d+(?:\.\d+)? (?:µs|ms|s|seconds?|minutes?)\b|\d+(?:[.,:]\d+)*"
)
V2_ONLY, V2 = "03_cgroups.ipynb", Path("/sys/fs/cgroup/cgroup.controllers")
SIZE = re.compile(r'viewBox="[^"]*"')  # another size is another drawing, whatever its numbers say


def execute(notebook: Any, directory: Path) -> None:
    """Run all cells in a fresh kernel. Raises CellExecutionError at the first that fails."""
    NotebookClient(
        notebook,
        timeout=int(120 * PATIENCE),
        startup_timeout=int(60 * PATIENCE),
        resources={"metadata": {"path": str(directory)}},
    ).execute()


def clean(notebook: Any) -> None:
    """Drop what only a running kernel can show, and what only says when it ran."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        cell.outputs = _merged(cell.outputs)
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
            output.get("metadata", {}).pop(WIDGET, None)


def _merged(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of one stream as one: where they were cut is chance."""
    merged: list[Any] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def keep_what_says_the_same(fresh: Any, committed: Any) -> None:
    """Put the committed outputs back into *fresh* when only numbers and ids differ.

    All of a page or none: an id that one cell shows comes back in another.
    """
    before, now = ([cell for cell in page.cells if cell.cell_type == "code"] for page in (committed, fresh))
    if [_said(cell) for cell in before] == [_said(cell) for cell in now]:
        for old, cell in zip(before, now, strict=True):
            cell.outputs = old.outputs


def _said(cell: Any) -> tuple[str, Any]:
    return "".join(cell.source), masked(cell.outputs)


def masked(value: Any) -> Any:
    """*value* with every number and id as ``#`` and every run of blanks as one; a picture keeps its size."""
    if isinstance(value, str):
        sizes = "".join(SIZE.findall(value))
        return re.sub(r"[ \t─━]+", " ", VARIES.sub("#", value)) + sizes
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items() if key != "execution_count"}
    return [masked(item) for item in value] if isinstance(value, list) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    files = arguments.files or sorted(
        [*REPOSITORY.glob("notebooks/*.ipynb"), *REPOSITORY.glob("labs/*/*.ipynb")]
    )
    changed = 0
    for file in files:
        shown = f"{file.absolute().parent.name}/{file.name}"  # every lab's page has the same name
        if file.name == V2_ONLY and not V2.exists():
            print(f"{shown}: left alone, this machine has no cgroup v2 (make vm-notebooks)")
            continue
        committed = nbformat.read(file, as_version=4)
        fresh = nbformat.read(file, as_version=4)
        try:
            execute(fresh, file.parent)
        except CellExecutionError as error:
            print(f"{file}: a cell fails: {error.ename}: {error.evalue}", file=sys.stderr)
            return 1
        clean(fresh)
        keep_what_says_the_same(fresh, committed)
        text = nbformat.writes(fresh) + "\n"
        if text != file.read_text():
            changed += 1
            print(f"{shown}: {'would change' if arguments.check else 'changed'}")
            if not arguments.check:
                file.write_text(text)
        else:
            print(f"{shown}: the same")
    return 1 if arguments.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
