"""What a build is asked for beside its Dockerfile: the flags of `docker build`, as values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minidock.containers import wiring
from minidock.containers.spec import Limits
from minidock.errors import InvalidInput, NotFound

MOST_SECRET = 500 << 10  # bytes; BuildKit's limit


@dataclass(frozen=True, slots=True)
class Options:
    """*tags* are names for the image; *secrets* the values by their ids. *newest*: SOURCE_DATE_EPOCH.

    *network* is where RUN is, unless it says more itself: ``none``, ``host``, ``container:ID`` or a network's
    name; *extra_hosts* (``name:address``) are for its /etc/hosts. *explain*: find out for each layer what
    changed in it; that costs a walk through its files.
    """

    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    cache_from: tuple[str, ...] = ()
    pull: bool = False
    platform: str = ""
    network: str = wiring.DEFAULT
    extra_hosts: tuple[str, ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    squash: bool = False
    limits: Limits = field(default_factory=Limits)
    shm_size: int = 64 << 20  # bytes
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    explain: bool = False
    userns_remap: str = ""  # as in daemon.json
    newest: int | None = None  # seconds since the epoch


def read_secrets(texts: Iterable[str]) -> dict[str, bytes]:
    """``id=token,src=file`` and ``id=token,env=NAME`` → the secrets by their ids.

    Without either, the variable with the id as its name counts, else the file. Raises InvalidInput,
    NotFound. Source: docker build --secret.
    """
    return dict(map(_secret, texts))


def _secret(text: str) -> tuple[str, bytes]:
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = {"source": "src"}.get(key.strip().lower(), key.strip().lower())
        if not equals or key not in ("id", "src", "env", "type"):
            raise InvalidInput(f"--secret {text}: unexpected '{part}'", hint="Write id=NAME,src=FILE.")
        values[key] = value
    name = values.get("id") or os.path.basename(values.get("src", ""))
    if not name:
        raise InvalidInput(f"--secret {text}: the id is missing", hint="Write id=NAME,src=FILE.")
    variable = values.get("env") or ("" if "src" in values else name)
    if values.get("type") == "env" or variable in os.environ or "env" in values:
        if variable not in os.environ:
            raise NotFound(f"--secret {text}: the environment has no {variable}")
        return name, os.environ[variable].encode(errors="surrogateescape")
    return name, _read(Path(values.get("src") or name), text)


def _read(path: Path, text: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_SECRET + 1)
    except OSError as error:
        raise NotFound(f"--secret {text}: {path}: {(error.strerror or '').lower()}") from None
    if len(content) > MOST_SECRET:
        raise InvalidInput(f"--secret {text}: {path} is larger than {MOST_SECRET} bytes")
    return content


def newest_time(build_args: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH, from ``--build-arg`` or the environment: the latest time that shows in the image.

    Seconds since the epoch; None when it is not set. Source: reproducible-builds.org.
    """
    text = build_args.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,11}", text):
        raise InvalidInput(f"SOURCE_DATE_EPOCH: {text!r} is no number of seconds")
    return int(text)
