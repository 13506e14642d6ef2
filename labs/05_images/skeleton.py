"""Lab 05: images. Write these functions; minidock then checks and unpacks layers with them.

Each function stands in for the one of the same name in minidock/images/layer.py. Your tools:

    hashlib.new("sha256")                       a hash object: .update(bytes), then .hexdigest()
    tarfile.open(fileobj=…, mode="r|")          reads an archive from the beginning to the end, entry by entry
    InvalidInput("layer: …")                    the error for what is not what it should be
    OPAQUE                                      "trusted.overlay.opaque", an attribute's name
"""

import hashlib
import os
import shutil
import stat
import tarfile
from pathlib import Path

from minidock.errors import InvalidInput
from minidock.kernel.overlay import OPAQUE


def verified(blocks, digest, what="digest"):
    """Task 1. A generator: pass every block on, and see at the end that together they have this digest.

    blocks: an iterator over pieces of bytes. It may be larger than memory: keep none of them.
    digest: "sha256:…" or "sha512:…". Any other algorithm raises InvalidInput: it is not safe, or unknown.
    what: how your message calls the digest.

    Raises InvalidInput at the end, after the last block, when the hash of all blocks is another one.
    """
    raise NotImplementedError("task 1")


def chain_ids(diff_ids):
    """Task 2. The chain id of each layer: its name together with all layers below it.

    diff_ids: the layers of an image as its config lists them, the lowest first: ["sha256:…", …].

    The first chain id is the first diff id. Each further one is "sha256:" and the hash of the text
    "<chain id of the layer below> <diff id>", with one space between them.
    """
    raise NotImplementedError("task 2")


def unpack(archive, target, max_size):
    """Tasks 3, 4, 5. Make the files of a layer's archive in the directory target; returns their bytes.

    archive: a tar archive, open for reading: only forwards. target: an existing, empty directory.
    max_size: the most bytes that all files together may have.

    Task 3, in order. Files, directories, symbolic and hard links, with mode, owner, group and time (also of
    directories). When a name comes twice the later entry wins; two directories of one name are one.
    Directories that the archive does not list are made.
    Task 4, safely. Whatever the archive says, nothing outside target is read, written or linked. Raise
    InvalidInput for an entry that leads out. A "/" at the beginning of a name means target.
    Task 5, whiteouts. The file .wh.NAME makes a whiteout NAME: a character device 0/0. The file .wh..wh..opq
    gives its directory the attribute OPAQUE with the value b"y". Neither appears itself.
    """
    raise NotImplementedError("task 3")
