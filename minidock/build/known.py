"""Digests of large files that were read before: a context of a gigabyte is not read again for one change.

A file is taken for the same as long as its inode, size, time of change and time of status change are. The
last of these nobody can set. A file that was changed just now does not count: it may change once more within
the same tick of the clock.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from minidock import files

LEAST = 64 << 10  # bytes: smaller files are read as quickly as looked up
_FRESH = 2_000_000_000  # nanoseconds in which a file may change without showing it
_MOST = 100_000  # files remembered for one context

Signature = list[int]


class Known:
    """What is known of the files of one context, kept in *file*. Nothing is read before it is needed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._old: dict[str, tuple[Signature, str]] | None = None
        self._new: dict[str, tuple[Signature, str]] = {}

    def get(self, status: os.stat_result) -> bytes | None:
        """The digest of the file with this *status*, if it is known."""
        if status.st_size < LEAST:
            return None
        if self._old is None:
            self._old = self._read()
        signature, digest = self._old.get(_key(status), (None, ""))
        return bytes.fromhex(digest) if signature == _signature(status) else None

    def put(self, status: os.stat_result, digest: bytes) -> None:
        """Remember *digest* for the file that had this *status* before it was read."""
        if status.st_size >= LEAST and max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - _FRESH:
            self._new[_key(status)] = (_signature(status), digest.hex())

    def save(self) -> None:
        """Write down what is new. To lose it costs time only: it is not synced."""
        if not self._new:
            return
        whole = {**(self._old or {}), **self._new}
        files.make_private(self._file.parent.parent)
        files.make_private(self._file.parent)
        files.write_json(self._file, whole if len(whole) <= _MOST else self._new, sync=False)

    def _read(self) -> dict[str, tuple[Signature, str]]:
        with suppress(OSError, ValueError, TypeError):
            found = json.loads(self._file.read_bytes())
            return {str(key): (list(signature), str(digest)) for key, (signature, digest) in found.items()}
        return {}


def _key(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _signature(status: os.stat_result) -> Signature:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
