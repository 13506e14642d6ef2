"""A container's filesystem as one tree, without entering it: for `export` (later for cp and commit).

The writable directory and the layers are stacked read-only, in a mount namespace of a process of its own:
nothing is ever mounted on the host, and the caller may have threads. The container may run meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import IO

if __name__ == "__main__":  # started by path, with an empty environment: the library stands beside us
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minidock.containers.state import Container
from minidock.errors import MinidockError


def export(container: Container, layers: list[Path], file: IO[bytes]) -> None:
    """Write the files of *container* to *file* as a tar archive. *layers*: see layer_paths."""
    import subprocess

    trees = [container.directory / "upper", *layers]
    with subprocess.Popen(
        [sys.executable, "-IS", __file__, str(container.directory / "merged"), *map(str, trees)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as helper:
        assert helper.stdout and helper.stderr
        try:
            shutil.copyfileobj(helper.stdout, file, 1 << 20)
        except BaseException:
            helper.kill()
            raise
        reason = helper.stderr.read().decode(errors="replace").strip()
    if helper.returncode != 0:
        raise MinidockError(f"export of {container.id[:12]} failed: {reason}")


def main(target: Path, trees: list[Path]) -> None:
    """The helper: stack *trees* at *target*, here only, and write what stands there to standard output."""
    from minidock.images import flat
    from minidock.kernel import namespaces, overlay, rootfs

    namespaces.create(["mnt"])
    rootfs.isolate_mounts()
    overlay.mount_overlay(trees, target)
    with open(1, "wb", closefd=False) as output:
        flat.export(target, output)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]])
    except (MinidockError, OSError) as failure:
        print(failure, file=sys.stderr)
        os._exit(1)
