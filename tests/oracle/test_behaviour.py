"""The same commands, typed to docker and to minidock: exit codes, output and complaints must be the same.

Each case is a small script; every line runs in both engines, on the same busybox image, and both answers are
compared after ids, times and the programs' names are made equal. A mark at a line's end says what counts:

    ## code     the exit code alone
    ## quiet    the exit code and standard output; standard error must be there or not in both
    ## sorted   as usual, but the lines of standard output in any order

SCRATCH stands for a directory of the run's own, with a file in it. No line may write to any other place of
the host, nor to a kernel setting, not even one that both are sure to refuse: one day one of them will not.

Where minidock differs on purpose, DELIBERATE says so with the reason, and that is tested too: a difference
that has gone must leave the table.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from behaviour_cases import CASES, DELIBERATE, Case

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]  # twins


class Answer(NamedTuple):
    code: int
    out: str
    err: str


# docker's default network would be a bridge, which minidock does not have yet (lesson 11).
def _words(engine: str, line: str) -> list[str]:
    words = shlex.split(line)
    if engine == "docker" and words[0] in ("run", "create") and "--network" not in line:
        words.insert(1, "--network=none")
    return words


def _input(line: str) -> tuple[str, bytes | None]:
    command, mark, text = line.partition(" <<< ")
    return command, text.encode().decode("unicode_escape").encode() if mark else None


def _complaint(engine: str, text: str) -> str:
    """Standard error without what may differ: the program's name, where it was noticed, advice."""
    kept: list[str] = []
    lines = text.splitlines()
    for index, line in enumerate(lines):
        advice = index > 0 and lines[index - 1].startswith("minidock: ") and not line.startswith("minidock: ")
        if (engine == "minidock" and advice) or re.match(r"(See|Run) 'docker .*'|$", line):
            continue
        line = re.sub(r"^(docker|minidock): ", "", line)
        line = re.sub(r"^Error response from daemon: ", "", line)
        line = re.sub(r"^Error: ", "", line)
        if re.match(r"failed to (start|rename) container", line):
            continue  # docker says it twice
        line = re.sub(r"^Cannot kill container: \S+: ", "", line)
        line = re.sub(
            r"^(failed to create shim task: )?OCI runtime \w+ failed: (runc \w+|exec) failed: ", "", line
        )
        line = line.removesuffix(": unknown").partition(". You have to remove")[0].rstrip(".")
        kept.append(line[:1].lower() + line[1:])
    return "\n".join(kept)


def _same(text: str) -> str:
    """*text* with what differs between any two runs replaced."""
    text = text.replace("minidock", "docker")
    text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<short id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d)( UTC)?)?", "<time>", text)
    text = re.sub(r"   +", "  ", text)  # columns are as wide as their widest entry
    return re.sub(r"(Less than a second|About a minute|\d+ (second|minute|hour)s?)( ago)?", "<while>", text)


def _ask(engine: str, run: Any, line: str, scratch: str) -> Answer:
    command, stdin = _input(line.replace("SCRATCH", scratch))
    done = run(*_words(engine, command), input=stdin, text=False, timeout=60)
    out = done.stdout.decode(errors="backslashreplace")
    err = done.stderr.decode(errors="backslashreplace")
    return Answer(done.returncode, _same(out), _same(_complaint(engine, err)))


def _judged(answer: Answer, mark: str) -> Any:
    if mark == "code":
        return answer.code
    if mark == "quiet":
        return answer.code, answer.out, bool(answer.err)
    if mark == "sorted":
        return answer._replace(out="\n".join(sorted(answer.out.splitlines())))
    return answer


def _clean(run: Any) -> None:
    if left := run("ps", "-aq").stdout.split():
        run("rm", "-f", *left)


@pytest.fixture
def clean_twins(twins: Any) -> Any:
    yield twins
    for run in twins:
        _clean(run)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.title, marks=[] if case.short else pytest.mark.slow) for case in CASES],
)
def test_both_answer_the_same(case: Case, clean_twins: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    differences = _differences(case, clean_twins, str(tmp_path))
    if case.title in DELIBERATE:
        assert differences, f"no difference any more: take {case.title!r} out of DELIBERATE"
        return
    assert not differences, "\n".join(differences)


def _differences(case: Case, twins: Any, scratch: str) -> list[str]:
    docker, minidock = twins
    found = []
    for whole in case.lines:
        line, _, mark = whole.partition(" ## ")
        theirs, ours = _ask("docker", docker, line, scratch), _ask("minidock", minidock, line, scratch)
        if _judged(theirs, mark) != _judged(ours, mark):
            found.append(f"$ {line}\n  docker:   {theirs}\n  minidock: {ours}")
    return found


def test_deliberate_differences_belong_to_cases() -> None:
    assert set(DELIBERATE) <= {case.title for case in CASES}


def test_big_output_arrives_whole(twins: tuple[Any, Any]) -> None:
    script = "head -c 104857600 /dev/zero | tr '\\0' 'x' | tee /dev/stderr"
    for run in twins:
        network = ["--network=none"] if run is twins[0] else []
        done = run("run", "--rm", *network, "busybox", "sh", "-c", script, text=False)
        assert done.returncode == 0
        assert done.stdout == done.stderr == b"x" * 104857600


def _is_running(run: Any, name: str) -> bool:
    shown: subprocess.CompletedProcess[str] = run("inspect", "-f", "{{.State.Running}}", name)
    return shown.stdout.strip() == "true"
