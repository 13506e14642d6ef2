"""Files from a URL: for ``ADD http://…`` and for a context that lies on a server."""

from __future__ import annotations

import email.utils
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import responses
from pathlib import Path
from urllib.parse import unquote, urlsplit

from minidock.errors import InvalidInput, MinidockError
from minidock.images import compression, wire

_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Answer:
    """What a server sends for one URL, not read yet. *mtime* is its Last-Modified, in seconds, else 0."""

    def __init__(self, response: wire.Response) -> None:
        self._response = response
        self.mtime = 0
        with suppress(ValueError):  # no such header, or one that is no date
            modified = email.utils.parsedate_to_datetime(response.headers.get("Last-Modified", ""))
            self.mtime = int(modified.timestamp())

    def blocks(self) -> Iterator[bytes]:
        """The content. Raises MinidockError when the connection breaks."""
        promised = self._response.headers.get("Content-Length", "")
        left = int(promised) if promised.isdecimal() else None
        buffer = bytearray(wire.CHUNK)
        while count := self._response.readinto(memoryview(buffer)):
            left = None if left is None else left - count
            yield bytes(buffer[:count])
        if left:
            raise MinidockError(f"{wire.shown(self._response.url)}: the server closed in mid-transfer")


@contextmanager
def opened(url: str) -> Iterator[Answer]:
    """Ask for *url*. Raises MinidockError for any answer but the file itself."""
    client = wire.Client()
    try:
        with client.request("GET", url) as response:
            if response.status != 200:
                phrase = responses.get(response.status, "")
                status = f"{response.status} {phrase}".strip()
                raise MinidockError(f"failed to GET {wire.shown(url)} with status {status}")
            yield Answer(response)
    finally:
        client.close()


def download(url: str, directory: Path, checksum: str = "") -> Path:
    """Fetch *url* into a new file somewhere in *directory*: mode 0600, the time that the server names.

    Raises MinidockError when it cannot be had, or is not what *checksum* ("sha256:…") says.
    Source: Dockerfile reference, "ADD --checksum".
    """
    found = compression.new_hash(checksum or "sha256:")
    own = directory / f"download-{os.urandom(8).hex()}"
    own.mkdir(mode=0o700)
    path = own / (name_of(url) or "download")
    with opened(url) as answer, open(os.open(path, _FILE_FLAGS, 0o600), "wb") as file:
        try:
            for block in compression.hashed(answer.blocks(), found.update):
                file.write(block)
            file.flush()
        except OSError as error:
            raise MinidockError(f"{wire.shown(url)}: {error.strerror}") from None
    digest = f"{(checksum or 'sha256:').partition(':')[0]}:{found.hexdigest()}"
    if checksum and digest != checksum:
        raise InvalidInput(
            f"digest mismatch {digest}: {checksum}",
            hint=f"{wire.shown(url)} is not the file that --checksum names. Do not build with it unseen.",
        )
    os.utime(path, (answer.mtime, answer.mtime))
    return path


def name_of(url: str) -> str:
    """The file name at the end of *url*'s path, or nothing."""
    name = posixpath.basename(unquote(urlsplit(url).path))
    return "" if name in (".", "..") or "\0" in name else name
