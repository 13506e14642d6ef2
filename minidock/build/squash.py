"""``--squash``: all that a build added, as one layer.

The layers are laid on top of each other, once, for good: what a later one deletes is gone, not hidden. It
costs what layers are for: nothing of it is shared with other images any more.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minidock import files
from minidock.build.draft import Draft, Step
from minidock.build.view import View
from minidock.build.workshop import Workshop
from minidock.images.settle import settle
from minidock.kernel import overlay


def squash(shop: Workshop, base: Draft, draft: Draft) -> Draft:
    """*draft* with one layer in place of those that it has beyond *base*. Its history stays, as text."""
    added = draft.layers[len(base.layers) :]
    if len(added) < 2:
        return draft
    below = shop.view(base)
    with shop.new.tree() as tree:
        for layer in added:
            lay(shop.new.tree_path(layer.diff_id), tree.path, below)
        settle(tree.path, below.trees)
        made, _ = shop.take(tree.path)
    merged = Step(shop.now(), "", made, f"merge {draft.id} to {base.id}")
    history = [
        *draft.history[: len(base.history)],
        *({**entry, "empty_layer": True} for entry in draft.history[len(base.history) :]),
    ]
    flat = Draft({**draft.config, "history": history}, base.layers)
    return flat.after(merged, draft.settings)


def lay(layer: Path, tree: Path, below: View, at: str = "") -> None:
    """Lay *layer* on top of what *tree* has so far; both are overlayfs's, *below* is under them.

    Files become one more name of the layer's own files: nothing is copied.
    """
    for name in sorted(os.listdir(layer)):
        source, target, inside = layer / name, tree / name, f"{at}/{name}"
        status = os.lstat(source)
        there = os.path.lexists(target)
        if stat.S_ISDIR(status.st_mode):
            opaque = overlay.is_opaque(source)
            if there and (opaque or not stat.S_ISDIR(os.lstat(target).st_mode)):
                hides = overlay.is_whiteout(target) or overlay.is_opaque(target)
                _remove(target)
                there, opaque = False, opaque or hides
            if not there:
                target.mkdir()
                if opaque and below.find(inside, follow=False):
                    overlay.make_opaque(target)
            lay(source, target, below, inside)
            _look_alike(source, status, target)
            continue
        if there:
            _remove(target)
        if not overlay.is_whiteout(source):
            os.link(source, target, follow_symlinks=False)
        elif below.find(inside, follow=False):
            overlay.make_whiteout(target)
    if not at:
        _look_alike(layer, os.lstat(layer), tree)


def _look_alike(source: Path, status: os.stat_result, target: Path) -> None:
    """Owner, mode, attributes and times of a directory. Its being opaque was settled before."""
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for key in os.listxattr(source):
        if not key.startswith("trusted.overlay."):
            os.setxattr(target, key, os.getxattr(source, key))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    else:
        path.unlink()
