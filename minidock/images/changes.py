"""``--change``: a Dockerfile instruction applied to an image's config, for `import` and `commit`.

Source: docker import, docker commit ("Supported Dockerfile instructions").
"""

from __future__ import annotations

import json
from typing import Any

from minidock.errors import InvalidInput

Settings = dict[str, Any]


def apply(settings: Settings, instruction: str) -> None:
    """Change *settings*, the ``config`` member of an image's config, as *instruction* says.

    Raises InvalidInput for an instruction that is unknown here or malformed.
    """
    word, _, rest = instruction.strip().partition(" ")
    change = _CHANGES.get(word.upper())
    if change is None:
        raise InvalidInput(
            f"--change {instruction!r}: {word.upper() or 'nothing'} cannot be used here",
            hint=f"Possible: {', '.join(sorted(_CHANGES))}.",
        )
    rest = rest.strip()
    if not rest:
        raise InvalidInput(f"--change {instruction!r}: {word.upper()} needs an argument")
    change(settings, rest)


def _cmd(settings: Settings, text: str) -> None:
    settings["Cmd"] = _command(text)


def _entrypoint(settings: Settings, text: str) -> None:
    settings["Entrypoint"] = _command(text)


def _env(settings: Settings, text: str) -> None:
    variables = {entry.partition("=")[0]: entry for entry in settings.get("Env") or []}
    variables.update({key: f"{key}={value}" for key, value in _pairs("ENV", text)})
    settings["Env"] = list(variables.values())


def _label(settings: Settings, text: str) -> None:
    settings["Labels"] = {**(settings.get("Labels") or {}), **dict(_pairs("LABEL", text))}


def _expose(settings: Settings, text: str) -> None:
    ports = dict(settings.get("ExposedPorts") or {})
    for port in text.split():
        number, _, protocol = port.partition("/")
        if not number.isdecimal() or not 0 < int(number) < 65536:
            raise InvalidInput(f"--change EXPOSE: {port!r} is no port", hint="For example 80 or 53/udp.")
        ports[f"{int(number)}/{protocol.lower() or 'tcp'}"] = {}
    settings["ExposedPorts"] = ports


def _volume(settings: Settings, text: str) -> None:
    paths = _json_list(text) or _words(text)
    settings["Volumes"] = {**(settings.get("Volumes") or {}), **{path: {} for path in paths}}


def _workdir(settings: Settings, text: str) -> None:
    import posixpath

    settings["WorkingDir"] = posixpath.normpath(posixpath.join(settings.get("WorkingDir") or "/", text))


def _user(settings: Settings, text: str) -> None:
    settings["User"] = text


def _stop_signal(settings: Settings, text: str) -> None:
    settings["StopSignal"] = text


def _onbuild(settings: Settings, text: str) -> None:
    settings["OnBuild"] = [*(settings.get("OnBuild") or []), text]


_CHANGES = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _command(text: str) -> list[str]:
    """``["a", "b"]`` as it stands (exec form); anything else is for a shell (shell form)."""
    return _json_list(text) or ["/bin/sh", "-c", text]


def _json_list(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except ValueError:
        return []
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else []


def _pairs(instruction: str, text: str) -> list[tuple[str, str]]:
    """``a=1 b="2 3"`` or, the old form, ``a 1``."""
    words = _words(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise InvalidInput(f"--change {instruction}: {text!r} gives no value")
        return [(key, value.strip())]
    pairs = [word.partition("=") for word in words]
    if any(not key or not sign for key, sign, _ in pairs):
        raise InvalidInput(f"--change {instruction}: {text!r} is not a list of name=value")
    return [(key, value) for key, _, value in pairs]


def _words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"--change: {text!r}: {error}") from None
