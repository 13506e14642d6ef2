"""Where each copied file goes, and how it will look there: from sources to a list of items."""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass, field

from minidock.build.context import Context
from minidock.build.ignore import Patterns
from minidock.build.permissions import Change
from minidock.build.sources import Source
from minidock.build.view import Found, View, look_into, shown_name
from minidock.errors import InvalidInput

Owner = tuple[int, int]
ROOT: Owner = (0, 0)

_NEW_DIRECTORY = stat.S_IFDIR | 0o755
_HEREDOC = stat.S_IFREG | 0o644


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to write. *target* is its name from the image's root ("" is the root itself).

    *found* is what it is made from; without it the item is a heredoc's *text*, or a directory that only
    has to be there: if the image has it, it stays as it is. *mode* is a whole st_mode. *unpack*: *found* is
    an archive, *target* the directory for what is in it. *same_as*: a hard link to the item of that target.
    """

    target: str
    found: Found | None
    mode: int
    owner: Owner
    text: bytes = b""
    unpack: bool = False
    same_as: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass
class Layout:
    """Collects the items of one COPY or ADD.

    *destination* is a name in *below*, the image so far, its links followed; *into*: it is meant as a
    directory. *owner* is --chown's, *change* --chmod's. Without --chown files of a context belong to root,
    those of another stage to whom they belong there. *unpack*: open archives, as ADD does.
    """

    source: View | Context
    below: View
    destination: str
    into: bool
    owner: Owner | None
    change: Change
    exclude: Patterns
    unpack: bool
    items: dict[str, Item] = field(default_factory=dict)
    _known: dict[str, Found | None] = field(default_factory=dict)

    def add(self, source: Source) -> str:
        """Place *source* and what is below it; returns what it is: "file" or "dir".

        Raises InvalidInput where a file would have to replace a directory, or the other way round.
        """
        above = posixpath.join(self.destination, source.inside).rstrip("/")
        found = source.found
        if found is not None and found.is_directory:
            self._directory(source, found, above)
            return "dir"
        if self.exclude.matches(source.name):
            return "file"
        if found is not None and self.unpack and not source.fetched and _is_archive(found):
            self._need(above, ROOT)
            # A key that no file has: what the archive holds is not known yet.
            self.items[f"{above}//{source.name}"] = Item(
                above, found, found.status.st_mode, ROOT, unpack=True
            )
            return "file"
        there = self.below.find(above, follow=False)
        into = self.into or bool(there and there.is_directory)
        if into and not source.name:
            raise InvalidInput(f"ADD failed: cannot determine filename for source {source.fetched}")
        target = posixpath.join(above, source.name) if into else above
        self._need(posixpath.dirname(target), self.owner or ROOT)
        self._make_parents(source)
        if found is None:
            self._put(Item(target, None, self.change(_HEREDOC), self.owner or ROOT, text=source.text))
        else:
            self._put(self._item(target, found))
        return "file"

    def _directory(self, source: Source, top: Found, above: str) -> None:
        """The content of a directory. With --parents the directory itself as well."""
        self._need(posixpath.dirname(above), ROOT)  # root's, as Docker's classic builder has it
        self._need(above, self.owner or ROOT)
        self._make_parents(source)
        first: dict[tuple[int, int], str] = {}  # files with several names stay one file
        for found in self.source.walk(top.name):
            inside = found.name[len(top.name) :].lstrip("/")
            if not inside or self.exclude.matches(inside):
                continue
            target = posixpath.join(above, inside)
            status = found.status
            same_as = ""
            if found.is_file and status.st_nlink > 1:
                same_as = first.setdefault((status.st_dev, status.st_ino), target)
            self._need(posixpath.dirname(target), self.owner or ROOT)  # if .dockerignore leaves it out
            self._put(self._item(target, found, "" if same_as == target else same_as))

    def _make_parents(self, source: Source) -> None:
        for inside, found in source.parents:
            self._put(self._item(posixpath.join(self.destination, inside), found))

    def _item(self, target: str, found: Found, same_as: str = "") -> Item:
        status = found.status
        mode = status.st_mode if found.is_link else self.change(status.st_mode)
        owner = ROOT if isinstance(self.source, Context) else (status.st_uid, status.st_gid)
        return Item(target, found, mode, self.owner or owner, same_as=same_as)

    def _put(self, item: Item) -> None:
        there = self._in_image(item.target)
        before = self.items.get(item.target)
        is_directory = before.is_directory if before else there is not None and there.is_directory
        if is_directory and not item.is_directory:
            raise InvalidInput(f"cannot replace to directory /{shown_name(item.target)} with file")
        if (before or there) and item.is_directory and not is_directory:
            raise _not_a_directory(item.target)
        self.items[item.target] = item

    def _need(self, target: str, owner: Owner) -> None:
        """Make sure that the directory *target*, and those above it, will be there."""
        if target not in self.items:
            for way in _ways(target):
                there = self._in_image(way)
                if there and not there.is_directory:
                    raise _not_a_directory(way)
                self.items.setdefault(way, Item(way, None, _NEW_DIRECTORY, owner))
        if not self.items[target].is_directory:
            raise _not_a_directory(target)

    def _in_image(self, target: str) -> Found | None:
        """What the image has under the name *target* itself. What is above was asked for before."""
        if target not in self._known:
            directory, _, name = target.rpartition("/")
            above = self._known.get(directory) if target else None
            there = look_into(above, name) if above else None
            self._known[target] = there if target else self.below.find("")
        return self._known[target]


def _ways(target: str) -> list[str]:
    """``a/b`` → the root, ``a``, ``a/b``."""
    parts = target.split("/") if target else []
    return ["/".join(parts[:count]) for count in range(len(parts) + 1)]


def _not_a_directory(target: str) -> InvalidInput:
    return InvalidInput(f"cannot copy to non-directory: /{shown_name(target)}")


def _is_archive(found: Found) -> bool:
    from minidock.build import archives  # few builds open one

    return archives.is_archive(found)
