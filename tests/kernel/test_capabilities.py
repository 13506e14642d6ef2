"""Capabilities: which a container gets, and that the kernel agrees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock.errors import InvalidInput
from minidock.kernel import capabilities
from minidock.kernel.capabilities import DEFAULT, NAMES, resolve

HERE = capabilities.available()


def test_the_defaults_are_dockers() -> None:
    assert f"{capabilities.mask(DEFAULT):016x}" == "00000000a80425fb"
    assert len(DEFAULT) == 14
    assert resolve() == DEFAULT & HERE


def test_names_and_bits_are_those_of_the_header() -> None:
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("linux-libc-dev is not installed")
    words = [line.split() for line in header.read_text().splitlines() if line.startswith("#define CAP_")]
    numbers = {line[1]: int(line[2]) for line in words if len(line) > 2 and line[2].isdigit()}
    assert {name: bit for name, bit in numbers.items() if name != "CAP_LAST_CAP"} == capabilities.BITS
    assert capabilities.names(capabilities.mask(NAMES)) == set(NAMES)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], [], (DEFAULT & HERE) | {"CAP_NET_ADMIN"}),
        (["cap_net_admin"], ["chown"], (DEFAULT & HERE) - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}),
        ([], ["ALL"], set()),
        ([], ["all"], set()),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["ALL"], [], HERE),
        (["ALL"], ["SYS_ADMIN"], HERE - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], HERE),  # Docker: the drop of ALL is no name to leave out
        (["CHOWN"], ["CHOWN"], DEFAULT & HERE),  # dropped, then added
        ([], ["SYS_BOOT"], DEFAULT & HERE),  # dropping what is not there
    ],
)
def test_adding_and_dropping_follow_docker(add: list[str], drop: list[str], expected: set[str]) -> None:
    assert resolve(add, drop) == expected


def test_privileged_has_all_that_the_machine_has() -> None:
    assert resolve(drop=["CHOWN"], privileged=True) == HERE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({"drop": ["CAP_BAR"]}, 'invalid CapDrop: unknown capability: "CAP_BAR"'),
    ],
)
def test_unknown_names_are_refused_in_dockers_words(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(**options)
    assert str(caught.value) == message


def test_what_the_machine_lacks_cannot_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "available", lambda: set(NAMES) - {"CAP_SYS_RESOURCE", "CAP_CHOWN"})
    with pytest.raises(InvalidInput, match="not supported by your kernel or not available"):
        resolve(add=["SYS_RESOURCE"])
    assert "CAP_CHOWN" not in resolve()
    assert "CAP_SYS_RESOURCE" not in resolve(add=["ALL"])
    assert resolve(drop=["SYS_RESOURCE"]) == DEFAULT - {"CAP_CHOWN"}


# --- the kernel's own view ---------------------------------------------------------------------------


def status_after(work: Callable[[], None]) -> dict[str, str]:
    """/proc/self/status of a child in which *work* was done, and of a program that it started."""
    ours, childs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            with os.popen("cat /proc/self/status") as output:
                os.write(childs, json.dumps(output.read()).encode())
        except BaseException as error:
            os.write(childs, json.dumps(f"error:\t{error}").encode())
        finally:
            os._exit(0)
    os.close(childs)
    with open(ours) as answer:
        text: Any = json.loads(answer.read())
    os.waitpid(child, 0)
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.vm
def test_root_keeps_exactly_what_it_was_given() -> None:
    given = resolve()
    status = status_after(lambda: capabilities.apply(given))
    mask = f"{capabilities.mask(given):016x}"
    assert [status[name] for name in ("CapEff", "CapPrm", "CapBnd")] == [mask] * 3
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0


@pytest.mark.vm
def test_another_user_has_none_but_keeps_the_bounding_set() -> None:
    given = resolve()
    status = status_after(lambda: capabilities.apply(given, 1000, 1001, [1002]))
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0] * 4
    assert status["CapBnd"] == f"{capabilities.mask(given):016x}"
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert status["Groups"].split() == ["1002"]


@pytest.mark.vm
def test_without_any_capability_root_is_an_ordinary_user(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    os.chown(secret, 1000, 1000)
    os.chmod(secret, 0o600)

    def work() -> None:
        capabilities.apply(set())
        secret.read_text()

    assert "Permission denied" in status_after(work)["error"]


@pytest.mark.vm
def test_a_dropped_capability_never_comes_back() -> None:
    def work() -> None:
        capabilities.apply({"CAP_CHOWN"})
        os.setresuid(0, 0, 0)

    status = status_after(work)
    assert status["CapEff"] == status["CapBnd"] == f"{1:016x}"
