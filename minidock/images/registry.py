"""Talking to a registry: pull and push are a dozen HTTP requests, all of them here.

    GET  /v2/                                   is this a registry, and do I need to log in?
    GET  /v2/<repository>/manifests/<tag>       the list of parts; its digest is the image's digest
    GET  /v2/<repository>/blobs/<digest>        one part: the config, a layer
    HEAD /v2/<repository>/blobs/<digest>        does it have that part already? (before a push)
    POST /v2/<repository>/blobs/uploads/        start an upload, or mount a part from another repository
    PATCH, PUT <upload>                         send bytes, then commit them under their digest
    PUT  /v2/<repository>/manifests/<tag>       last of all: now the image exists
    GET  /v2/_catalog, /v2/<repository>/tags/list

A registry is never trusted: whatever it sends is checked against the digest that was asked for.

Source: OCI distribution specification 1.1; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from minidock import trace
from minidock.errors import MinidockError
from minidock.images import distribution, manifest, wire
from minidock.images.auth import Denied
from minidock.images.session import MAX_ERROR, Session

MAX_PAGE = 8 << 20  # bytes of one page of a listing
PAGE = 1000  # names asked for at a time
UPLOAD_CHUNK = 32 << 20  # bytes per PATCH: what is lost at most when an upload breaks

Progress = Callable[[int], None]  # called with the bytes sent so far


class Registry:
    """What one can ask of a registry.

    Every method raises: wire.Unreachable (nobody there), auth.Denied (401, 403), NotFound (404),
    session.TooManyRequests (429), MinidockError (what else goes wrong), each in one line.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    # ── asking ───────────────────────────────────────────────────────────────────────────────────

    @trace.mechanism(lesson=6)
    def ping(self) -> None:
        """Ask whether this is a registry at all, and whether it lets us in."""
        with self.session.send("GET", "/v2/", "") as response:
            if response.status in (401, 403):
                raise Denied(f"login attempt to {self.session.url}/v2/ failed with status: {response.status}")
            if response.status != 200:
                self.session.refuse(response, "", "")
            response.read(MAX_ERROR)

    @trace.mechanism(lesson=6)
    def manifest(self, repository: str, reference: str) -> tuple[bytes, str, str]:
        """Fetch the list of an image's parts by tag or digest, and check it against its digest.

        Returns (bytes, media type, digest).
        """
        path = f"/v2/{repository}/manifests/{reference}"
        with self.session.send("GET", path, _pull(repository), {"Accept": manifest.ACCEPT}) as response:
            if response.status != 200:
                self.session.refuse(response, repository, reference)
            data = response.read(manifest.MAX_SIZE)
            claimed = response.headers.get("Docker-Content-Digest", "")
            try:
                digest = distribution.check_manifest(reference, claimed, data)
            except MinidockError as error:
                name = self.session.name(repository)
                raise MinidockError(f"the manifest of {name}: {error.message}", hint=error.hint) from None
            return data, response.headers.get("Content-Type", ""), digest

    @trace.mechanism(lesson=6)
    def blob(self, repository: str, digest: str, size: int) -> bytes:
        """Fetch a small part (the config) and check its digest before anybody reads it."""
        response, _ = self.open_blob(repository, digest)
        with response:
            data = response.read(size)
        check(
            digest, "sha256:" + hashlib.sha256(data).hexdigest(), f"a blob of {self.session.name(repository)}"
        )
        return data

    @trace.mechanism(lesson=6)
    def open_blob(self, repository: str, digest: str, start: int = 0) -> tuple[wire.Response, int]:
        """Begin to fetch one part, from byte *start* on when the registry can (Range).

        Returns the response and the offset at which its body really begins: *start*, or 0.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        response, begins = distribution.open_blob(
            lambda headers: self.session.send("GET", path, _pull(repository), headers), start
        )
        if response.status not in (200, 206):
            with response:
                self.session.refuse(response, repository, digest)
        if begins not in (0, start):
            response.close()
            raise wire.Interrupted(
                f"{self.session.endpoint.host}: sent another part of {digest[:19]} than was asked for"
            )
        return response, begins

    @trace.mechanism(lesson=6)
    def has_blob(self, repository: str, digest: str) -> bool:
        """Ask whether the registry has that part already: then a push need not send it."""
        with self.session.send("HEAD", f"/v2/{repository}/blobs/{digest}", _push(repository)) as response:
            if response.status not in (200, 404):
                self.session.refuse(response, repository, digest, "push")
            return response.status == 200

    @trace.mechanism(lesson=6)
    def has_manifest(self, repository: str, reference: str) -> bool:
        """Ask whether a tag or digest exists, without fetching it."""
        path = f"/v2/{repository}/manifests/{reference}"
        with self.session.send("HEAD", path, _pull(repository), {"Accept": manifest.ACCEPT}) as response:
            if response.status not in (200, 404):
                self.session.refuse(response, repository, reference)
            return response.status == 200

    def tags(self, repository: str) -> Iterator[str]:
        """The tags of a repository."""
        return self._listing(f"/v2/{repository}/tags/list", _pull(repository), "tags", repository)

    def catalogue(self) -> Iterator[str]:
        """The names of all repositories, page by page. Docker Hub refuses this; plain registries answer."""
        return self._listing("/v2/_catalog", "registry:catalog:*", "repositories", "")

    # ── sending ──────────────────────────────────────────────────────────────────────────────────

    @trace.mechanism(lesson=6)
    def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Let the registry link a part it holds in repository *source*: no byte travels."""
        query = urlencode({"mount": digest, "from": source})
        scope = f"{_push(repository)} {_pull(source)}"
        with self.session.send("POST", f"/v2/{repository}/blobs/uploads/?{query}", scope) as response:
            if response.status == 202:  # it would rather have an upload: give that one back
                location = self._location(response)
                response.read(MAX_ERROR)
                self.session.send("DELETE", location, _push(repository)).close()
            return response.status == 201

    @trace.mechanism(lesson=6)
    def upload_blob(
        self, repository: str, digest: str, size: int, file: IO[bytes], progress: Progress | None = None
    ) -> None:
        """Send one part: ask for an upload, send its bytes, commit it under its digest.

        A small part goes in one piece; a large one in chunks, so that a broken connection costs one
        chunk: the registry is asked how far it came.
        """
        for last in wire.backoff(4):
            try:
                self._upload(repository, digest, size, file, progress)
            except wire.Interrupted:
                if last:
                    raise
            else:
                return

    @trace.mechanism(lesson=6)
    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        """Name the parts: from this request on the image exists. Returns its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        headers = {"Content-Type": media_type}
        path = f"/v2/{repository}/manifests/{reference}"
        with self.session.send("PUT", path, _push(repository), headers, data) as response:
            if response.status != 201:
                self.session.refuse(response, repository, reference, "push")
            claimed = response.headers.get("Docker-Content-Digest", "")
        if claimed.startswith("sha256:"):
            check(digest, claimed, f"what {self.session.endpoint.host} stored")
        return digest

    def _upload(
        self, repository: str, digest: str, size: int, file: IO[bytes], progress: Progress | None
    ) -> None:
        scope = _push(repository)
        with self.session.send("POST", f"/v2/{repository}/blobs/uploads/", scope) as response:
            if response.status != 202:
                self.session.refuse(response, repository, "", "push")
            location = self._location(response)
        start = 0
        if size > UPLOAD_CHUNK:
            location, start = self._send_chunks(location, scope, size, file, progress), size
        query = ("&" if urlsplit(location).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - start)}
        body = _slice(file, start, size - start, progress)
        # Once only: the registry would append a second body to what it kept of the first.
        with self.session.send("PUT", location + query, scope, headers, body, attempts=1) as response:
            if response.status >= 500:
                raise wire.Interrupted(f"{self.session.endpoint.host}: upload failed: {response.status}")
            if response.status != 201:
                self.session.refuse(response, repository, digest, "push")

    def _send_chunks(
        self, location: str, scope: str, size: int, file: IO[bytes], progress: Progress | None
    ) -> str:
        at, failures = 0, 0
        while at < size:
            length = min(UPLOAD_CHUNK, size - at)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length),
                "Content-Range": f"{at}-{at + length - 1}",
            }
            body = _slice(file, at, length, progress)
            try:
                response = self.session.send("PATCH", location, scope, headers, body, attempts=1)
                if response.status >= 500:
                    response.close()
                    raise wire.Interrupted(f"{self.session.endpoint.host}: upload failed: {response.status}")
            except wire.Interrupted:
                failures += 1
                if failures > 4:
                    raise
                response = self.session.send("GET", location, scope)  # how far did it come?
            with response:
                if response.status not in (202, 204):
                    self.session.refuse(response, "", "", "push")
                reached = re.match(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
                at = int(reached[1]) + 1 if reached and reached[1] != "0" else 0
                location = self._location(response)
        return location

    def _location(self, response: wire.Response) -> str:
        location = response.headers.get("Location")
        if not location:
            raise MinidockError(f"{self.session.endpoint.host}: named no place to upload to")
        return urljoin(response.url, location)

    def _listing(self, path: str, scope: str, key: str, repository: str) -> Iterator[str]:
        seen: set[str] = set()
        path = f"{path}?n={PAGE}"
        while path and path not in seen:
            seen.add(path)
            with self.session.send("GET", path, scope) as response:
                if response.status != 200:
                    self.session.refuse(response, repository, "")
                yield from _names(response.read(MAX_PAGE), key, self.session.endpoint.host)
                following = re.match(r'\s*<([^>]*)>\s*;\s*rel="?next', response.headers.get("Link", ""))
                path = urljoin(response.url, following[1]).removeprefix(self.session.url) if following else ""


def check(expected: str, computed: str, what: str) -> None:
    """Refuse content whose hash is not the digest that was asked for. Raises MinidockError."""
    if expected != computed:
        raise MinidockError(
            f"{what}: digest mismatch: asked for {expected}, got {computed}",
            hint="The content was damaged or exchanged on its way; nothing of it was used.",
        )


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _slice(
    file: IO[bytes], start: int, length: int, progress: Progress | None
) -> Callable[[], Iterable[bytes]]:
    """*length* bytes of *file* from *start*, as a request body that can be sent again."""

    def chunks() -> Iterator[bytes]:
        file.seek(start)
        left = length
        while left and (chunk := file.read(min(wire.CHUNK, left))):
            yield chunk
            left -= len(chunk)
            if progress:
                progress(start + length - left)

    return chunks


def _names(data: bytes, key: str, host: str) -> list[str]:
    try:
        names = json.loads(data)[key] or []
    except (ValueError, KeyError, TypeError):
        raise MinidockError(f"{host}: not a registry: its listing holds no {key}") from None
    return [str(name) for name in names]
