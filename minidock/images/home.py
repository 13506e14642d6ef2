"""Where images live below the root directory, and the lock and the sync that guard them.

<root>/images/             an OCI image layout (see layout.py)
<root>/layers/<diff id>/   layers extracted once, shared by every image and container
<root>/tmp/                what is still being written (see transaction.py)
<root>/images.lock         shared: what I look at must not vanish; exclusive: I change or remove
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minidock import files
from minidock.images import reference
from minidock.images.layout import Entry, Layout

RESERVE = 64 << 10  # bytes that the lock's file keeps, to be given up when rmi finds the disk full


class Home:
    """The directories of one root. *syncs* counts the syncfs(2) calls, for the figures."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root / "images")
        self.layers = root / "layers"
        self.temporary = root / "tmp"
        self.syncs = 0

    def create(self) -> None:
        """Make the directories that are missing. 0700: layers hold setuid files that only root may reach."""
        for directory in (self.root, self.layers, self.temporary):
            if not directory.is_dir():
                os.makedirs(directory, 0o700, exist_ok=True)
        if not self.layout.exists():
            with files.lock(self.root / "images.lock"):  # else an empty index might replace another's
                self.layout.create()

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the images' lock. Hold it briefly, and never twice in one thread: it would wait for itself."""
        self.create()
        with files.lock(self.root / "images.lock", shared=shared) as descriptor:
            if not shared and os.fstat(descriptor).st_size < RESERVE:
                with suppress(OSError):  # a full disk, or one without fallocate(2)
                    os.posix_fallocate(descriptor, 0, RESERVE)
            yield

    def write_fewer(self, entries: list[Entry]) -> None:
        """Replace index.json by a shorter list: removing must work above all when the disk is full.

        The caller holds the exclusive lock.
        """
        try:
            self.layout.write_entries(entries)
        except OSError as error:
            if error.errno not in files.FULL:
                raise
            os.truncate(self.root / "images.lock", 0)
            self.layout.write_entries(entries)

    def layer_path(self, diff_id: str) -> Path:
        """Where the layer's extracted tree stands or would stand."""
        reference.check_digest(diff_id)
        return self.layers / diff_id.removeprefix("sha256:")

    def sync(self) -> None:
        """Bring everything written to the root's filesystem to disk, by one syncfs(2)."""
        from minidock.kernel import syscalls

        syscalls.syncfs(self.root)
        self.syncs += 1
