"""How Docker writes mounts down: ``-v /host:/inside:ro``, ``--mount type=bind,source=…``, ``--tmpfs /run``.

Pure functions from text to the fields of a mount (see containers/spec.py, Mount), shared by the command
line, notebooks, compose files and the Engine API. All raise InvalidInput, in Docker's words.
"""

from __future__ import annotations

import os
import re
from typing import Any

from minidock import notation
from minidock.errors import InvalidInput

PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
RECURSIVE = ("enabled", "disabled", "writable", "readonly")
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
# The modes of -v by kind: of each kind one word at most.
_MODES = (
    ("ro", "rw"),
    ("z", "Z"),  # labels for SELinux, which no kernel that we run on asks for
    ("nocopy",),
    ("consistent", "cached", "delegated", "default"),  # of Docker Desktop
    PROPAGATIONS,
)
_FLAGS = ("readonly", "ro", "bind-nonrecursive", "volume-nocopy")  # keys that may stand without a value


def check_volume_name(name: str) -> str:
    """*name* itself. Raises InvalidInput for what Docker's local driver refuses."""
    if len(name) == 1:
        raise InvalidInput("volume name is too short, names should be at least two alphanumeric characters")
    if not re.fullmatch(_NAME, name):
        raise InvalidInput(
            f'"{name}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed',
            hint="If you intended to pass a host directory, use an absolute path.",
        )
    return name


def volume(text: str) -> dict[str, Any]:
    """A ``-v``: ``/path`` is an anonymous volume, ``name:/path`` a named one, ``/host:/path`` a bind mount.

    The missing source of a bind mount becomes a directory.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidInput(f"invalid volume specification: '{text}'", hint="Write /host:/inside[:ro].")
    source, target, modes = ("", parts[0], "") if len(parts) == 1 else (*parts[:2], *parts[2:], "")[:3]
    if source.startswith((".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
    fields: dict[str, Any] = {
        "kind": "bind" if source.startswith("/") else "volume",
        "source": os.path.normpath(source) if source.startswith("/") else source,
        "target": _inside(target, text),
    }
    if fields["kind"] == "volume" and source:
        check_volume_name(source)
    if modes:
        fields["mode"] = modes
        _read_modes(fields, modes)
    if fields["kind"] == "bind":
        fields["create_source"] = True
    return fields


def _read_modes(fields: dict[str, Any], modes: str) -> None:
    seen: set[int] = set()
    for mode in modes.split(","):
        kind = next((number for number, known in enumerate(_MODES) if mode in known), None)
        if kind is None or kind in seen or (mode in PROPAGATIONS and fields["kind"] == "volume"):
            raise InvalidInput(
                f"invalid mode: {modes if kind in seen else mode}",
                hint="Modes: ro, rw, z, Z, nocopy; of host directories rprivate, rslave, rshared.",
            )
        seen.add(kind)
        if mode in ("ro", "rw"):
            fields["read_only"] = mode == "ro"
        elif mode in PROPAGATIONS:
            fields["propagation"] = mode
        elif mode == "nocopy":
            fields["no_copy"] = True


def mount(text: str) -> dict[str, Any]:
    """A ``--mount``: ``type=bind,source=/host,target=/inside,readonly``; a comma inside needs quotes."""
    import csv

    fields: dict[str, Any] = {"kind": "volume", "source": "", "target": ""}
    families: set[str] = set()  # bind, volume, tmpfs: those whose keys were used
    for part in next(csv.reader([text]), []):
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if not equals and key not in _FLAGS:
            raise InvalidInput(f"invalid field '{part}' must be a key=value pair")
        family = key.partition("-")[0]
        if family != key and family in ("bind", "volume", "tmpfs"):
            families.add(family)
        if not _take_key(fields, key, value if equals else "true"):
            raise InvalidInput(f"unexpected key '{key}' in '{part}'")
    return _checked_mount(fields, families, text)


def _take_key(fields: dict[str, Any], key: str, value: str) -> bool:
    """Work one ``key=value`` in; False when there is no such key."""
    if key == "type":
        fields["kind"] = value.lower()
    elif key in ("source", "src"):
        relative = value.startswith((".", "~"))
        fields["source"] = os.path.abspath(os.path.expanduser(value)) if relative else value
    elif key in ("target", "dst", "destination"):
        fields["target"] = value
    elif key in ("readonly", "ro"):
        fields["read_only"] = _boolean(key, value)
    elif key == "consistency":
        pass  # of Docker Desktop
    elif key == "bind-propagation":
        fields["propagation"] = _one_of(key, value, PROPAGATIONS)
    elif key == "bind-recursive":
        fields["recursive"] = _one_of(key, value, RECURSIVE)
    elif key == "bind-nonrecursive":
        fields["recursive"] = "disabled" if _boolean(key, value) else "enabled"
    elif key == "volume-nocopy":
        fields["no_copy"] = _boolean(key, value)
    elif key == "volume-driver":
        fields["driver"] = value
    elif key == "volume-subpath":
        fields["subpath"] = value
    elif key in ("volume-label", "volume-opt"):
        name, _, rest = value.partition("=")
        fields.setdefault("labels" if key == "volume-label" else "driver_options", {})[name] = rest
    elif key == "tmpfs-size":
        fields.setdefault("options", []).append(f"size={notation.size(value)}")
    elif key == "tmpfs-mode":
        if not re.fullmatch("[0-7]{1,4}", value):
            raise InvalidInput(f"invalid value for tmpfs-mode: {value}", hint="Write it in octal: 1777.")
        fields.setdefault("options", []).append(f"mode={value}")
    else:
        return False
    return True


def _boolean(key: str, value: str) -> bool:
    if value.lower() not in ("1", "t", "true", "0", "f", "false"):
        raise InvalidInput(f"invalid value for {key}: {value}")
    return value.lower() in ("1", "t", "true")


def _one_of(key: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InvalidInput(f"invalid value for {key}: {value}", hint=f"Known: {', '.join(known)}.")
    return value


def _checked_mount(fields: dict[str, Any], families: set[str], text: str) -> dict[str, Any]:
    kind = fields["kind"]
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidInput(f"invalid mount type: {kind!r}", hint="Types: bind, volume, tmpfs.")
    if not fields["target"]:
        raise InvalidInput("target is required")
    for family in sorted(families - {kind}):
        raise InvalidInput(f"cannot mix '{family}-*' options with mount type '{kind}'")
    fields["target"] = _inside(fields["target"], text)
    if kind == "bind" and not fields["source"].startswith("/"):
        raise InvalidInput('invalid mount config for type "bind": source must be an absolute path')
    if kind == "tmpfs" and fields["source"]:
        raise InvalidInput('invalid mount config for type "tmpfs": source must not be given')
    if kind == "volume" and fields["source"]:
        check_volume_name(fields["source"])
    elif fields.get("subpath"):
        raise InvalidInput('invalid mount config for type "volume": must not set Subpath of anonymous volume')
    recursive = fields.get("recursive")
    if recursive in ("writable", "readonly"):
        if not fields.get("read_only"):
            raise InvalidInput(
                f"option 'bind-recursive={recursive}' requires 'readonly' to be specified in conjunction"
            )
        if recursive == "readonly" and fields.get("propagation") != "rprivate":
            raise InvalidInput(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' "
                "to be specified in conjunction"
            )
    return fields


def tmpfs(text: str) -> dict[str, Any]:
    """A ``--tmpfs``: ``/run:size=64m,mode=1777``."""
    target, _, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    return {
        "kind": "tmpfs",
        "source": "",
        "target": _inside(target, text),
        "read_only": "ro" in words,
        "options": [word for word in words if word not in ("ro", "rw")],
    }


def _inside(target: str, text: str) -> str:
    if not target.startswith("/"):
        raise InvalidInput(
            f"invalid mount path: '{target}' mount path must be absolute", hint=f"It stands in {text!r}."
        )
    target = os.path.normpath(target)
    if target in ("/", "//"):
        raise InvalidInput("invalid specification: destination can't be '/'")
    return target
