"""The build context: the files that a Dockerfile may copy from.

Mostly it is a directory. It can also come as a tar archive, on standard input or from a URL, or not at
all: then there is only a Dockerfile. What .dockerignore names is not there for the build, as if it did
not exist.

Source: docker build, "Build with PATH", "Build with URL", "Build with -"; Dockerfile reference,
".dockerignore file".
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minidock.build import ignore
from minidock.build.ignore import Patterns
from minidock.build.known import Known
from minidock.build.view import Found, View
from minidock.errors import InvalidInput

DEFAULT_NAME = "Dockerfile"
LONGEST_DOCKERFILE = 4 << 20  # bytes

_GIT = re.compile(r"(git://|git@|ssh://|github\.com/)|https?://.*\.git(#.*)?$")


@dataclass(frozen=True, slots=True)
class Context:
    """The files a build may copy, without those that .dockerignore names.

    *scratch* takes what ADD fetches. *known* are digests of its files, from builds before.
    """

    view: View
    patterns: Patterns
    root: Path
    name: str
    scratch: Path
    known: Known | None = None

    def find(self, path: str, *, follow: bool = True) -> Found | None:
        """What *path* leads to, as View.find; None for what is ignored."""
        found = self.view.find(path, follow=follow)
        return found if found and self._shows(found.name) and self._shows(path) else None

    def names(self, path: str) -> list[str]:
        """The sorted names in the directory *path* that are not ignored."""
        above = self.view.resolve(path)
        whole = (f"{above}/{name}" if above else name for name in self.view.names(path))
        return [name.rpartition("/")[2] for name in whole if self._shows(name)]

    def walk(self, path: str) -> Iterator[Found]:
        """*path* and everything below it, as View.walk, without what is ignored."""
        return (found for found in self.view.walk(path, self._enters) if not self._ignores(found.name))

    def _shows(self, name: str) -> bool:
        """Not ignored, or a directory in which something is not."""
        if not self._ignores(name):
            return True
        return self.patterns.may_match_below(name) and any(self.walk(name))

    def _enters(self, found: Found) -> bool:
        return not self._ignores(found.name) or self.patterns.may_match_below(found.name)

    def _ignores(self, name: str) -> bool:
        return bool(self.patterns.patterns) and bool(name) and self.patterns.matches(name)


def open_context(
    source: str | Path | BinaryIO, dockerfile: str | None, scratch: Path, stdin: BinaryIO | None = None
) -> tuple[Context, bytes, str]:
    """Open what `build` was given: the context, the text of the Dockerfile, and its name.

    *source* is a directory, an http URL, ``-`` (standard input) or an open file; *dockerfile* the value
    of ``-f``. *scratch* is an empty directory for what has to be unpacked; the caller removes it.

    Raises InvalidInput, with Docker's words, for what cannot be a context.
    """
    if not isinstance(source, str | Path):
        return _from_stream(_blocks(source), "the archive", dockerfile, scratch, stdin)
    text = os.fspath(source)
    if text == "-":
        if dockerfile == "-":
            raise InvalidInput("invalid argument: can't use stdin for both build context and dockerfile")
        if stdin is None:
            raise InvalidInput("-: there is no standard input to read")
        return _from_stream(_blocks(stdin), "-", dockerfile, scratch, None)
    if _GIT.match(text) and not Path(text).is_dir():
        raise InvalidInput(
            f"{text}: minidock builds no git repositories",
            hint="Clone it (git clone --depth 1 URL), then build the directory.",
        )
    if text.startswith(("http://", "https://")):
        from minidock.build import fetch  # costs 30 ms that most builds need not pay

        with fetch.opened(text) as answer:
            return _from_stream(answer.blocks(), text, dockerfile, scratch, stdin)
    return _from_directory(Path(text), dockerfile, scratch, stdin)


# --- a directory ---------------------------------------------------------------------------------


def _from_directory(
    root: Path, dockerfile: str | None, scratch: Path, stdin: BinaryIO | None
) -> tuple[Context, bytes, str]:
    if not root.exists():
        raise InvalidInput(f'unable to prepare context: path "{root}" not found')
    if not root.is_dir():
        raise InvalidInput(
            f"unable to prepare context: context must be a directory: {root}",
            hint=f"To name a Dockerfile use -f: minidock build -f {root} .",
        )
    ignored = root / ".dockerignore"
    if dockerfile == "-":
        text = _dockerfile_text(_blocks(stdin or _no_input()), "-")
        return Context(View([root]), _read_patterns([ignored]), root, str(root), scratch), text, "-"
    path = Path(dockerfile) if dockerfile else root / DEFAULT_NAME
    if not dockerfile and not path.exists() and (root / DEFAULT_NAME.lower()).exists():
        path = root / DEFAULT_NAME.lower()
    try:
        with open(path, "rb") as file:
            text = _dockerfile_text(_blocks(file), str(path))
    except OSError as error:
        raise InvalidInput(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {path.absolute()}: {(error.strerror or '').lower()}",
            hint=None if dockerfile else "Name it with -f FILE when it stands elsewhere.",
        ) from None
    beside = path.with_name(f"{path.name}.dockerignore")
    patterns = _read_patterns([beside, ignored])
    return Context(View([root]), patterns, root, str(root), scratch), text, dockerfile or path.name


def _read_patterns(candidates: list[Path]) -> Patterns:
    """The patterns in the first of the files that exists."""
    for path in candidates:
        try:
            # It may be a fifo: it must not hold us up.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                return _patterns(file.read(LONGEST_DOCKERFILE))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidInput(f"error reading .dockerignore: {path}: {error.strerror}") from None
    return Patterns([])


def _patterns(content: bytes) -> Patterns:
    return ignore.read(content.decode(errors="surrogateescape"))


def _no_input() -> BinaryIO:
    raise InvalidInput("-f -: there is no standard input to read")


# --- an archive, or a Dockerfile alone -----------------------------------------------------------


def _from_stream(
    blocks: Iterator[bytes], name: str, dockerfile: str | None, scratch: Path, stdin: BinaryIO | None
) -> tuple[Context, bytes, str]:
    """A tar archive, compressed or not, is a context; anything else is a Dockerfile without one."""
    from minidock.build import archives
    from minidock.images import compression, tar

    root = scratch / "context"
    root.mkdir(mode=0o700)
    beginning = _beginning(blocks, tar.BLOCK)
    stream = itertools.chain([beginning], blocks)
    if not compression.detect(beginning) and not archives.begins_archive(beginning):
        if dockerfile:
            raise InvalidInput(
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
                hint=f"{name} is no archive, so it is taken for a Dockerfile: leave out -f.",
            )
        text = _dockerfile_text(stream, name)
        return Context(View([root]), Patterns([]), root, name, scratch), text, DEFAULT_NAME
    archives.unpack(stream, root, name)
    view = View([root])
    wanted = dockerfile or DEFAULT_NAME
    if wanted == "-":
        text = _dockerfile_text(_blocks(stdin or _no_input()), "-")
    elif view.find(wanted) is None:
        raise InvalidInput(f"Cannot locate specified Dockerfile: {wanted}", hint=f"{name} does not hold it.")
    else:
        text = view.read(wanted)
    ignored = (each for each in (f"{wanted}.dockerignore", ".dockerignore") if view.find(each))
    patterns = _patterns(next((view.read(each) for each in ignored), b""))
    return Context(view, patterns, root, name, scratch), text, wanted


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 16), b"")


def _beginning(blocks: Iterator[bytes], length: int) -> bytes:
    beginning = b""
    while len(beginning) < length and (block := next(blocks, b"")):
        beginning += block
    return beginning


def _dockerfile_text(blocks: Iterable[bytes], name: str) -> bytes:
    text = b""
    for block in blocks:
        text += block
        if len(text) > LONGEST_DOCKERFILE:
            raise InvalidInput(f"{name}: larger than {LONGEST_DOCKERFILE} bytes: this is no Dockerfile")
    return text
