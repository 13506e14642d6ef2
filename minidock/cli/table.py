"""Lists of things: Docker's columns and ``--format``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minidock.cli.templates import Template, TemplateError, json_of

Row = Mapping[str, Any]
_FIELD = re.compile(r"\.(\w+)")


def show(rows: Iterable[Row], headings: Mapping[str, str], columns: Sequence[str], form: str | None) -> None:
    """Print *rows* (dictionaries of ``{"ID": "…"}``).

    *headings* maps every field to the title of its column, *columns* are those of the plain table, *form*
    is what ``--format`` gave: nothing, ``table``, ``json``, ``table TEMPLATE`` or ``TEMPLATE``.
    """
    form = (form or "table").strip()
    if form == "json":
        form = "{{json .}}"
    if form == "table":
        lines = [[str(row[column]) for column in columns] for row in rows]
        write([[headings[column] for column in columns], *lines])
    elif form.startswith("table"):
        text = _unescape(form[len("table") :].lstrip())
        heading = _FIELD.sub(lambda found: f".{found[1]}", text)
        titles = {**headings, "Label": _label_heading}
        body = _parsed(text)
        head = Template(re.sub(r"\b(json|upper|lower|title)\s+(?=\.)", "", heading)).render(titles)
        write([line.split("\t") for line in (head, *(_filled(body, row) for row in rows))])
    else:
        template = _parsed(_unescape(form))
        for row in rows:
            print(_filled(template, row))


def _label_heading(name: str) -> str:
    """The heading of ``{{.Label "com.example.my-tier"}}`` is ``my tier``."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def _parsed(text: str) -> Template:
    try:
        return Template(text)
    except TemplateError as error:  # 64 is the exit code of `inspect`; that of lists is 1
        raise TemplateError(error.message, exit_code=1) from None


def _filled(template: Template, row: Row) -> str:
    try:
        return template.render(row)
    except TemplateError as error:
        known = ", ".join(f".{name}" for name in sorted(row))
        raise TemplateError(error.message, hint=f"Fields: {known}.", exit_code=1) from None


def _unescape(text: str) -> str:
    r"""A shell hands ``\t`` and ``\n`` over as two characters; Docker reads them as one."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def write(lines: Sequence[Sequence[str]], minimum: int = 10) -> None:
    """Columns as Go's tabwriter lays them out for Docker: at least *minimum* wide, three spaces between."""
    widths: list[int] = []
    for line in lines:
        for index, cell in enumerate(line[:-1]):  # the last cell needs no room
            if index == len(widths):
                widths.append(minimum - 3)
            widths[index] = max(widths[index], len(cell))
    for line in lines:
        padded = [cell.ljust(widths[index] + 3) for index, cell in enumerate(line[:-1])]
        sys.stdout.write("".join([*padded, *line[-1:]]) + "\n")


__all__ = ["Row", "json_of", "show", "write"]
