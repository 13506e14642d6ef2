"""What a notebook shows: the HTML and SVG of questions, observations, sources and pictures."""

from __future__ import annotations

import re

from minidock import views
from minidock.kernel import rootfs
from minidock.lab.observe import Observation
from minidock.lab.pictures import BeforeAndAfter, MachineAndContainer, MountTree
from minidock.lab.quiz import ask
from minidock.lab.source import show


def test_a_question_shows_code_as_code() -> None:
    question = ask("What does `ps <x>` say?", ("`nothing`", "`ps` is blind."), ("much", "No."))
    for page in (question._repr_html_(), question.widget().children[0].value):
        assert "What does <code>ps &lt;x&gt;</code> say?" in page
    page = question._repr_html_()
    assert "<code>nothing</code>" in page
    assert "<code>ps</code> is blind." in page
    # A button shows text, never HTML.
    assert question.widget().children[1].description == "nothing"


def test_the_reason_appears_below_the_answer() -> None:
    box = ask("2 < 3?", ("yes", "`2` is less."), ("no", "Count again."), place=1).widget()
    wrong, right, feedback = box.children[1:]
    wrong.click()
    assert "Not quite. Count again." in feedback.value
    right.click()
    assert "Right. <code>2</code> is less." in feedback.value


def test_columns_of_an_observation_stand_below_each_other() -> None:
    # JupyterLab sets table cells to the right: names of different lengths would have no common edge.
    seen = Observation()
    seen.changes = [views.Change(what="link", sign="+", name="lo<1>", detail="in net:[4]")]
    page = seen._repr_html_()
    assert len(re.findall(r'<td style="text-align:left">', page)) == 3
    assert "lo&lt;1&gt;" in page


def test_source_brings_its_own_paper() -> None:
    # JupyterLab paints every <pre> in the colours of its theme; dark blue on black cannot be read.
    page = show(rootfs.pivot_into)._repr_html_()
    assert re.search(r'<pre style="[^"]*background:#fbfbf8; color:#1f2933', page)


def test_pictures_fit_the_page() -> None:
    # JupyterLab never shrinks an SVG; other pages do, where it lets them.
    tree = MountTree(views.mounts(), "mounts")
    for picture in (MachineAndContainer(), BeforeAndAfter(tree, tree)):
        page = picture._repr_svg_()
        width = re.search(r'<svg [^>]*width="(\d+)"[^>]* style="max-width:100%;height:auto"', page)
        assert width
        assert int(width[1]) <= 720
