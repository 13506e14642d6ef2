"""The digest of what a COPY writes: the same files, the same digest, whenever they were made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from minidock.build.known import Known
from minidock.build.layout import Item
from minidock.build.view import Found, shown_name
from minidock.errors import MinidockError

BLOCK = 1 << 20  # bytes read and hashed at a time
CAPABILITIES = "security.capability"  # the one attribute that Docker copies, too
_MOST_FILES = 20_000  # digests of single files to hand back
_SHORT = 16  # hex digits of them: enough to tell one version from another


def of(items: Iterable[Item], root: str, known: Known | None = None) -> tuple[str, dict[str, str]]:
    """The digest ("sha256:…") of all *items* below *root*, and short ones of the single files.

    Everything that shows in the layer counts, except times: a fresh checkout has new ones. Reads every
    file once, but for those that are *known*; raises MinidockError when one changes meanwhile.
    """
    total = hashlib.sha256()
    files: dict[str, str] = {}
    for item in items:
        content = b""
        if item.found is None:
            content = hashlib.sha256(item.text).digest()
        elif item.same_as:
            content = os.fsencode(item.same_as[len(root) :])
        elif item.found.is_file:
            content = _of_file(item.found, known)
        elif item.found.is_link:
            content = os.fsencode(item.found.target())
        elif not item.is_directory:
            content = b"%d" % item.found.status.st_rdev
        name = os.fsencode(item.target[len(root) :])
        looks = b"%o %d %d" % (item.mode, *item.owner)
        for part in (name, looks, b"%d%d" % (item.unpack, bool(item.same_as)), content):
            total.update(b"%d:" % len(part))
            total.update(part)
        if item.found and not item.is_directory and not item.same_as and len(files) < _MOST_FILES:
            files[item.found.name] = content.hex()[:_SHORT]
    return "sha256:" + total.hexdigest(), files


def _of_file(found: Found, known: Known | None) -> bytes:
    remembered = known.get(found.status) if known else None
    if remembered is not None:
        return remembered
    digest = hashlib.sha256()
    descriptor = found.open()
    try:
        while block := os.read(descriptor, BLOCK):
            digest.update(block)
        if CAPABILITIES in os.listxattr(descriptor):
            digest.update(os.getxattr(descriptor, CAPABILITIES))
        found.check(descriptor)
    except OSError as error:
        raise MinidockError(f"{shown_name(found.name)}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if known:
        known.put(found.status, digest.digest())
    return digest.digest()
