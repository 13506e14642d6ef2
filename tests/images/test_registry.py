"""The registry's protocol, spoken with a real docker-registry and with a proxy that misbehaves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from image_samples import digest, sample
from proxy import Proxy
from registry_case import connect, running_registry, upload

from minidock import trace
from minidock.config import Config
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import auth, manifest, mirrors, registry, search, wire
from minidock.images.auth import Credentials, Denied
from minidock.images.session import Endpoint, RateLimit, Session, TooManyRequests


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path) as host:
        yield host


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with Proxy(server) as running:
        yield running


# ── blobs and manifests ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, 70_001])
def test_a_blob_travels_both_ways(server: str, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    talk = connect(server)
    assert not talk.has_blob("a/b", digest(content))
    talk.upload_blob("a/b", digest(content), size, io.BytesIO(content))
    assert talk.has_blob("a/b", digest(content))
    assert talk.blob("a/b", digest(content), size) == content


def test_a_large_blob_goes_in_chunks_and_survives_a_broken_one(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "UPLOAD_CHUNK", 1 << 20)
    content = hashlib.sha256(b"seed").digest() * (3 << 15)  # 3 MiB
    proxy.fault("/uploads/", method="PATCH", status=503, times=1)
    sent: list[int] = []
    connect(proxy.host).upload_blob("a", digest(content), len(content), io.BytesIO(content), sent.append)
    assert connect(proxy.host).blob("a", digest(content), len(content)) == content
    assert len(proxy.asked("PATCH", "/uploads/")) == 4
    assert sent[-1] == len(content)


def test_a_small_upload_that_fails_begins_anew(proxy: Proxy) -> None:
    proxy.fault("/uploads/", method="PUT", status=500, times=1)
    connect(proxy.host).upload_blob("a", digest(b"abc"), 3, io.BytesIO(b"abc"))
    assert connect(proxy.host).has_blob("a", digest(b"abc"))


def test_upload_of_other_bytes_than_promised_is_refused(server: str) -> None:
    with pytest.raises(MinidockError, match="digest"):
        connect(server).upload_blob("a", digest(b"abc"), 3, io.BytesIO(b"abd"))


def test_mounting_moves_no_bytes(proxy: Proxy) -> None:
    talk = connect(proxy.host)
    talk.upload_blob("from/here", digest(b"abc"), 3, io.BytesIO(b"abc"))
    assert talk.mount_blob("to/there", digest(b"abc"), "from/here")
    assert talk.blob("to/there", digest(b"abc"), 3) == b"abc"
    assert not talk.mount_blob("to/there", digest(b"xyz"), "from/here")


def test_a_manifest_is_checked_against_the_digest_asked_for(proxy: Proxy) -> None:
    image = sample()
    upload(proxy.host, "app", image)
    talk = connect(proxy.host)
    assert talk.manifest("app", image.digest)[0] == image.manifest
    proxy.fault("/manifests/", replace=image.manifest + b" ")
    with pytest.raises(MinidockError, match="digest mismatch"):
        talk.manifest("app", image.digest)
    with pytest.raises(MinidockError, match="digest mismatch"):
        talk.manifest("app", "latest")  # against the header that came with it


def test_a_manifest_over_four_mebibytes_is_not_read(proxy: Proxy) -> None:
    upload(proxy.host, "app", sample())
    proxy.fault("/manifests/", replace=b" " * (manifest.MAX_SIZE + 1))
    with pytest.raises(MinidockError, match="larger than 4194304 bytes"):
        connect(proxy.host).manifest("app", "latest")


def test_a_config_with_wrong_bytes_is_not_used(proxy: Proxy) -> None:
    connect(proxy.host).upload_blob("app", digest(b"x" * 40), 40, io.BytesIO(b"x" * 40))
    proxy.fault("/blobs/", flip=True)
    with pytest.raises(MinidockError, match="digest mismatch"):
        connect(proxy.host).blob("app", digest(b"x" * 40), 40)


def test_a_blob_larger_than_the_manifest_says_is_not_read(proxy: Proxy) -> None:
    connect(proxy.host).upload_blob("app", digest(b"x" * 40), 40, io.BytesIO(b"x" * 40))
    with pytest.raises(MinidockError, match="larger than 39 bytes"):
        connect(proxy.host).blob("app", digest(b"x" * 40), 39)


# ── listings and search ──────────────────────────────────────────────────────────────────────────────


def test_catalogue_and_tags_follow_the_pages(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PAGE", 2)
    names = [f"team/app{number}" for number in range(5)]
    for name in names:
        upload(server, name, sample())
    assert list(connect(server).catalogue()) == names
    assert list(connect(server).tags("team/app0")) == ["latest"]


def test_search_of_a_plain_registry_filters_and_says_so(server: str, tmp_path: Path) -> None:
    for name in ("web", "team/webapp", "database"):
        upload(server, name, sample())
    found = search.search(f"{server}/WEB", Config(root=tmp_path))
    assert [each.name for each in found.results] == [f"{server}/team/webapp", f"{server}/web"]
    assert "no search service" in found.note
    assert len(search.search(f"{server}/web", Config(root=tmp_path), limit=1).results) == 1


def test_search_without_the_hub_looks_into_the_mirror(server: str, tmp_path: Path) -> None:
    upload(server, "library/busybox", sample())
    found = search.search("busy", Config(root=tmp_path, registry_mirrors=(f"http://{server}",)))
    assert [(each.name, each.official) for each in found.results] == [("busybox", True)]
    assert "Docker Hub cannot be reached" in found.note


def test_search_on_the_hub(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"results": [{"name": "nginx", "description": None, "star_count": 7, "is_official": True}]}
    proxy.fault("/v1/search", status=200, body=json.dumps(answer).encode())
    monkeypatch.setattr(search, "HUB_SEARCH", proxy.url)
    found = search.search("nginx", Config(root=tmp_path))
    assert found.results == [search.Result("nginx", "", 7, True)]
    assert found.note == ""
    assert proxy.requests[0].path == "/v1/search?q=nginx&n=25"


# ── who asks ─────────────────────────────────────────────────────────────────────────────────────────


def test_challenges_are_parsed() -> None:
    header = 'Bearer realm="https://auth.example/token",service="a, \\"b\\"",scope="repository:x:pull,push"'
    (bearer,) = auth.parse_challenges([header])
    assert (bearer.scheme, bearer.realm) == ("bearer", "https://auth.example/token")
    assert (bearer.service, bearer.scope) == ('a, "b"', "repository:x:pull,push")
    both = auth.parse_challenges(['Basic realm="r", BEARER realm=x , error="insufficient_scope"'])
    assert [(each.scheme, each.realm) for each in both] == [("basic", "r"), ("bearer", "x")]
    assert both[1].error == "insufficient_scope"
    assert auth.parse_challenges(["Negotiate"]) == [auth.Challenge("negotiate")]
    assert auth.parse_challenges(["", "=,="]) == []


def test_an_anonymous_token_is_fetched_once_and_reused(proxy: Proxy) -> None:
    image = sample()
    upload(proxy.host, "app", image)
    proxy.bearer, proxy.requests = True, []
    talk = connect(proxy.host)
    for _ in range(3):
        talk.manifest("app", "latest")
    (asked,) = proxy.asked("GET", "/token")
    assert asked.path == "/token?service=test-registry&scope=repository%3Aapp%3Apull"
    assert "Authorization" not in asked.headers
    assert len(proxy.asked("GET", "/manifests/")) == 4  # the first one met the challenge


def test_an_expired_token_is_replaced(proxy: Proxy) -> None:
    upload(proxy.host, "app", sample())
    proxy.bearer = True
    talk = connect(proxy.host)
    talk.manifest("app", "latest")
    (scope,) = talk.session.tokens
    assert time.time() + 280 < talk.session.tokens[scope].expires < time.time() + 300
    talk.session.tokens[scope] = replace(talk.session.tokens[scope], expires=time.time())
    talk.manifest("app", "latest")
    assert len(proxy.asked("GET", "/token")) == 2


def test_a_token_withdrawn_early_is_replaced(proxy: Proxy) -> None:
    upload(proxy.host, "app", sample())
    proxy.bearer = True
    talk = connect(proxy.host)
    talk.manifest("app", "latest")
    proxy.tokens.clear()
    talk.manifest("app", "latest")
    assert len(proxy.asked("GET", "/token")) == 2


def test_push_and_mount_ask_for_their_scopes(proxy: Proxy) -> None:
    proxy.bearer, proxy.users = True, {"ann": "secret"}
    talk = connect(proxy.host, Credentials("ann", "secret"))
    talk.upload_blob("one", digest(b"abc"), 3, io.BytesIO(b"abc"))
    assert talk.mount_blob("two", digest(b"abc"), "one")
    paths = [each.path for each in proxy.asked("GET", "/token")]
    assert any(
        "repository%3Atwo%3Apull%2Cpush" in path and "repository%3Aone%3Apull" in path for path in paths
    )


def test_a_wrong_password_is_denied_in_one_line(proxy: Proxy) -> None:
    proxy.bearer, proxy.users = True, {"ann": "secret"}
    with pytest.raises(Denied, match="does not accept the password of 'ann'") as caught:
        connect(proxy.host, Credentials("ann", "wrong")).manifest("app", "latest")
    assert "wrong" not in str(caught.value).replace("wrong password", "")


def test_basic_authentication(proxy: Proxy) -> None:
    upload(proxy.host, "app", sample())
    proxy.users = {"ann": "s3cret:with:colons"}
    connect(proxy.host, Credentials("ann", "s3cret:with:colons")).manifest("app", "latest")
    with pytest.raises(Denied, match="pull access denied"):
        connect(proxy.host).manifest("app", "latest")
    with pytest.raises(Denied, match="pull access denied"):
        connect(proxy.host, Credentials("ann", "other")).manifest("app", "latest")


def test_a_password_is_not_carried_to_a_plain_http_token_server() -> None:
    challenge = auth.Challenge("bearer", "http://evil.example/token")
    with pytest.raises(MinidockError, match="not on https"):
        auth.check_realm(challenge, "https://registry.example", trusted=False)


def test_a_redirect_to_another_host_gets_no_authorization(proxy: Proxy, server: str) -> None:
    image = sample()
    upload(proxy.host, "app", image)
    with Proxy(server) as storage:
        proxy.users = {"ann": "secret"}
        proxy.fault("/blobs/", redirect=storage.url)
        content = connect(proxy.host, Credentials("ann", "secret")).blob("app", image.id, len(image.config))
        assert content == image.config
        assert proxy.asked("GET", "/blobs/")[-1].headers["Authorization"].startswith("Basic ")
        assert "Authorization" not in storage.requests[0].headers


def test_endless_redirects_end(proxy: Proxy) -> None:
    proxy.fault("/blobs/", redirect=proxy.url)
    with pytest.raises(MinidockError, match="redirects"):
        connect(proxy.host).blob("app", digest(b""), 0)


# ── refusals, in one line ────────────────────────────────────────────────────────────────────────────


def test_an_unknown_tag_and_an_unknown_repository(server: str) -> None:
    upload(server, "app", sample())
    with pytest.raises(NotFound, match=f"^manifest for {server}/app:nosuch not found: manifest unknown$"):
        connect(server).manifest("app", "nosuch")
    with pytest.raises(NotFound, match=f"^manifest for {server}/other:latest not found"):
        connect(server).manifest("other", "latest")


def test_access_denied_uses_the_words_people_know(proxy: Proxy) -> None:
    proxy.bearer, proxy.users, proxy.public = True, {"ann": "secret"}, False
    with pytest.raises(Denied) as caught:
        connect(proxy.host).manifest("private", "latest")
    known = "repository does not exist or may require 'minidock login'"
    assert str(caught.value) == f"pull access denied for {proxy.host}/private, {known}"


def test_a_rate_limit_says_when_and_what_helps(proxy: Proxy) -> None:
    limits = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    proxy.fault("/manifests/", status=429, headers=limits | {"Retry-After": "30"})
    with pytest.raises(TooManyRequests, match=r"rate limit \(100 pulls in 6 h\)") as caught:
        connect(proxy.host).manifest("app", "latest")
    assert caught.value.hint and "30 s" in caught.value.hint and "registry-mirrors" in caught.value.hint
    assert len(proxy.requests) == 1  # asking again would only make it worse


def test_rate_limit_headers_are_kept(proxy: Proxy) -> None:
    upload(proxy.host, "app", sample())
    proxy.headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}
    talk = connect(proxy.host)
    talk.manifest("app", "latest")
    assert talk.session.rate_limit == RateLimit(100, 76, 21600)
    assert str(talk.session.rate_limit) == "76 of 100 pulls left in 6 h"


def test_a_server_error_is_tried_again_but_not_forever(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.time, "sleep", lambda _: None)
    upload(proxy.host, "app", sample())
    proxy.fault("/manifests/", status=503, times=2)
    connect(proxy.host).manifest("app", "latest")
    proxy.requests.clear()
    proxy.fault("/manifests/", status=500)
    with pytest.raises(MinidockError, match="500"):
        connect(proxy.host).manifest("app", "latest")
    assert len(proxy.requests) == 4


def test_a_client_error_is_final(proxy: Proxy) -> None:
    proxy.fault(
        "/manifests/", status=400, body=b'{"errors":[{"code":"TAG_INVALID","message":"tag invalid"}]}'
    )
    with pytest.raises(MinidockError, match="tag invalid"):
        connect(proxy.host).manifest("app", "latest")
    assert len(proxy.requests) == 1


def test_what_is_no_registry_is_called_so(proxy: Proxy) -> None:
    proxy.fault(".", status=404, body=b"<html>lost</html>")
    with pytest.raises(MinidockError, match="not a registry"):
        connect(proxy.host).manifest("app", "latest")


def test_unreachable_hosts(tmp_path: Path) -> None:
    with pytest.raises(wire.Unreachable, match=r"^127.0.0.1:9: connection refused$"):
        connect("127.0.0.1:9").ping()
    with pytest.raises(wire.Unreachable, match=r"nosuch.invalid: no such host|nosuch.invalid: "):
        connect("nosuch.invalid").ping()


def test_plain_http_stays_at_home() -> None:
    assert mirrors.origin("registry.example:5000").url == "https://registry.example:5000"
    assert mirrors.origin("registry.example:5000", ("registry.example:5000",)).url.startswith("http://")
    assert mirrors.origin("10.1.2.3:5000", ("10.1.0.0/16",)).url == "http://10.1.2.3:5000"
    assert mirrors.origin("10.2.2.3:5000", ("10.1.0.0/16",)).url == "https://10.2.2.3:5000"
    assert mirrors.origin("localhost:5000").url == "http://localhost:5000"
    assert mirrors.origin("[::1]:5000").url == "http://[::1]:5000"
    assert mirrors.origin("127.0.0.1.example").url.startswith("https://")
    with pytest.raises(MinidockError, match="plain HTTP is spoken only"):
        Session(Endpoint("docker.io", "http://mirror.example", mirror=True))
    with pytest.raises(InvalidInput, match="registry-mirrors"):
        mirrors.endpoints("docker.io", Config(registry_mirrors=("mirror.example",)))


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tls_registry(server: str, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The registry behind TLS, on a port of its own, with a certificate nobody has heard of."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*request, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    proxy = Proxy(server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy.server.socket = context.wrap_socket(proxy.server.socket, server_side=True)
    with proxy:
        yield proxy.server.server_address[1], certificate


def test_a_trusted_host_may_speak_tls_too(tls_registry: tuple[int, Path], server: str) -> None:
    upload(server, "app", sample())
    connect(f"localhost:{tls_registry[0]}").manifest("app", "latest")


def test_an_unknown_authority_is_refused_and_named(
    tls_registry: tuple[int, Path], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(server, "app", sample())
    port, certificate = tls_registry
    untrusting = Endpoint(f"localhost:{port}", f"https://localhost:{port}")
    wire._tls.cache_clear()
    with pytest.raises(wire.Unreachable, match="certificate is not trusted"):
        registry.Registry(Session(untrusting)).manifest("app", "latest")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    wire._tls.cache_clear()
    registry.Registry(Session(untrusting)).manifest("app", "latest")
    wire._tls.cache_clear()


def test_https_asked_of_a_plain_registry_says_what_to_do(server: str) -> None:
    with pytest.raises(wire.Unreachable, match="no TLS there") as caught:
        registry.Registry(Session(Endpoint(server, f"https://{server}"))).ping()
    assert caught.value.hint and "insecure-registries" in caught.value.hint


def test_what_speaks_no_http_is_called_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):  # the end of the listener
                while True:
                    connection = listener.accept()[0]
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(wire.Unreachable, match="not an HTTP server"):
            connect(f"127.0.0.1:{listener.getsockname()[1]}").ping()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()  # else it would accept on the number of a socket that another test opens


# ── the trace ────────────────────────────────────────────────────────────────────────────────────────


def test_every_request_is_a_step_without_secrets(proxy: Proxy) -> None:
    proxy.bearer, proxy.users = True, {"ann": "pa55word"}
    with trace.recording(trace.Recorder()) as recorder:
        talk = connect(proxy.host, Credentials("ann", "pa55word"))
        talk.upload_blob("app", digest(b"abc"), 3, io.BytesIO(b"abc"))
        talk.blob("app", digest(b"abc"), 3)
    assert [step.operation for step in recorder.steps] == ["POST", "GET", "POST", "PUT", "GET", "GET", "GET"]
    assert all(step.lesson == 6 and step.why and step.result for step in recorder.steps)
    assert recorder.steps[-1].result == "200 OK, 3 bytes"
    text = str(recorder.steps)
    assert "pa55word" not in text and "token-" not in text and "_state" not in text


def test_urls_are_shown_without_secrets() -> None:
    shown = wire.shown("https://user:pw@store.example/b?X-Amz-Signature=abc&n=3&last=x")
    assert shown == "https://store.example/b?n=3&last=x&…"
    assert wire.shown("http://h/p?_state=abc") == "http://h/p?…"
