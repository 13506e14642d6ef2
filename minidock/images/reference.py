"""Image references: what a person types, and what it means.

``busybox`` is short for ``docker.io/library/busybox:latest``. A reference has four parts::

    docker.io / library/busybox : 1.36 @ sha256:9ae9…
    domain      path              tag    digest

The *domain* says which registry, the *path* which repository in it. A *tag* is a name that may point
to another image tomorrow; a *digest* is the hash of the content and can only ever mean one image.

Source: github.com/distribution/reference (the grammar), Docker's rules for short names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from minidock.errors import InvalidInput
from minidock.images import distribution
from minidock.images.distribution import DEFAULT_DOMAIN, OFFICIAL

DEFAULT_TAG = "latest"

_DOMAIN_WORD = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_DOMAIN_WORD}(?:\.{_DOMAIN_WORD})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PATH_WORD}(?:/{_PATH_WORD})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

PATH_LIMIT = 255  # characters


@dataclass(frozen=True, slots=True)
class Reference:
    """One image, fully named. *tag* and *digest* are empty when they were not given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Domain and path, which is what Docker calls the repository: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: ``busybox``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(OFFICIAL)
        return self.path if "/" in short else short  # library/a/b keeps its first word

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: ``busybox:1.36``."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def pinned(self) -> Reference:
        """The reference that a pull asks for: a digest beats the tag, no tag at all means ``latest``."""
        if self.digest:
            return replace(self, tag="")
        return self if self.tag else replace(self, tag=DEFAULT_TAG)


def parse(text: str) -> Reference:
    """Read *text* as Docker does, filling in the registry and ``library/``; no tag is added.

    Raises InvalidInput in Docker's words: malformed, upper case in the path, path over 255 characters,
    unknown digest algorithm, or 64 hexadecimal digits (that is an image id, not a name).
    """
    if _is_hexadecimal(text) and len(text) == 64:
        raise InvalidInput(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = distribution.split_domain(text)
    path, tag, digest = distribution.split_suffix(rest)
    if path != path.lower():
        raise InvalidInput(f"invalid reference format: repository name ({path}) must be lowercase")
    # fullmatch on each part: a newline or a stray "@" must not slip through into paths and URLs.
    well_formed = (
        (domain == DEFAULT_DOMAIN or re.fullmatch(_DOMAIN, domain))
        and re.fullmatch(_PATH, path)
        and (tag is None or re.fullmatch(_TAG, tag))
        and (digest is None or re.fullmatch(_DIGEST, digest))
    )
    if not well_formed:
        raise InvalidInput("invalid reference format", hint=f"In {text!r}. A name looks like busybox:1.36.")
    if len(path) > PATH_LIMIT:
        raise InvalidInput(f"repository name must not be more than {PATH_LIMIT} characters")
    if digest is not None:
        check_digest(digest)
    return Reference(domain, path, tag or "", digest or "")


def check_digest(digest: str) -> None:
    """Raise InvalidInput unless *digest* is ``sha256:`` and 64 lower-case hexadecimal digits."""
    algorithm, _, hexadecimal = digest.partition(":")
    if algorithm != "sha256":
        raise InvalidInput("unsupported digest algorithm")
    if len(hexadecimal) != 64:
        raise InvalidInput("invalid checksum digest length")
    if not _is_hexadecimal(hexadecimal):
        raise InvalidInput("invalid checksum digest format")


def _is_hexadecimal(text: str) -> bool:
    return not text.strip("0123456789abcdef")
