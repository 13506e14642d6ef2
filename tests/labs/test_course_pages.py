"""The course's lists agree with its notebooks: the glossary, and the lessons and labs that README names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = REPOSITORY / "notebooks"
LESSONS = {file.name[:2]: file for file in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
TERM = re.compile(r"\*\*([^*\n(]+?)\s*\(([^)]*[\u4e00-\u9fff][^)]*)\)\*\*")  # **tag (标签)**

PAGES = [*LESSONS.values(), *sorted(REPOSITORY.glob("labs/[0-9][0-9]_*/lab.ipynb"))]

Term = tuple[str, str]


def terms(lesson: Path) -> set[Term]:
    """The bold terms with a Chinese name in a notebook's prose: English in lower case, Chinese."""
    cells = json.loads(lesson.read_text())["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {(english.lower(), chinese) for english, chinese in TERM.findall(prose)}


def glossary() -> dict[Term, list[str]]:
    """(English, Chinese) → the lessons that the glossary names for it."""
    found: dict[Term, list[str]] = {}
    for line in (NOTEBOOKS / "glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] != "English" and not set(cells[0]) <= {"-"}:
            english, chinese, meaning, lessons = cells
            assert meaning and (english.lower(), chinese) not in found, line
            found[english.lower(), chinese] = lessons.split()
    return found


@pytest.mark.parametrize("number", LESSONS)
def test_every_term_of_a_lesson_is_in_the_glossary(number: str) -> None:
    missing = [term for term in sorted(terms(LESSONS[number])) if number not in glossary().get(term, [])]
    assert not missing, f"notebooks/glossary.md: lesson {number} explains, and it does not list: {missing}"


def test_the_glossary_names_only_what_its_lessons_explain() -> None:
    known = {number: terms(file) for number, file in LESSONS.items()}
    wrong = [
        (term, number)
        for term, lessons in glossary().items()
        for number in lessons
        if number in known and term not in known[number]  # a lesson to come is not there to be asked
    ]
    assert not wrong, f"notebooks/glossary.md names lessons that do not explain these: {wrong}"


def test_the_glossary_is_in_order() -> None:
    order = [english for english, _ in glossary()]
    assert order == sorted(order)


@pytest.mark.parametrize("number", LESSONS)
def test_the_answers_are_not_read_before_the_question(number: str) -> None:
    cells = json.loads(LESSONS[number].read_text())["cells"]
    questions = [cell for cell in cells if re.search(r"^\s*ask\(", "".join(cell["source"]), re.MULTILINE)]
    assert questions
    for cell in questions:
        assert cell["metadata"].get("jupyter", {}).get("source_hidden"), "".join(cell["source"])


@pytest.mark.parametrize("file", PAGES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_code_fits_beside_the_list_of_files(file: Path) -> None:
    """JupyterLab does not break a line of code: what stands further to the right is not seen."""
    lines = [
        line
        for cell in json.loads(file.read_text())["cells"]
        if cell["cell_type"] == "code" and not cell["metadata"].get("jupyter", {}).get("source_hidden")
        for line in "".join(cell["source"]).splitlines()
    ]
    assert [line for line in lines if len(line) > 104] == []


@pytest.mark.parametrize("page", ["README.md", "glossary.md"])
def test_links_of_the_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (NOTEBOOKS / page).read_text())
    assert [link for link in links if not (NOTEBOOKS / link).exists()] == []


def test_every_lesson_and_lab_is_listed() -> None:
    text = (NOTEBOOKS / "README.md").read_text()
    labs = sorted(REPOSITORY.glob("labs/[0-9][0-9]_*/lab.ipynb"))
    missing = [file.name for file in LESSONS.values() if f"({file.name})" not in text]
    missing += [str(lab) for lab in labs if f"(../{lab.relative_to(REPOSITORY)})" not in text]
    assert not missing, f"notebooks/README.md does not link to: {missing}"
