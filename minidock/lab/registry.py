"""A registry small enough to read, for checks and lessons: one image, a token server, planned trouble.

It serves what ``minidock save`` wrote, and speaks the half of the protocol that a pull needs. As on
Docker Hub nobody gets anything without a token, and one name stands for several platforms. A blob's first
answer can be cut in the middle, as on a bad line::

    with TinyRegistry(Path("image.tar"), cut_after=1000) as registry:
        ...                                 # pull from registry.host
        registry.requests                   # what was asked, in order
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
TOKEN = "a-token-for-pulling"
OTHERS = ("linux/s390x", "windows/amd64")  # offered first, and they lead nowhere


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its method and path, and the headers Authorization and Range ("" when not sent)."""

    method: str
    path: str
    authorization: str
    range: str


class TinyRegistry:
    """Listens on 127.0.0.1 until the ``with`` block ends. *cut_after*: bytes of a blob's first answer."""

    def __init__(self, archive: Path, *, cut_after: int = 0) -> None:
        self.cut_after = cut_after
        self.requests: list[Asked] = []
        self.blobs: dict[str, bytes] = {}
        with tarfile.open(archive) as members:
            for member in members:
                content = members.extractfile(member)
                if content and member.name.startswith("blobs/sha256/"):
                    self.blobs["sha256:" + member.name.rpartition("/")[2]] = content.read()
                elif content and member.name == "index.json":
                    self.manifest: dict[str, Any] = json.loads(content.read())["manifests"][0]
        self.index = json.dumps(self._index()).encode()
        self.whole: set[str] = set()  # blobs whose next answer is not cut any more
        owner = self

        class Handler(_Handler):
            registry = owner

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def _index(self) -> dict[str, Any]:
        """A list of platforms; the archive's own comes last."""
        config = json.loads(self.blobs[json.loads(self.blobs[self.manifest["digest"]])["config"]["digest"]])
        entries = []
        for text in (*OTHERS, f"{config['os']}/{config['architecture']}"):
            system, architecture = text.split("/")
            entry = {key: self.manifest[key] for key in ("mediaType", "size")}
            entry["digest"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
            entries.append(entry | {"platform": {"os": system, "architecture": architecture}})
        entries[-1]["digest"] = self.manifest["digest"]
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}

    def __enter__(self) -> TinyRegistry:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up early is its own business."""


class _Handler(BaseHTTPRequestHandler):
    registry: TinyRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        registry, url = self.registry, urlsplit(self.path)
        given = self.headers.get("Authorization", "")
        registry.requests.append(Asked("GET", self.path, given, self.headers.get("Range", "")))
        if url.path == "/token":
            wanted = parse_qs(url.query)
            right = wanted.get("service") == ["tiny"] and "scope" in wanted
            self._answer(200 if right else 400, json.dumps({"access_token": TOKEN} if right else {}).encode())
        elif given != f"Bearer {TOKEN}":
            name = re.sub(r"/(manifests|blobs)/.*", "", url.path.removeprefix("/v2/"))
            scope = f"repository:{name}:pull,push"
            challenge = f'Bearer realm="http://{registry.host}/token",service="tiny",scope="{scope}"'
            self._answer(401, b"{}", {"WWW-Authenticate": challenge})
        elif "/manifests/sha256:" in url.path:
            self._document(url.path.rpartition("/")[2], registry.manifest["mediaType"])
        elif "/manifests/" in url.path:
            self._answer(200, registry.index, {"Content-Type": INDEX})
        else:
            self._blob(url.path.rpartition("/")[2])

    def _document(self, digest: str, media_type: str) -> None:
        data = self.registry.blobs.get(digest)
        self._answer(404 if data is None else 200, data or b"{}", {"Content-Type": media_type})

    def _blob(self, digest: str) -> None:
        data = self.registry.blobs.get(digest)
        if data is None:
            self._answer(404, b"{}")
            return
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start:
            where = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            self._answer(206, data[start:], where)
        elif (
            self.registry.cut_after
            and len(data) > self.registry.cut_after
            and digest not in self.registry.whole
        ):
            self.registry.whole.add(digest)
            self._answer(200, data, cut_after=self.registry.cut_after)
        else:
            self._answer(200, data)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut_after: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_after])
        self.close_connection = cut_after is not None
