"""Real Dockerfiles become the same image in minidock as in docker: the config, and every file.

What docker answered is recorded beside each case (dockerfiles/README.md). `make test` compares minidock with
that; `make oracle` asks dockerd again first. `MINIDOCK_RECORD=1 make oracle PYTEST_ARGS="-k recorded"` writes
the answers anew.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dockerfile_cases import BASE, CASES, Case, answer, write_context
from worlds import cli_command, runner

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("peer_world")]
pytest_plugins = ["engines"]

Run = Callable[..., Any]
_FEATURES = {
    "multi-stage": r"^\s*FROM\s[^#]*^\s*FROM\s",
    "heredoc": r"^(RUN|COPY|ADD)\s[^\n]*<<-?[\"']?\w",
    "ONBUILD": r"^ONBUILD\s",
    "ARG before FROM": r"\A(#[^\n]*\n|\s)*ARG\s",
    "wildcards": r"^(ONBUILD\s+)?(COPY|ADD)\s[^\n<]*[*?]",
    "--chown": r"^(COPY|ADD)\s[^\n]*--chown=",
    "SHELL or HEALTHCHECK": r"^(SHELL|HEALTHCHECK)\s",
    "--mount": r"^RUN\s+--mount=",
    "--chmod or --link": r"^(COPY|ADD)\s[^\n]*--(chmod|link)",
}
each_case = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])

# case → line of the answer (a regular expression) → why minidock answers otherwise
_TIME = "a directory made for a copy is new, as with the older builder; BuildKit gives it its source's time"
DELIBERATE: dict[str, dict[str, str]] = {
    "02-jar-server": {r"^[-+]/work/server/src directory": _TIME},
    "70-modes-by-number": {r"^[-+]/(copydir755|dir777) directory": _TIME},
    "56-edges": {
        r"^[-+]/try directory": "what a later layer only passes through keeps its time; in docker's own "
        "container a new file in it sets the time"
    },
    "48-certificates": {
        r"^-/certs/client": "what RUN writes to a VOLUME is gone, as with the older builder; "
        "BuildKit keeps it"
    },
    "80-volumes": {
        r"^-/(baz|baz/bat|foo/bar|qux|qux/quux) directory": "no mount points of volumes in the image, as "
        "with BuildKit; the older builder leaves them behind"
    },
    "89-owners-by-every-name": {
        r"script2": "--chown keeps the setuid bit, as with BuildKit; the older builder loses it"
    },
    "52-launch-site": {r"^[-+]WorkingDir": "WORKDIR // is /, as with BuildKit"},
    "94-exceptions-of-a-child": {
        r"^\+/all/inner": "an exception with a wildcard counts below an excluded directory, as the "
        "reference says and buildx does; older clients do not look there"
    },
}


def _built(run: Run, case: Case, context: Path, *flags: str) -> str:
    """Build *case* with *run*, and before it the image that it starts from; returns the answer."""
    words = ["build", "-q", "--network=none", *flags]
    write_context(case, context)
    if "parent.Dockerfile" in case.files:
        run(*words, "-t", "parent", "-f", context / "parent.Dockerfile", context)
    run(*words, "-t", "case", *shlex.split(case.facts.get("flags", "")), context)
    image, base = json.loads(run("image", "inspect", "case", BASE).stdout)
    return answer(image, base, run("save", "case", text=False).stdout)


def _difference(recorded: str, now: str, names: tuple[str, str]) -> str:
    return "\n".join(difflib.unified_diff(recorded.splitlines(), now.splitlines(), *names, lineterm="", n=0))


def test_the_cases_are_many_and_of_every_kind() -> None:
    assert len(CASES) >= 60
    assert len({case.facts["sha256"] for case in CASES}) == len(CASES)
    assert DELIBERATE.keys() <= {case.name for case in CASES}
    counts = {
        name: sum(bool(re.search(pattern, case.text, re.MULTILINE | re.IGNORECASE)) for case in CASES)
        for name, pattern in _FEATURES.items()
    }
    counts[".dockerignore"] = sum(".dockerignore" in case.files for case in CASES)
    assert all(count >= 5 for count in counts.values()), counts


@each_case
def test_minidock_builds_what_docker_built(case: Case, twin_root: Path, tmp_path: Path) -> None:
    run = runner([*cli_command(), f"--root={twin_root}"], {"HOME": str(tmp_path)})
    ours, recorded = _built(run, case, tmp_path / "context"), case.recorded.read_text()
    expected, seen = DELIBERATE.get(case.name, {}), set()
    lines = []
    for line in _difference(recorded, ours, ("docker", "minidock")).splitlines():
        reasons = [pattern for pattern in expected if re.search(pattern, line)]
        seen.update(reasons)
        if not reasons and not line.startswith(("---", "+++", "@@")):
            lines.append(line)
    assert not lines, "- docker, + minidock:\n" + "\n".join(lines)
    assert seen == set(expected), "no difference any more: take it out of DELIBERATE"


# --- dockerd itself -------------------------------------------------------------------------------


@pytest.fixture
def docker_for(twins: tuple[Run, Run]) -> Callable[[Case], Run]:
    """The docker command that can build a case; skips, loudly, where this machine's cannot."""
    docker = twins[0]
    server = docker("version", "-f", "{{.Server.Version}}").stdout.strip()

    def chosen(case: Case) -> Run:
        need = case.facts.get("needs", "classic")
        if need == "docker 23" and int(server.partition(".")[0]) < 23:
            pytest.skip(f"dockerd is {server}: it knows no heredocs and no --link, which begin with 23")
        program = _with_buildkit() if need != "classic" else docker.command[0]
        environment = docker.environment | {"DOCKER_BUILDKIT": "0" if need == "classic" else "1"}
        return runner([program, *docker.command[1:]], environment)

    return chosen


def _with_buildkit() -> str:
    """A docker command that speaks with BuildKit: an old one, or one that has the plugin buildx."""
    for directory in os.environ["PATH"].split(":"):
        program = os.path.join(directory, "docker")
        if os.access(program, os.X_OK):
            version = runner([program], {})("--version").stdout.split()[2]
            plugin = runner([program], {}, checked=False)("buildx", "version").returncode == 0
            if int(version.partition(".")[0]) < 23 or plugin:
                return program
    pytest.skip("no docker command here can use BuildKit: docker-buildx is not installed")


@pytest.mark.slow
@each_case
def test_docker_answers_as_recorded(case: Case, docker_for: Callable[[Case], Run], tmp_path: Path) -> None:
    now = _built(docker_for(case), case, tmp_path / "context")
    if os.environ.get("MINIDOCK_RECORD"):
        case.recorded.write_text(now)
    difference = _difference(case.recorded.read_text(), now, ("recorded", "dockerd"))
    assert not difference, f"dockerd does not answer as recorded:\n{difference}"
