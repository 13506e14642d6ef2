"""Login and logout: a file in Docker's format that only its owner can read."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_samples import sample
from proxy import Proxy
from registry_case import Puller, running_registry, upload

from minidock import files
from minidock.errors import InvalidInput, MinidockError
from minidock.images import credentials
from minidock.images.auth import Credentials, Denied
from minidock.images.wire import Unreachable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with running_registry(tmp_path) as host, Proxy(host) as running:
        yield running


@pytest.mark.parametrize("bearer", [False, True], ids=["basic", "bearer"])
def test_login_pull_logout(proxy: Proxy, root: Path, home: Path, bearer: bool) -> None:
    upload(proxy.host, "app", sample())
    proxy.users, proxy.bearer, proxy.public = {"ann": "secret:1"}, bearer, False
    with pytest.raises(Denied):
        Puller(root).pull(f"{proxy.host}/app")
    file = credentials.login(proxy.host, "ann", "secret:1")
    assert file == home / ".minidock/config.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert files.read_json(file) == {
        "auths": {proxy.host: {"auth": base64.b64encode(b"ann:secret:1").decode()}}
    }
    Puller(root).pull(f"{proxy.host}/app")
    assert credentials.logout(proxy.host)
    assert credentials.find(proxy.host) is None
    assert not credentials.logout(proxy.host)


@pytest.mark.parametrize("bearer", [False, True], ids=["basic", "bearer"])
def test_a_wrong_password_is_not_saved(proxy: Proxy, home: Path, bearer: bool) -> None:
    proxy.users, proxy.bearer = {"ann": "secret"}, bearer
    with pytest.raises(Denied, match="unauthorized: incorrect username or password"):
        credentials.login(proxy.host, "ann", "wrong")
    assert not (home / ".minidock").exists()


def test_login_to_nobody(home: Path) -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        credentials.login("127.0.0.1:9", "ann", "secret")
    with pytest.raises(InvalidInput):
        credentials.login("127.0.0.1:9", "ann", "")
    with pytest.raises(InvalidInput, match="colon"):
        credentials.login("127.0.0.1:9", "an:n", "x")
    assert not (home / ".minidock").exists()


def test_other_entries_stay(proxy: Proxy, home: Path) -> None:
    file = home / ".minidock/config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {"other:5000": {"auth": "b3RoZXI6cHc="}}, "psFormat": "x"}))
    credentials.login(proxy.host, "ann", "secret")
    assert files.read_json(file)["psFormat"] == "x"
    assert credentials.find("other:5000") == Credentials("other", "pw")
    credentials.logout(proxy.host)
    assert list(files.read_json(file)["auths"]) == ["other:5000"]


def test_what_docker_saved_is_read_but_ours_counts_first(home: Path) -> None:
    def entry(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    (home / ".docker").mkdir()
    auths = {
        credentials.HUB_KEY: entry("ann:hub"),
        "https://host:5000/v2/": entry("bob:one"),
        "tok:5000": {**entry("cid:"), "identitytoken": "refresh"},
        "empty:5000": {},
        "broken:5000": {"auth": "%%%"},
    }
    (home / ".docker/config.json").write_text(json.dumps({"auths": auths, "credsStore": "desktop"}))
    assert credentials.find("docker.io") == Credentials("ann", "hub")
    assert credentials.find("host:5000") == Credentials("bob", "one")
    assert credentials.find("tok:5000") == Credentials("cid", "", "refresh")
    assert credentials.find("empty:5000") is credentials.find("broken:5000") is None
    (home / ".minidock").mkdir()
    (home / ".minidock/config.json").write_text(json.dumps({"auths": {"docker.io": entry("me:mine")}}))
    assert credentials.find("docker.io") == Credentials("me", "mine")


def test_damaged_files(home: Path) -> None:
    for name in (".docker", ".minidock"):
        (home / name).mkdir()
    (home / ".docker/config.json").write_text("{")
    assert credentials.find("docker.io") is None  # Docker's business
    (home / ".minidock/config.json").write_text("{")
    with pytest.raises(MinidockError, match="not valid JSON"):
        credentials.find("docker.io")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://host:5000/v2/", "host:5000"),
        ("Host:5000", "host:5000"),
    ],
)
def test_names_of_servers(typed: str, name: str) -> None:
    assert credentials.server_name(typed) == name


def test_secrets_stay_out_of_representations() -> None:
    assert "secret" not in repr(Credentials("ann", "secret", "secret-token"))
