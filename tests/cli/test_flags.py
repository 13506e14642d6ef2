"""The command line's grammar, each case as the docker command reads it."""

from __future__ import annotations

from typing import Any

import pytest

from minidock.cli import flags, run_options
from minidock.cli.flags import Flag, UsageError, boolean, integer, repeated

FLAGS = (
    boolean("interactive", "i"),
    boolean("tty", "t"),
    boolean("sig-proxy", default=True),
    repeated("env", "e"),
    Flag("name"),
    Flag("memory", "m", "bytes"),
    Flag("number", "n", "int", "", -1, integer),
)


def read(*words: str, interspersed: bool = False) -> tuple[dict[str, Any], list[str]]:
    values, arguments = flags.parse(words, FLAGS, interspersed=interspersed)
    return {key: value for key, value in values.items() if value not in (False, None, [], -1)}, arguments


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        (["-it", "image", "sh"], {"interactive": True, "tty": True}, ["image", "sh"]),
        (["-i=false", "-t=true"], {"tty": True}, []),
        (["--tty=0", "--sig-proxy=false"], {}, []),
        (["-eA=1", "-e", "B=2", "--env=C", "--env", "D"], {"env": ["A=1", "B=2", "C", "D"]}, []),
        (["-e=A=1"], {"env": ["A=1"]}, []),
        (["-itm64m", "x"], {"interactive": True, "tty": True, "memory": "64m"}, ["x"]),
        (["--name=a=b", "x"], {"name": "a=b"}, ["x"]),
        (["--name", "-x"], {"name": "-x"}, []),
        (["image", "-it"], {}, ["image", "-it"]),
        (["-i", "--", "-t", "x"], {"interactive": True}, ["-t", "x"]),
        (["-"], {}, ["-"]),
        (["-n0x10"], {"number": 16}, []),
        (["--help"], {"help": True}, []),
        (["-h"], {"help": True}, []),
    ],
)
def test_words_become_values(words: list[str], values: dict[str, Any], arguments: list[str]) -> None:
    expected = {} if "--sig-proxy=false" in words else {"sig-proxy": True}
    assert read(*words) == ({**expected, **values}, arguments)


def test_flags_may_follow_arguments_where_no_command_does() -> None:
    assert read("x", "-i", "y", interspersed=True) == ({"sig-proxy": True, "interactive": True}, ["x", "y"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nmae", "x"], "unknown flag: --nmae"),
        (["-ix"], "unknown shorthand flag: 'x' in -ix"),
        (["--name"], "flag needs an argument: --name"),
        (["-ie"], "flag needs an argument: 'e' in -ie"),
        (
            ["--tty=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe"',
        ),
        (["-n", "x"], 'invalid argument "x" for "-n, --number" flag: strconv.ParseInt: parsing "x"'),
    ],
)
def test_mistakes_are_named_in_dockers_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert caught.value.message.startswith(message)
    assert caught.value.exit_code == 125


def test_a_misspelt_flag_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        read("--memroy", "64m")
    assert caught.value.hint == "Did you mean --memory?"


def options(*words: str) -> dict[str, Any]:
    known = (*run_options.FLAGS, *run_options.MISSING_FLAGS)
    values, _ = flags.parse(words, known, interspersed=False)
    return run_options.engine_options(values)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["-m", "64m", "--cpus", "1.5"], {"memory": 64 << 20, "cpus": 1.5}),
        (["--read-only", "--rm", "-it"], {"read_only": True, "rm": True, "interactive": True, "tty": True}),
        (["--label", "a=b", "-l", "c"], {"label": {"a": "b", "c": ""}}),
        (["--ulimit", "nofile=1:2"], {"ulimit": [("nofile", (1, 2))]}),
        (["--entrypoint", ""], {"entrypoint": ""}),
        (["--stop-signal", "int"], {"stop_signal": "SIGINT"}),
        (["--restart", "no", "--pull", "never"], {"restart": "no"}),
    ],
)
def test_run_options(words: list[str], expected: dict[str, Any]) -> None:
    assert options(*words) == expected


def test_environment_from_files_then_flags(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    file = tmp_path / "env"
    file.write_text('# comment\n\nA="quoted"\n  B=2\nINHERITED\nABSENT\nC=a=b #no comment\n')
    found = options("--env-file", str(file), "-e", "B=3", "-e", "INHERITED", "-e", "ABSENT")
    wanted = ['A="quoted"', "B=2", "INHERITED=yes", "C=a=b #no comment", "B=3", "INHERITED=yes"]
    assert found["env"] == wanted


@pytest.mark.parametrize(("line", "why"), [("=x", "no variable name"), ("A B=1", "contains whitespaces")])
def test_a_bad_environment_file_names_its_line(tmp_path: Any, line: str, why: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"OK=1\n{line}\n")
    with pytest.raises(Exception, match=f"line 2: .*{why}"):
        options("--env-file", str(file))


def test_what_is_missing_is_refused_and_never_ignored() -> None:
    with pytest.raises(UsageError, match="does not have it"):
        options("--gpus", "all")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rm", "--restart", "always"], "cannot specify both --restart and --rm"),
        (["--pull", "sometimes"], "invalid pull option: 'sometimes'"),
        (["--cpus", "1", "--cpu-quota", "1000"], "CPUs and CPU Period or Quota cannot both be set"),
        (["-a", "stdeyes"], "valid streams are STDIN, STDOUT and STDERR"),
        (["--security-opt", "secomp=x"], "invalid --security-opt"),
        (["--mount", "type=bind"], "target is required"),
        (["-v", "a:b:c:d"], "invalid volume specification"),
        (["--ulimit", "nofile"], "invalid ulimit argument: nofile"),
        (["-m", "abc"], "invalid size: 'abc'"),
        (["--cpus", "abc"], "failed to parse abc as a rational number"),
    ],
)
def test_options_that_make_no_sense(words: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        options(*words)
