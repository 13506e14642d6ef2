"""What the nodes of a Dockerfile mean: each is read into one of the values of forms.py.

Two steps, because a variable may be set by an earlier instruction:

1. :func:`read` looks at one node alone: its flags, how many arguments, which form. A whole Dockerfile is
   read so before anything is built.
2. :func:`expanded` (variables.py) puts the variables in, just before the instruction is carried out.

Source: Dockerfile reference; the messages are BuildKit's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from minidock import notation
from minidock.build import flags, heredocs, mounts
from minidock.build.forms import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    RunMount,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minidock.build.parser import Node
from minidock.build.problems import SyntaxProblem, meant
from minidock.build.variables import expanded
from minidock.errors import InvalidInput

__all__ = [
    "Arg",
    "Cmd",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "HealthCheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Onbuild",
    "Run",
    "RunMount",
    "Shell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
    "expanded",
    "read",
]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
_SHORTEST = 1_000_000  # nanoseconds: times of HEALTHCHECK below 1 ms are refused


def read(node: Node) -> Instruction:
    """The instruction that *node* writes down, its variables not yet replaced.

    Raises SyntaxProblem, which says where the instruction stands: unknown, too few arguments, a flag
    that it does not have, …
    """
    try:
        return _meaning(node)
    except InvalidInput as error:
        raise node.placed(error) from None


def _meaning(node: Node) -> Instruction:
    reader = _READERS.get(node.keyword)
    if reader:
        return reader(node)
    word = node.original.split(None, 1)[0] if node.keyword else ""
    near = meant(word, _READERS)
    hint = "If this belongs to the line above, then that line must end in \\." if word and not near else None
    raise SyntaxProblem(f"unknown instruction: {word}{near}", hint=hint)


# --- the readers ----------------------------------------------------------------------------------


def _from(node: Node) -> From:
    name = ""
    if len(node.arguments) == 3 and node.arguments[1].lower() == "as":
        name = node.arguments[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            reason = f"invalid name for build stage: {_quoted(node.arguments[2])}, "
            raise SyntaxProblem(reason + "name can't start with a number or contain symbols")
    elif len(node.arguments) != 1:
        commented = any(each.startswith("#") for each in node.arguments)
        hint = (
            "A comment needs a line of its own." if commented else "Write FROM image, or FROM image AS name."
        )
        raise SyntaxProblem("FROM requires either one or three arguments", hint=hint)
    given = flags.read(node, texts=("platform",))
    return From(node, node.arguments[0], given.text("platform"), name)


def _run(node: Node) -> Run:
    given = flags.read(node, texts=("network", "security"), lists=("mount",))
    network, security = given.text("network") or "default", given.text("security") or "sandbox"
    if network not in _NETWORKS:
        hint = f"Possible: {', '.join(_NETWORKS)}."
        raise SyntaxProblem(f"invalid network mode {_quoted(network)}", hint=hint)
    if security not in _SECURITIES:
        hint = f"Possible: {', '.join(_SECURITIES)}."
        raise SyntaxProblem(f"security {_quoted(security)} is not valid", hint=hint)
    if node.exec_form and not node.arguments:
        raise SyntaxProblem("RUN [] names no program to run")
    asked = tuple(mounts.read(text) for text in given.texts("mount"))
    return Run(node, _command(node), node.exec_form, asked, network, security, node.heredocs)


def _command(node: Node) -> tuple[str, ...]:
    """The words of the exec form, or the one text of the shell form."""
    return node.arguments if node.exec_form else (" ".join(node.arguments),)


def _copy(node: Node) -> Copy:
    if len(node.arguments) < 2:
        raise SyntaxProblem(
            f"{node.keyword.upper()} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    adds = node.keyword == "add"
    given = flags.read(
        node,
        texts=("chown", "chmod", "checksum") if adds else ("chown", "chmod", "from"),
        switches=("link", "keep-git-dir") if adds else ("link", "parents"),
        lists=("exclude",),
    )
    *sources, destination = node.arguments
    if heredocs.from_word(destination):
        raise SyntaxProblem(f"{node.keyword.upper()} cannot accept a heredoc as a destination")
    why = "variable expansion is not supported for --from"
    instead = "define a new stage with FROM using ARG from global scope as a workaround"
    mounts.no_variable(why, given.text("from"), instead)
    return Copy(
        node,
        sources=tuple(each for each in sources if node.exec_form or not heredocs.from_word(each)),
        destination=destination,
        from_stage=given.text("from"),
        chown=given.text("chown"),
        chmod=given.text("chmod"),
        link=given.is_on("link"),
        parents=given.is_on("parents"),
        exclude=given.texts("exclude"),
        heredocs=node.heredocs,
        unpack=adds,
        checksum=given.text("checksum"),
        keep_git_dir=given.is_on("keep-git-dir"),
    )


def _env(node: Node) -> Env:
    return Env(node, _pairs(node))


def _label(node: Node) -> Label:
    return Label(node, _pairs(node))


def _pairs(node: Node) -> tuple[tuple[str, str], ...]:
    flags.read(node)
    _at_least_one(node)
    pairs = tuple(zip(node.arguments[0::3], node.arguments[1::3], strict=True))
    _named(node, *(name for name, _ in pairs))
    return pairs


def _arg(node: Node) -> Arg:
    _at_least_one(node)
    flags.read(node)
    parts = [text.partition("=") for text in node.arguments]
    _named(node, *(name for name, _, _ in parts))
    return Arg(node, tuple((name, value if equals else None) for name, equals, value in parts))


def _cmd(node: Node) -> Cmd:
    flags.read(node)
    return Cmd(node, _command(node), node.exec_form)


def _entrypoint(node: Node) -> Entrypoint:
    flags.read(node)
    return Entrypoint(node, _command(node), node.exec_form)


def _expose(node: Node) -> Expose:
    _at_least_one(node)
    flags.read(node)
    return Expose(node, tuple(sorted(node.arguments)))


def _volume(node: Node) -> Volume:
    _at_least_one(node)
    flags.read(node)
    paths = tuple(path.strip() for path in node.arguments)
    if "" in paths:
        raise SyntaxProblem("VOLUME specified can not be an empty string")
    return Volume(node, paths)


def _user(node: Node) -> User:
    return User(node, _only_one(node))


def _workdir(node: Node) -> Workdir:
    return Workdir(node, _only_one(node))


def _stop_signal(node: Node) -> StopSignal:
    return StopSignal(node, _only_one(node))


def _maintainer(node: Node) -> Maintainer:
    return Maintainer(node, _only_one(node))


def _onbuild(node: Node) -> Onbuild:
    _at_least_one(node)
    flags.read(node)
    assert node.trigger  # the parser makes one wherever there is an argument
    keyword = node.trigger.keyword.upper()
    if keyword == "ONBUILD":
        raise SyntaxProblem("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise SyntaxProblem(f"{keyword} isn't allowed as an ONBUILD trigger")
    _meaning(node.trigger)  # else the mistake would wait for whoever builds from this image
    lines = [node.original.split(None, 1)[1].rstrip()]
    lines += [heredoc.content + heredoc.name for heredoc in node.heredocs]
    return Onbuild(node, "\n".join(lines))


def _shell(node: Node) -> Shell:
    flags.read(node)
    _at_least_one(node)
    if not node.exec_form:
        raise SyntaxProblem(
            "SHELL requires the arguments to be in JSON form", hint='For example SHELL ["/bin/bash", "-c"].'
        )
    return Shell(node, node.arguments)


def _health_check(node: Node) -> HealthCheck:
    _at_least_one(node)
    kind, *command = node.arguments
    if kind.upper() == "NONE":
        if command:
            raise SyntaxProblem("HEALTHCHECK NONE takes no arguments")
        return HealthCheck(node, ("NONE",))
    times = ("interval", "timeout", "start-period", "start-interval")
    given = flags.read(node, texts=(*times, "retries"))
    if kind.upper() != "CMD":
        raise SyntaxProblem(f"Unknown type {_quoted(kind.upper())} in HEALTHCHECK (try CMD)")
    if not command:
        raise SyntaxProblem("Missing command after HEALTHCHECK CMD")
    test = ("CMD", *command) if node.exec_form else ("CMD-SHELL", *command)
    interval, timeout, period, start_interval = (_interval(given, name) for name in times)
    return HealthCheck(node, test, interval, timeout, period, start_interval, _retries(given))


def _interval(given: flags.Flags, name: str) -> int:
    """``--interval=30s`` → nanoseconds; 0 when it was not given."""
    text = given.text(name)
    nanoseconds = round(notation.duration(text) * 1e9) if text else 0
    if nanoseconds and nanoseconds < _SHORTEST:
        raise SyntaxProblem(f'Interval "{name}" cannot be less than 1ms')
    return nanoseconds


def _retries(given: flags.Flags) -> int:
    text = given.text("retries") or "0"
    if not re.fullmatch(r"[+-]?[0-9]+", text) or int(text) >= 1 << 31:
        raise SyntaxProblem(f"--retries must be a whole number, not {text}")
    if int(text) < 0:
        raise SyntaxProblem(f"--retries cannot be negative ({int(text)})")
    return int(text)


def _at_least_one(node: Node) -> None:
    if not node.arguments:
        raise SyntaxProblem(f"{node.keyword.upper()} requires at least one argument")


def _only_one(node: Node) -> str:
    if len(node.arguments) != 1:
        raise SyntaxProblem(f"{node.keyword.upper()} requires exactly one argument")
    flags.read(node)
    return node.arguments[0]


def _named(node: Node, *names: str) -> None:
    if "" in names:
        raise SyntaxProblem(f"{node.keyword.upper()} names can not be blank")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_READERS: dict[str, Callable[[Node], Instruction]] = {
    "from": _from,
    "run": _run,
    "copy": _copy,
    "add": _copy,
    "env": _env,
    "label": _label,
    "arg": _arg,
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "expose": _expose,
    "volume": _volume,
    "user": _user,
    "workdir": _workdir,
    "onbuild": _onbuild,
    "stopsignal": _stop_signal,
    "healthcheck": _health_check,
    "shell": _shell,
    "maintainer": _maintainer,
}
