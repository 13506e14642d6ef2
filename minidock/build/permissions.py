"""``--chown`` and ``--chmod``: whose the copied files are, and who may do what with them.

Source: Dockerfile reference, "COPY --chown --chmod"; chmod(1) for the symbolic form.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from minidock.build.view import View
from minidock.containers import users
from minidock.errors import InvalidInput

_HIGHEST_ID = 2**31 - 1
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def owner_of(text: str, image: View) -> tuple[int, int]:
    """``user``, ``user:group``, names or numbers, as (uid, gid). Names are those of *image*.

    A user alone gives the group of the same name or number. Raises InvalidInput for an unknown name.
    """
    user, _, group = text.partition(":")
    return _number_of(user, "user", "passwd", image), _number_of(group or user, "group", "group", image)


def _number_of(name: str, kind: str, file: str, image: View) -> int:
    why = f"unable to convert uid/gid chown string to host mapping: can't find {kind[0]}id for {kind} {name}"
    if name.isascii() and name.isdigit():
        if int(name) > _HIGHEST_ID:
            raise InvalidInput(f"{why}: uids and gids must be in range 0-{_HIGHEST_ID}")
        return int(name)
    found = image.find(f"/etc/{file}")
    for fields in users.entries(str(found.path), 4) if found and found.is_file else ():
        if fields[0] == name and fields[2].isdigit():
            return int(fields[2])
    raise InvalidInput(
        f"{why}: no such {kind}: {name}",
        hint=f"/etc/{file} of the image decides. Add the {kind} by RUN before, or give the number.",
    )


Change = Callable[[int], int]


def mode_change(text: str) -> Change:
    """``755`` or ``u=rwX,go=rX`` as a function from the old st_mode to the new one, type included.

    Raises InvalidInput for anything else.
    """
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        permissions = int(text, 8)
        return lambda mode: stat.S_IFMT(mode) | permissions
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise InvalidInput(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            hint="For example 755, or u=rwX,go=rX.",
        )
    actions = [
        (clause[1] or "a", sign, letters)
        for clause in clauses
        if clause
        for sign, letters in _ACTION.findall(clause[2])
    ]

    def change(mode: int) -> int:
        for who, sign, letters in actions:
            mode = _changed(mode, who.replace("a", "ugo"), sign, letters)
        return mode

    return change


def _changed(mode: int, who: str, sign: str, letters: str) -> int:
    if "X" in letters and (stat.S_ISDIR(mode) or mode & 0o111):
        letters += "x"  # a directory must stay open to those who may read it; a program a program
    wanted = everything = 0
    for one in set(who):
        everything |= 7 << _SHIFT[one]
        wanted |= sum(_BITS[letter] << _SHIFT[one] for letter in set(letters) & _BITS.keys())
    if "s" in letters:
        wanted |= (stat.S_ISUID if "u" in who else 0) | (stat.S_ISGID if "g" in who else 0)
    if "t" in letters:
        wanted |= stat.S_ISVTX
    if sign == "=":
        return mode & ~everything | wanted
    return mode | wanted if sign == "+" else mode & ~wanted
