"""Reading /proc/PID/mountinfo: the list of everything mounted in a mount namespace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class MountPoint:
    """One line of mountinfo. *line* counts from 1; *root* is the part of the filesystem that is visible here.

    *propagation* holds ``shared:N``, ``master:N``, ``unbindable``; it is empty for a private mount.
    """

    id: int
    parent: int
    device: str  # "major:minor"
    root: str
    path: str
    options: tuple[str, ...]  # of this mount: ro, nosuid, …
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...] = ()  # of the filesystem: size=…, lowerdir=…
    line: int = 0

    @property
    def shared(self) -> bool:
        """Whether mounts made below this one appear in other mount namespaces, too."""
        return any(each.startswith("shared:") for each in self.propagation)


def parse(text: str) -> list[MountPoint]:
    """The mounts in *text*, the content of a mountinfo file. Source: proc(5), mountinfo."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        before, _, after = line.partition(" - ")
        fields, (fstype, source, *rest) = before.split(" "), after.split(" ")
        found.append(
            MountPoint(
                id=int(fields[0]),
                parent=int(fields[1]),
                device=fields[2],
                root=_unescape(fields[3]),
                path=_unescape(fields[4]),
                options=tuple(fields[5].split(",")),
                propagation=tuple(each for each in fields[6:] if each),
                fstype=fstype,
                source=_unescape(source),
                super_options=tuple(_unescape(rest[0]).split(",")) if rest else (),
                line=number,
            )
        )
    return found


def mountinfo(file: str | Path = "/proc/self/mountinfo") -> list[MountPoint]:
    """The mounts that the process of *file* sees, in the order in which they were made."""
    with open(file, "rb") as opened:
        return parse(opened.read().decode("utf-8", "surrogateescape"))


def _unescape(text: str) -> str:
    """``/a\\040b`` → ``/a b``: mountinfo writes space, tab, newline and backslash as octal bytes."""
    if "\\" not in text:
        return text
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
