"""Lab 05, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

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
    algorithm = digest.partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        raise InvalidInput(f"layer: its {what} is made with {algorithm}, which is not trusted")
    computed = hashlib.new(algorithm)
    for block in blocks:
        computed.update(block)
        yield block
    found = f"{algorithm}:{computed.hexdigest()}"
    if found != digest:
        raise InvalidInput(f"layer: its {what} should be {digest}, but what was read has {found}")


def chain_ids(diff_ids):
    """Task 2. The chain id of each layer: its name together with all layers below it.

    diff_ids: the layers of an image as its config lists them, the lowest first: ["sha256:…", …].

    The first chain id is the first diff id. Each further one is "sha256:" and the hash of the text
    "<chain id of the layer below> <diff id>", with one space between them.
    """
    chain = []
    for diff_id in diff_ids:
        if chain:
            both = f"{chain[-1]} {diff_id}"
            diff_id = "sha256:" + hashlib.sha256(both.encode()).hexdigest()
        chain.append(diff_id)
    return chain


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
    size, directories = 0, []
    with tarfile.open(fileobj=archive, mode="r|") as entries:
        for entry in entries:
            path = _place(target, entry.name)
            if path.name.startswith(".wh."):
                _mark(path)
                continue
            size += entry.size
            if size > max_size:
                raise InvalidInput(f"layer: its files have more than {max_size} bytes")
            _make_room(path, entry)
            if entry.isdir():
                path.mkdir(exist_ok=True)
                directories.append((path, entry))
            elif entry.issym():
                os.symlink(entry.linkname, path)
            elif entry.islnk():
                os.link(_place(target, entry.linkname), path, follow_symlinks=False)
                continue  # the other name has the owner and the mode already
            elif entry.isfile():
                with open(path, "xb") as file:
                    shutil.copyfileobj(entries.extractfile(entry), file)
            else:
                kind = stat.S_IFIFO if entry.isfifo() else stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
                os.mknod(path, kind, os.makedev(entry.devmajor, entry.devminor))
            _dress(path, entry)
    for path, entry in directories:  # a file that is made in a directory changes its time: so at the end
        if path.is_dir():
            os.utime(path, (entry.mtime, entry.mtime))
    return size


def _place(target, name):
    """Where an entry belongs; the directories on the way are made, and none of them may be a link."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(f"layer: {name!r} leads out of the layer")
    path = Path(target)
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise InvalidInput(f"layer: {name!r} goes through a link")
        path.mkdir(exist_ok=True)
    return path / parts[-1] if parts else path


def _mark(path):
    if path.name == ".wh..wh..opq":
        os.setxattr(path.parent, OPAQUE, b"y")
    else:
        os.mknod(path.with_name(path.name.removeprefix(".wh.")), stat.S_IFCHR, os.makedev(0, 0))


def _make_room(path, entry):
    """The later entry wins; but a directory that is there already stays."""
    is_directory = path.is_dir() and not path.is_symlink()
    if is_directory and not entry.isdir():
        shutil.rmtree(path)
    elif os.path.lexists(path) and not is_directory:
        os.unlink(path)


def _dress(path, entry):
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if not entry.issym():
        os.chmod(path, entry.mode)  # after chown, which takes the set-uid bit away
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
