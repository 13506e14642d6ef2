"""Who a container's process is: ``--user`` looked up in the image's own /etc/passwd and /etc/group.

Called from inside the container's root, so that no link in the image can lead to the host's files.
The files are the image's, that is, not to be trusted: only regular files of a sane size are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from minidock.errors import InvalidInput

_MOST = 4 << 20  # bytes of /etc/passwd that are read
_HIGHEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids that a process gets. *groups* are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def lookup(user: str, group_add: list[str] | None = None, *, root: str = "") -> Identity:
    """Resolve *user*: "" (root), "name", "uid", "name:group", "uid:gid".

    A number needs no entry in the files; a name does. The supplementary groups are the own one and, unless
    a group was named, those that list the user. Raises InvalidInput, with Docker's words, for an unknown
    name. Source: runc libcontainer/user, GetExecUser; the own group: CVE-2022-36109.
    """
    wanted_user, _, wanted_group = user.partition(":")
    uid, gid, home, name = 0, 0, "/", ""
    entry = None
    number = _number(wanted_user) if wanted_user else 0
    for fields in entries(f"{root}/etc/passwd", 7):
        # A name wins over a number: an entry may be *named* "1000".
        if fields[0] == wanted_user or (number is not None and _number(fields[2]) == number):
            entry = fields
            break
    if entry is not None:
        name, uid, gid, home = entry[0], _number(entry[2]) or 0, _number(entry[3]) or 0, entry[5] or "/"
    elif wanted_user:
        if number is None:
            raise InvalidInput(f"unable to find user {wanted_user}: no matching entries in passwd file")
        uid = number
    groups: list[int] = []
    if wanted_group:
        gid = _group(wanted_group, root)
    elif name:
        for fields in entries(f"{root}/etc/group", 4):
            member_gid = _number(fields[2])
            if member_gid is not None and name in fields[3].split(","):
                groups.append(member_gid)
    for extra in group_add or []:
        groups.append(_group(extra, root))
    # The own group belongs to the list: else a setgid program that takes another group gets rid of it, and
    # with it of the files that are closed to just this group.
    return Identity(uid, gid, tuple(dict.fromkeys([gid, *groups])), home)


def _group(text: str, root: str) -> int:
    number = _number(text)
    for fields in entries(f"{root}/etc/group", 4):
        if fields[0] == text and (found := _number(fields[2])) is not None:
            return found
    if number is None:
        raise InvalidInput(f"unable to find group {text}: no matching entries in group file")
    return number


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    if number > _HIGHEST_ID:
        raise InvalidInput("uids and gids must be in range 0-2147483647")
    return number


def entries(path: str, fields: int) -> Iterator[list[str]]:
    """The lines of a passwd-like file, each padded to *fields* parts."""
    try:
        # O_NONBLOCK: a fifo in the image must not hold us up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        text = os.read(descriptor, _MOST).decode(errors="replace")
    finally:
        os.close(descriptor)
    for line in text.split("\n"):
        parts = line.strip().split(":")
        if parts[0] and not parts[0].startswith("#"):
            yield parts + [""] * (fields - len(parts))
