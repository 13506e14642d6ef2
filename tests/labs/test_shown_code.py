"""The lessons' committed outputs show code of the package: it must stand where they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHOWN = re.compile(r"# (minidock/[a-z_/]+\.py), line (\d+)\s*\n+(.+)")


@pytest.mark.parametrize(
    "page", sorted((REPOSITORY / "notebooks").glob("0*.ipynb")), ids=lambda page: page.stem
)
def test_shown_code_stands_where_the_lesson_says(page: Path) -> None:
    wrong = []
    for cell in json.loads(page.read_text())["cells"]:
        for output in cell.get("outputs", []):
            plain = "".join(output.get("data", {}).get("text/plain", ""))
            for file, number, code in SHOWN.findall(plain):
                stands = (REPOSITORY / file).read_text().splitlines()[int(number) - 1]
                if stands.strip() != code.strip():
                    wrong.append(f"{file}, line {number}: {stands.strip()!r}, not {code.strip()!r}")
    assert not wrong, "\n".join([*wrong, "Execute the lesson again, or mend its output."])
