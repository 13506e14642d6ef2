"""``userns-remap``: the ids that /etc/subuid and /etc/subgid set aside for a user.

A line ``alice:165536:65536`` says: those 65,536 numbers are nobody's on this machine, and alice may use
them inside user namespaces. A container whose root is 165536 out here can touch nothing of anybody's.

The value is ``user``, ``uid``, ``user:group`` or ``uid:gid``, or ``default``: that is Docker's own user,
dockremap, and where this machine has none, minidock's range (user_namespace.OWN).
Source: dockerd --userns-remap, subuid(5), subgid(5).
"""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

from minidock.containers.spec import Namespaces
from minidock.errors import InvalidInput

DOCKERS = "dockremap"
USERS, GROUPS = Path("/etc/subuid"), Path("/etc/subgid")

Ranges = list[tuple[int, int, int]]  # inside, outside, length


def ranges(remap: str) -> tuple[Ranges, Ranges]:
    """The users and the groups that *remap*, the value of ``userns-remap``, gives to a container.

    The container's ids begin at 0 and go on through all ranges of the user, in the order of the files;
    both files are asked for the user, as Docker does. Raises InvalidInput for a user or group that is
    not there, has no range, or is root, who cannot be mapped to itself.
    """
    name, colon, group = remap.partition(":")
    if not name or ":" in group or (colon and not group):
        raise InvalidInput(f"userns-remap: invalid value {remap!r}", hint="user, uid, user:group or default.")
    if remap == "default":
        if not _has_dockers_user():
            return [], []
        name = DOCKERS
    user = _user(name)
    if group:
        _check_group(group)
    if user.pw_uid == 0:
        raise InvalidInput("userns-remap: root cannot be remapped with itself", hint="Name another user.")
    return _ranges(USERS, user), _ranges(GROUPS, user)


def why_not(spaces: Namespaces, privileged: bool = False) -> str:
    """Why a container with these namespaces cannot have users of its own, in Docker's words; "" if it can.

    A root who is nobody outside has no power over what is the host's.
    """
    if privileged:
        return "privileged mode is incompatible with user namespaces"
    if spaces.network == "host":
        return "cannot share the host's network namespace when user namespaces are enabled"
    if spaces.pid == "host":
        return "cannot share the host PID namespace when user namespaces are enabled"
    return ""


def _has_dockers_user() -> bool:
    try:
        pwd.getpwnam(DOCKERS)
    except KeyError:
        return False
    return True


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise InvalidInput(f"userns-remap: no user {name} on this machine") from None


def _check_group(name: str) -> None:
    try:
        grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)
    except (KeyError, OverflowError):
        raise InvalidInput(f"userns-remap: no group {name} on this machine") from None


def _ranges(file: Path, user: pwd.struct_passwd) -> Ranges:
    found: Ranges = []
    inside = 0
    for number, line in enumerate(_lines(file), 1):
        owner, _, rest = line.partition(":")
        if owner not in (user.pw_name, str(user.pw_uid)):
            continue
        first, _, length = rest.partition(":")
        if not (
            first.isdecimal() and length.isdecimal() and int(length) and int(first) + int(length) < 1 << 32
        ):
            raise InvalidInput(
                f"{file}, line {number}: {line!r} is no range", hint="It reads NAME:FIRST:COUNT."
            )
        found.append((inside, int(first), int(length)))
        inside += int(length)
    if not found:
        wanted = "--add-subuids" if file == USERS else "--add-subgids"
        raise InvalidInput(
            f"userns-remap: {file} has no range for the user {user.pw_name}",
            hint=f"usermod {wanted} 231072-296607 {user.pw_name} (numbers that no other line has)",
        )
    return found


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]
