"""The configuration: ``/etc/minidock/daemon.json``, with Docker's own keys."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidock.errors import InvalidInput
from minidock.files import read_json

CONFIG_FILE = Path("/etc/minidock/daemon.json")
DEFAULT_ROOT = Path("/var/lib/minidock")
LESSONS = "lessons"  # in a root: the roots of single lessons

_KEYS: dict[str, type] = {
    "registry-mirrors": list,
    "insecure-registries": list,
    "data-root": str,
    "max-concurrent-downloads": int,
    "max-layer-size": int,
    "userns-remap": str,
    "proxies": dict,
}
# The keys in "proxies", and the variables of the environment that mean the same.
PROXIES = {"http-proxy": "HTTP_PROXY", "https-proxy": "HTTPS_PROXY", "no-proxy": "NO_PROXY"}


@dataclass(frozen=True, slots=True)
class Config:
    """What daemon.json says.

    registry_mirrors: base URLs asked before Docker Hub. insecure_registries: hosts or CIDR blocks
    reached over plain HTTP (loopback always may). max_layer_size: bytes that one unpacked layer may
    take, the bound against decompression bombs. userns_remap: whose subordinate ids the containers' users
    are (see containers/subordinate.py); empty: the host's own. proxies: between us and registries, under
    Docker's keys http-proxy, https-proxy and no-proxy.
    """

    root: Path = DEFAULT_ROOT
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_layer_size: int = 64 << 30
    userns_remap: str = ""
    proxies: dict[str, str] = field(default_factory=dict)
    source: Path = field(default=CONFIG_FILE)


def load(root: Path | None = None, file: Path | None = None) -> Config:
    """Read the configuration.

    The root directory is, first found: *root* (``--root``), ``MINIDOCK_ROOT``, ``data-root`` in the
    file, ``/var/lib/minidock``. *file* defaults to ``MINIDOCK_CONFIG`` or ``/etc/minidock/daemon.json``;
    a missing file means the defaults. Raises InvalidInput for an unknown key or a wrong type.
    """
    source = file or Path(os.environ.get("MINIDOCK_CONFIG") or CONFIG_FILE)
    values: dict[str, Any] = read_json(source) if source.exists() else {}
    if not isinstance(values, dict):
        raise InvalidInput(f"{source}: must be a JSON object", hint='Start with {"registry-mirrors": []}.')
    for key, value in values.items():
        if key not in _KEYS:
            raise InvalidInput(
                f"{source}: unknown key {key!r}", hint=f"Known keys: {', '.join(sorted(_KEYS))}."
            )
        if not isinstance(value, _KEYS[key]):
            raise InvalidInput(f"{source}: {key} must be a {_KEYS[key].__name__}, not {value!r}")
    proxies = values.get("proxies", {})
    for key, value in proxies.items():
        if key not in PROXIES or not isinstance(value, str):
            raise InvalidInput(f"{source}: proxies: {key!r}: {value!r}", hint=f"Keys: {', '.join(PROXIES)}.")
    chosen = root or os.environ.get("MINIDOCK_ROOT") or values.get("data-root") or DEFAULT_ROOT
    return Config(
        root=Path(chosen).absolute(),
        registry_mirrors=tuple(values.get("registry-mirrors", ())),
        insecure_registries=tuple(values.get("insecure-registries", ())),
        max_concurrent_downloads=values.get("max-concurrent-downloads", 3),
        max_layer_size=values.get("max-layer-size", 64 << 30),
        userns_remap=values.get("userns-remap", ""),
        proxies=proxies,
        source=source,
    )
