"""What a container runs: all ways to write ENTRYPOINT and CMD, with and without arguments of the user.

The table of the Dockerfile reference, "Understand how CMD and ENTRYPOINT interact"; each cell is built,
and run. ``show`` prints the words that it was started with.
"""

from __future__ import annotations

import pytest

SHOW = '#!/bin/sh\necho "[$0]$(for word; do printf \' %s\' "$word"; done)"\n'
ENTRYPOINTS = {
    "none": "",
    "shell": "ENTRYPOINT /bin/show entry",
    "exec": 'ENTRYPOINT ["/bin/show", "entry"]',
}
COMMANDS = {
    "none": "",
    "exec": 'CMD ["/bin/show", "cmd"]',
    "parameters": 'CMD ["p1", "p2"]',
    "shell": "CMD /bin/show cmd",
}
NO_COMMAND = "no command specified"
NOT_FOUND = 'exec: "p1": executable file not found in $PATH'
# (entrypoint, command, arguments given) → what it prints; or, with an exit code, what it says.
TABLE = {
    ("none", "none", False): (125, NO_COMMAND),
    ("none", "none", True): "[/bin/show] given",
    ("none", "exec", False): "[/bin/show] cmd",
    ("none", "exec", True): "[/bin/show] given",
    ("none", "parameters", False): (127, NOT_FOUND),
    ("none", "parameters", True): "[/bin/show] given",
    ("none", "shell", False): "[/bin/show] cmd",
    ("none", "shell", True): "[/bin/show] given",
    # The shell form takes no arguments: they become the shell's, and nobody looks at them.
    ("shell", "none", False): "[/bin/show] entry",
    ("shell", "none", True): "[/bin/show] entry",
    ("shell", "exec", False): "[/bin/show] entry",
    ("shell", "exec", True): "[/bin/show] entry",
    ("shell", "parameters", False): "[/bin/show] entry",
    ("shell", "parameters", True): "[/bin/show] entry",
    ("shell", "shell", False): "[/bin/show] entry",
    ("shell", "shell", True): "[/bin/show] entry",
    ("exec", "none", False): "[/bin/show] entry",
    ("exec", "none", True): "[/bin/show] entry /bin/show given",
    ("exec", "exec", False): "[/bin/show] entry /bin/show cmd",
    ("exec", "exec", True): "[/bin/show] entry /bin/show given",
    ("exec", "parameters", False): "[/bin/show] entry p1 p2",
    ("exec", "parameters", True): "[/bin/show] entry /bin/show given",
    ("exec", "shell", False): "[/bin/show] entry /bin/sh -c /bin/show cmd",
    ("exec", "shell", True): "[/bin/show] entry /bin/show given",
}


@pytest.mark.parametrize(("entrypoint", "command"), [(e, c) for e in ENTRYPOINTS for c in COMMANDS])
def test_entrypoint_and_command(project, minidock, entrypoint, command):
    project.write("show", SHOW, 0o755)
    # From scratch, but for the files: busybox brings a CMD of its own.
    project.build(
        "FROM scratch\nCOPY --from=busybox / /\nCOPY show /bin/\n"
        f"{COMMANDS[command]}\n{ENTRYPOINTS[entrypoint]}\n"
    )
    for given in (False, True):
        words = ["/bin/show", "given"] if given else []
        done = minidock("run", "--rm", "app", *words, check=False)
        expected = TABLE[entrypoint, command, given]
        if isinstance(expected, str):
            assert (done.stdout, done.returncode) == (f"{expected}\n", 0), (given, done)
        else:
            assert done.returncode == expected[0], (given, done)
            assert expected[1] in done.stderr


def test_an_entrypoint_drops_the_command_of_the_base(project):
    """It was meant for another program. A CMD of the same Dockerfile stays, wherever it stands."""
    project.build('FROM busybox\nENTRYPOINT ["echo"]\n')
    assert project.run() == "\n"
    project.build('FROM busybox\nCMD ["own"]\nENTRYPOINT ["echo"]\n')
    assert project.run() == "own\n"
    assert project.run("given") == "given\n"


def test_the_last_one_counts(project):
    project.build("FROM busybox\nCMD echo 1\nCMD echo 2\n")
    assert project.run() == "2\n"
