"""Questions in a notebook: predict first, then run; check yourself at the end.

A question is a widget where a kernel runs, and a plain page with the answers folded away where none
does (a committed notebook on the web).
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to a question; *reason* says why it is right or wrong."""

    text: str
    reason: str
    right: bool = False


class Question:
    """A question with one right answer. Show it as the last value of a cell."""

    def __init__(self, text: str, *choices: Choice) -> None:
        if sum(choice.right for choice in choices) != 1:
            raise ValueError("a question has exactly one right choice")
        if not all(choice.reason for choice in choices):
            raise ValueError("every choice needs a reason")
        self.text = text
        self.choices = choices

    def answer(self, number: int) -> str:
        """What the reader is told after choosing *number* (0 is the first)."""
        choice = self.choices[number]
        return f"{'✔ Right.' if choice.right else '✘ Not quite.'} {choice.reason}"

    def widget(self) -> Any:
        """The question as an ipywidgets box: one button a choice, the reason below."""
        import ipywidgets

        feedback = ipywidgets.HTML()
        buttons = []
        for number, choice in enumerate(self.choices):
            button = ipywidgets.Button(
                description=choice.text.replace("`", ""),  # a button shows no HTML
                layout=ipywidgets.Layout(width="auto", min_width="60%", height="auto"),
            )
            button.on_click(lambda _, number=number: self._show(feedback, number))
            buttons.append(button)
        question = ipywidgets.HTML(f"<b>{_marked_up(self.text)}</b>")
        return ipywidgets.VBox([question, *buttons, feedback])

    def _show(self, feedback: Any, number: int) -> None:
        colour = "#1a7f37" if self.choices[number].right else "#b35900"
        # The words keep the theme's colour: no other can be read on white and on black.
        style = f"border-left:4px solid {colour}; padding-left:8px"
        feedback.value = f'<p style="{style}">{_marked_up(self.answer(number))}</p>'

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<li><details><summary>{_marked_up(choice.text)}</summary>"
            f"{_marked_up(self.answer(number))}</details></li>"
            for number, choice in enumerate(self.choices)
        )
        return f'<p><b>{_marked_up(self.text)}</b></p><ol type="a">{rows}</ol>'

    def __repr__(self) -> str:
        rows = "\n".join(f"  {chr(97 + number)}) {each.text}" for number, each in enumerate(self.choices))
        return f"{self.text}\n{rows}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return _bundle(self)


class Quiz:
    """Several questions, one after the other."""

    def __init__(self, *questions: Question) -> None:
        self.questions = questions

    def widget(self) -> Any:
        import ipywidgets

        return ipywidgets.VBox([question.widget() for question in self.questions])

    def _repr_html_(self) -> str:
        return "".join(question._repr_html_() for question in self.questions)

    def __repr__(self) -> str:
        return "\n".join(repr(question) for question in self.questions)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return _bundle(self)


def _marked_up(text: str) -> str:
    """*text* as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _bundle(page: Question | Quiz) -> dict[str, Any]:
    """Every form of the page; the notebook shows the richest that it can."""
    return {
        **page.widget()._repr_mimebundle_(),
        "text/html": page._repr_html_(),
        "text/plain": repr(page),
    }


def ask(text: str, right: tuple[str, str], *wrong: tuple[str, str], place: int = 0) -> Question:
    """A question from ``(text, reason)`` pairs; the right one stands at *place* (0 is the first)."""
    choices = [Choice(*pair) for pair in wrong]
    choices.insert(place, Choice(*right, right=True))
    return Question(text, *choices)
