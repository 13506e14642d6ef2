"""Login and logout: the file that remembers passwords, in Docker's own format.

``~/.minidock/config.json`` (mode 0600) holds ``{"auths": {"host:5000": {"auth": base64("user:password")}}}``.
Base64 is no encryption: the file's mode is all the protection there is, and login says so. What `docker
login` saved in ``~/.docker/config.json`` is read too, never written.

Source: docker-login(1), "Credential stores"; the format of Docker's config.json.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Any

from minidock import files
from minidock.errors import InvalidInput, NotFound
from minidock.images import mirrors
from minidock.images.auth import Credentials, Denied
from minidock.images.distribution import DEFAULT_DOMAIN
from minidock.images.registry import Registry
from minidock.images.session import Session

HUB_KEY = "https://index.docker.io/v1/"  # how Docker has called the Hub in this file since 2013
_ADDRESS = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_HUB_NAMES = frozenset((DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io", HUB_KEY))


def config_file() -> Path:
    """Where login writes."""
    return Path.home() / ".minidock" / "config.json"


def server_name(text: str) -> str:
    """``https://host:5000/v2/`` → ``host:5000``; every name of the Hub, and "", → ``docker.io``."""
    if text in ("", *_HUB_NAMES):
        return DEFAULT_DOMAIN
    host = text.partition("://")[2] or text
    host = host.partition("/")[0]
    if not host or "@" in host:
        raise InvalidInput(
            f"{text!r}: not a registry", hint="Name a host: minidock login registry.example:5000"
        )
    return DEFAULT_DOMAIN if host in _HUB_NAMES else host.lower()


def find(server: str) -> Credentials | None:
    """What is known for *server* (a reference's domain); ours first, then Docker's. None: anonymous."""
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    for file in (config_file(), docker):
        for key, entry in _auths(file, lenient=file == docker).items():
            if server_name(key) == server and isinstance(entry, dict) and (found := _read(entry)):
                return found
    return None


def login(
    server: str,
    username: str,
    password: str,
    *,
    trusted_hosts: tuple[str, ...] = (),
    file: Path | None = None,
) -> Path:
    """Try the password, and remember it only if the registry takes it. Returns the file.

    Raises Denied when it does not. Source: docker-login(1).
    """
    check(server, username, password, trusted_hosts=trusted_hosts)
    secret = base64.b64encode(f"{username}:{password}".encode()).decode()
    file = file or config_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _change(file, server_name(server), {"auth": secret})
    return file


def check(server: str, username: str, password: str, *, trusted_hosts: tuple[str, ...] = ()) -> None:
    """Ask a registry whether it takes a password. Raises Denied when it does not."""
    name = server_name(server)
    if not _ADDRESS.fullmatch(name):
        raise InvalidInput(f"{server!r}: not a registry", hint="Name a host: registry.example:5000")
    if not username or not password:
        raise InvalidInput("login needs a user name and a password")
    if ":" in username:
        raise InvalidInput(f"user name {username!r}: a colon cannot be part of it")
    credentials = Credentials(username, password)
    session = Session(mirrors.origin(name, trusted_hosts), credentials)
    try:
        Registry(session).ping()
    except Denied as error:
        raise Denied(
            f"{session.endpoint.host}: unauthorized: incorrect username or password", hint=str(error)
        ) from None


def given(entry: dict[str, Any] | None) -> Credentials | None:
    """What a client of the Engine API sends along, in the form of an entry of that file; None: nothing."""
    return _read(entry) if entry else None


def logout(server: str, *, file: Path | None = None) -> bool:
    """Forget *server*; False when it was not known."""
    file = file or config_file()
    name = server_name(server)
    if not any(server_name(key) == name for key in _auths(file)):
        return False
    _change(file, name, None)
    return True


def _change(file: Path, name: str, entry: dict[str, str] | None) -> None:
    """Replace one entry; what else stands in the file (also what we do not know) stays."""
    with files.lock(file.with_name("config.lock")):
        document = _document(file)
        kept = {key: value for key, value in _auths(file).items() if server_name(key) != name}
        if entry is not None:
            kept[HUB_KEY if name == DEFAULT_DOMAIN else name] = entry
        document["auths"] = kept
        files.write_json(file, document, mode=0o600)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = files.read_json(file)
    except NotFound:
        return {}
    if not isinstance(document, dict):
        raise InvalidInput(f"{file}: must be a JSON object")
    return document


def _auths(file: Path, *, lenient: bool = False) -> dict[str, Any]:
    try:
        auths = _document(file).get("auths")
    except Exception:
        if lenient:  # Docker's file is Docker's business
            return {}
        raise
    return auths if isinstance(auths, dict) else {}


def _read(entry: dict[str, Any]) -> Credentials | None:
    try:
        username, _, password = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    token = str(entry.get("identitytoken") or "")
    username = username or str(entry.get("username") or "")
    password = password.rstrip("\0") or str(entry.get("password") or "")
    return Credentials(username, password, token) if token or (username and password) else None
