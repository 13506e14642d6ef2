"""Typing into a terminal from a notebook: each prompt gets its keys, and nobody waits for ever."""

from __future__ import annotations

import pytest

from minidock.lab.keyboard import CTRL_D, ENTER, type_into

SHELL = ["env", "PS1=# ", "sh", "-i"]


def test_keys_wait_for_the_prompt_and_the_end_is_told() -> None:
    session = type_into(SHELL, f"echo one{ENTER}", f"echo $((1 + 1)){ENTER}", f"exit 3{ENTER}")
    assert session.exit_code == 3
    assert session.screen.index("\none") < session.screen.index("\n2")


def test_ctrl_d_is_the_end_of_input() -> None:
    assert type_into(SHELL, CTRL_D).exit_code == 0


def test_a_command_that_never_asks_is_ended() -> None:
    with pytest.raises(TimeoutError, match="no answer"):
        type_into(["sleep", "60"], "x", seconds=0.1)
