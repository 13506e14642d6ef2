"""Instructions that change nothing but the config: ENV, CMD, EXPOSE, … and what `history` says of them.

Each is a function from the old settings (the ``config`` member of an image's config) to the new ones;
no container runs and no layer is made. `commit --change` and `import --change` use the same functions.

Source: Dockerfile reference; OCI image specification, config.md.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from typing import Any

from minidock import notation
from minidock.build import dockerfile, parser
from minidock.build import instructions as every
from minidock.build.instructions import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minidock.errors import InvalidInput

Settings = dict[str, Any]
DEFAULT_SHELL = ["/bin/sh", "-c"]
CHANGES = (
    *("cmd", "entrypoint", "env", "expose", "healthcheck", "label"),
    *("onbuild", "stopsignal", "user", "volume", "workdir"),
)


def shell(settings: Settings) -> list[str]:
    """The program that runs shell forms: SHELL's, or ``/bin/sh -c``."""
    return settings.get("Shell") or DEFAULT_SHELL


def changed(settings: Settings, instruction: Instruction, *, cmd_given: bool = False) -> Settings:
    """*settings* as they are after *instruction*; unchanged for one that does not touch them.

    *cmd_given*: the same Dockerfile had a CMD before. Without it an ENTRYPOINT drops the base image's
    CMD, which was meant for another program.
    """
    new = dict(settings)
    match instruction:
        case Env(pairs=pairs):
            new["Env"] = with_variables(settings.get("Env") or [], pairs)
        case Label(pairs=pairs):
            new["Labels"] = {**(settings.get("Labels") or {}), **dict(pairs)}
        case Cmd():
            new["Cmd"] = command(settings, instruction)
        case Entrypoint():
            new["Entrypoint"] = command(settings, instruction)
            if not cmd_given:
                new.pop("Cmd", None)
        case Expose(ports=ports):
            opened: Settings = {port: {} for text in ports for port in notation.exposed_ports(text)}
            new["ExposedPorts"] = {**(settings.get("ExposedPorts") or {}), **opened}
        case Volume(paths=paths):
            new["Volumes"] = {**(settings.get("Volumes") or {}), **{path: {} for path in paths}}
        case User(user=user):
            new["User"] = user
        case Workdir(path=path):
            new["WorkingDir"] = directory(settings, path)
        case StopSignal(signal=signal):
            notation.signal_name(signal)  # refuses one that does not exist
            new["StopSignal"] = signal
        case HealthCheck():
            new["Healthcheck"] = _health_check(instruction)
        case Shell(command=words):
            new["Shell"] = list(words)
        case Onbuild(text=text):
            new["OnBuild"] = [*(settings.get("OnBuild") or []), text]
    return new


def with_variables(environment: list[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """``["A=1"]`` and ``("A", "2")`` → ``["A=2"]``: a variable keeps its place, new ones come last."""
    variables = {entry.partition("=")[0]: entry for entry in environment}
    variables.update({name: f"{name}={value}" for name, value in pairs})
    return list(variables.values())


def command(settings: Settings, instruction: Cmd | Entrypoint | every.Run) -> list[str]:
    """The words to execute: as they stand in the exec form, behind the shell in the shell form."""
    return dockerfile.program(instruction.command, instruction.exec_form, shell(settings))


def directory(settings: Settings, path: str) -> str:
    """WORKDIR's path: one that does not begin with ``/`` starts at the directory before."""
    return posixpath.normpath("/" + posixpath.join(settings.get("WorkingDir") or "/", path).lstrip("/"))


def _health_check(check: HealthCheck) -> dict[str, Any]:
    values = {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {key: value for key, value in values.items() if value}


# --- --change ------------------------------------------------------------------------------------


def with_changes(settings: Settings, texts: Iterable[str]) -> Settings:
    """*settings* after the instructions of ``--change``, for `commit` and `import`.

    Raises InvalidInput for what is malformed, or needs a container (RUN, COPY).
    """
    cmd_given = False
    for text in texts:
        try:
            instruction = _change(text, settings)
            settings = changed(settings, instruction, cmd_given=cmd_given)
        except InvalidInput as error:
            raise InvalidInput(f"--change {text!r}: {error.message}", hint=error.hint) from None
        cmd_given = cmd_given or isinstance(instruction, Cmd)
    return settings


def _change(text: str, settings: Settings) -> Instruction:
    word = text.split(None, 1)[0] if text.strip() else ""
    if word.lower() not in CHANGES:
        possible = ", ".join(sorted(each.upper() for each in CHANGES))
        raise InvalidInput(f"{word.upper() or 'nothing'} cannot be used here", hint=f"Possible: {possible}.")
    variables = dict(each.partition("=")[::2] for each in settings.get("Env") or [])
    return every.expanded(every.read(parser.parse_line(text)), variables)


# --- what history says ---------------------------------------------------------------------------


def described(instruction: Instruction, settings: Settings) -> str:
    """The text of an instruction in the history, word for word as Docker's classic builder writes it.

    *settings* are those before it. ``#(nop)`` is that builder's sign that nothing ran.
    """
    return " ".join([*shell(settings), "#(nop) ", _words(instruction, settings)])


def _words(instruction: Instruction, settings: Settings) -> str:
    match instruction:
        case Env(pairs=pairs) | Label(pairs=pairs):
            return " ".join([_keyword(instruction), *(f"{name}={value}" for name, value in pairs)])
        case Arg(pairs=arguments):
            shown = (name if value is None else f"{name}={value}" for name, value in arguments)
            return " ".join(["ARG", *shown])
        case Cmd() | Entrypoint():
            return f"{_keyword(instruction)} {_quoted(command(settings, instruction))}"
        case Shell(command=words):
            return f"SHELL {_quoted(words)}"
        case Expose(ports=ports):
            numbers = {port for text in ports for port in notation.exposed_ports(text)}
            return " ".join(["EXPOSE", *sorted(numbers)])
        case Volume(paths=paths):
            return f"VOLUME [{' '.join(paths)}]"
        case User(user=text) | StopSignal(signal=text) | Onbuild(text=text) | Maintainer(name=text):
            return f"{_keyword(instruction)} {text}"
        case Workdir(path=path):
            return f"WORKDIR {directory(settings, path)}"
        case HealthCheck():
            return f"HEALTHCHECK {json.dumps(_health_check(instruction), ensure_ascii=False)}"
    return instruction.node.original


def _keyword(instruction: Instruction) -> str:
    return instruction.node.keyword.upper()


def _quoted(words: Iterable[str]) -> str:
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"
