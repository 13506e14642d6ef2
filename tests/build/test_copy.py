"""COPY and ADD, by the layer they leave: every rule here was seen in Docker's own builder."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import io
import itertools
import lzma
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from minidock.build import copy
from minidock.build.context import open_context
from minidock.build.copy import Plan
from minidock.build.instructions import Copy
from minidock.build.parser import Heredoc, Node
from minidock.build.view import View
from minidock.errors import InvalidInput, MinidockError
from minidock.images.layer import pack_layer
from minidock.kernel import overlay

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
MISSING = "failed: file not found in build context or excluded by .dockerignore: stat"
SEVERAL = "more than one source file, the destination must be a directory and end with a /"

Files = dict[str, str]


class Case:
    """A context, an image and what COPY makes of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.context = base / "context"
        self.image = base / "image"
        self.stage = base / "stage"
        self._numbers = itertools.count()
        for directory in (self.context, self.image, self.stage):
            directory.mkdir()
        (self.context / "Dockerfile").write_text("FROM scratch\n")
        self.add(self.image, "etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n")
        self.add(self.image, "etc/group", "app:x:1005:\nstaff:x:50:\n")

    def add(self, root: Path, name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        """A file, or (a name that ends in "/") a directory."""
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
            mode = mode if mode != 0o644 else 0o755
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def fill(self, root: Path, *names: str) -> None:
        for name in names:
            self.add(root, name, name)

    def plan(self, text: str, *, workdir: str = "/", heredocs: tuple[Heredoc, ...] = ()) -> Plan:
        instruction = read(text, heredocs)
        scratch = self.base / f"scratch{next(self._numbers)}"
        scratch.mkdir()
        source = (
            View([self.stage]) if instruction.from_stage else open_context(self.context, None, scratch)[0]
        )
        return copy.plan(instruction, source, workdir, View([self.image]))

    def layer(self, text: str, newest: int | None = None, **options: object) -> Path:
        """The tree of the layer that *text* makes."""
        plan = self.plan(text, **options)  # type: ignore[arg-type]
        tree = self.base / f"layer{next(self._numbers)}"
        tree.mkdir()
        plan.write(tree, newest)
        return tree

    def run(self, text: str, **options: object) -> Files:
        return shown(self.layer(text, **options))  # type: ignore[arg-type]


def read(text: str, heredocs: tuple[Heredoc, ...] = ()) -> Copy:
    """``COPY --chown=1 a /b`` as an instruction, without the parser."""
    keyword, *words = text.split(" ")
    values: dict[str, object] = {}
    exclude = []
    while words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        if name == "exclude":
            exclude.append(value)
        else:
            values["from_stage" if name == "from" else name] = value or True
    node = Node(keyword.lower(), (), (), False, text, 1, 1, heredocs)
    return Copy(
        node,
        tuple(words[:-1]),
        words[-1],
        exclude=tuple(exclude),
        heredocs=heredocs,
        unpack=keyword == "ADD",
        **values,  # type: ignore[arg-type]
    )


def shown(tree: Path) -> Files:
    """``{"etc/x": "644 0:0 text"}``, for a directory ``755 0:0 /``."""
    found = {}
    for above, directories, names in os.walk(tree):
        for name in directories + names:
            path = Path(above, name)
            status = path.lstat()
            what = "?"
            if path.is_symlink():
                what = f"-> {os.readlink(path)}"
            elif path.is_dir():
                what = "/"
            elif path.is_file():
                what = path.read_bytes().decode(errors="replace")
            found[str(path.relative_to(tree))] = (
                f"{stat.S_IMODE(status.st_mode):o} {status.st_uid}:{status.st_gid} {what}"
            )
    return dict(sorted(found.items()))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


# --- where it goes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "workdir", "expected"),
    [
        ("COPY a /", "/", {"a": "644 0:0 a"}),
        ("COPY a /new/dir/", "/", {"new": "755 0:0 /", "new/dir": "755 0:0 /", "new/dir/a": "644 0:0 a"}),
        ("COPY a /new/file", "/", {"new": "755 0:0 /", "new/file": "644 0:0 a"}),
        ("COPY a /opt", "/", {"opt": "711 3:4 /", "opt/a": "644 0:0 a"}),
        ("COPY a .", "/opt", {"opt": "711 3:4 /", "opt/a": "644 0:0 a"}),
        ("COPY a x", "/opt", {"opt": "711 3:4 /", "opt/x": "644 0:0 a"}),
        ("COPY a ../x", "/opt", {"x": "644 0:0 a"}),
        ("COPY a ../../../x", "/opt", {"x": "644 0:0 a"}),
        ("COPY /a /x", "/", {"x": "644 0:0 a"}),
        ("COPY d/../a /x", "/", {"x": "644 0:0 a"}),
        ("COPY a d/x /y/", "/", {"y": "755 0:0 /", "y/a": "644 0:0 a", "y/x": "644 0:0 d/x"}),
        (
            "COPY d /y",
            "/",
            {"y": "755 0:0 /", "y/sub": "700 0:0 /", "y/sub/z": "644 0:0 d/sub/z", "y/x": "644 0:0 d/x"},
        ),
        ("COPY d/sub /opt", "/", {"opt": "711 3:4 /", "opt/z": "644 0:0 d/sub/z"}),
        ("COPY d/sub/ /y/", "/", {"y": "755 0:0 /", "y/z": "644 0:0 d/sub/z"}),
        ("COPY empty /y", "/", {"y": "755 0:0 /"}),
        ("COPY link /y", "/", {"y": "644 0:0 a"}),
        ("COPY dlink /y", "/", {"y": "755 0:0 /", "y/z": "644 0:0 d/sub/z"}),
        ("COPY d/s* /y/", "/", {"y": "755 0:0 /", "y/z": "644 0:0 d/sub/z"}),
        ("COPY */x /y/", "/", {"y": "755 0:0 /", "y/x": "644 0:0 d/x"}),
        ("COPY dlink/* /y", "/", {"y": "644 0:0 d/sub/z"}),
        ("COPY */z /y", "/", {"y": "644 0:0 other/z"}),
        ("COPY [^b-z] /y", "/", {"y": "644 0:0 a"}),
        # the destination is seen with the image's own links
        ("COPY a /lnk/", "/", {"target": "755 0:0 /", "target/a": "644 0:0 a"}),
        ("COPY a /lnk", "/", {"target": "644 0:0 a"}),
        ("COPY a /abs/x", "/", {"opt": "711 3:4 /", "opt/x": "644 0:0 a"}),
        ("COPY a /out/x", "/", {"x": "644 0:0 a"}),
        # but a link of the name that is copied is replaced
        ("COPY a /holds", "/", {"holds": "755 0:0 /", "holds/a": "644 0:0 a"}),
        # --link looks at nothing in the image
        ("COPY --link a /lnk/", "/", {"lnk": "755 0:0 /", "lnk/a": "644 0:0 a"}),
        ("COPY --link a /opt/", "/", {"opt": "711 3:4 /", "opt/a": "644 0:0 a"}),
    ],
)
def test_where_files_go(case: Case, text: str, workdir: str, expected: Files) -> None:
    case.fill(case.context, "a", "d/x", "d/sub/z", "other/z")
    case.add(case.context, "empty/")
    (case.context / "d/sub").chmod(0o700)
    (case.context / "link").symlink_to("a")
    (case.context / "dlink").symlink_to("/d/sub")  # absolute: the context is its root
    opt = case.add(case.image, "opt/", mode=0o711)
    os.chown(opt, 3, 4)
    case.add(case.image, "holds/")
    for name, target in (("lnk", "target"), ("abs", "/opt"), ("out", "../../.."), ("holds/a", "/etc/passwd")):
        (case.image / name).symlink_to(target)
    assert case.run(text, workdir=workdir) == expected


def test_links_inside_a_directory_stay_links(case: Case) -> None:
    case.fill(case.context, "d/x")
    (case.context / "d/in").symlink_to("x")
    (case.context / "d/out").symlink_to("/etc/passwd")
    (case.context / "d/nowhere").symlink_to("no/such")
    assert case.run("COPY d /y") == {
        "y": "755 0:0 /",
        "y/in": "777 0:0 -> x",
        "y/nowhere": "777 0:0 -> no/such",
        "y/out": "777 0:0 -> /etc/passwd",
        "y/x": "644 0:0 d/x",
    }


def test_later_sources_win(case: Case) -> None:
    case.fill(case.context, "one/x", "two/x", "two/y")
    assert case.run("COPY one two /z/") == {
        "z": "755 0:0 /",
        "z/x": "644 0:0 two/x",
        "z/y": "644 0:0 two/y",
    }


def test_files_of_a_stage_keep_their_owners(case: Case) -> None:
    case.fill(case.stage, "o/p/s")
    os.chown(case.stage / "o/p", 5, 6)
    os.chown(case.stage / "o/p/s", 7, 8)
    (case.stage / "o/p/s").chmod(0o4755)
    os.mknod(case.stage / "o/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (case.stage / "o/null").chmod(0o666)
    assert case.run("COPY --from=0 /o /n") == {
        "n": "755 0:0 /",
        "n/null": "666 0:0 ?",
        "n/p": "755 5:6 /",
        "n/p/s": "4755 7:8 o/p/s",
    }
    assert case.run("COPY --from=0 --chown=1:2 o/p/s /n") == {"n": "4755 1:2 o/p/s"}


def test_all_of_a_stage(case: Case) -> None:
    case.fill(case.stage, "bin/x", "y")
    assert case.run("COPY --from=0 / /") == {"bin": "755 0:0 /", "bin/x": "644 0:0 bin/x", "y": "644 0:0 y"}


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY no /x", f"COPY {MISSING} no: file does not exist"),
        ("ADD no /x", f"ADD {MISSING} no: file does not exist"),
        ("COPY secret /x", f"COPY {MISSING} secret: file does not exist"),
        ("COPY --from=0 /no /x", "COPY failed: stat no: file does not exist"),
        ("COPY no* /x", "COPY failed: no source files were specified"),
        ("COPY secre* /x", "COPY failed: no source files were specified"),
        ("COPY ../x /y", "COPY failed: forbidden path outside the build context: ../x ()"),
        ("COPY /d/../../x /y", "COPY failed: forbidden path outside the build context: ../x ()"),
        ("COPY a b /y", f"When using COPY with {SEVERAL}"),
        ("ADD ? /y", f"When using ADD with {SEVERAL}"),
        ("COPY out /y", f"COPY {MISSING} out: file does not exist"),
        ("COPY loop /y", "loop: too many levels of symbolic links"),
        ("COPY [ /y", "syntax error in pattern"),
        ("COPY http://x/y /y", "COPY failed: source can't be a URL for COPY"),
        ("ADD https://x/y.git /y", "ADD https://x/y.git: minidock fetches no git repositories"),
        ("ADD --checksum=sha256:0 a /y", "checksum can't be specified for non-HTTP(S) sources"),
        ("COPY a /etc/passwd/", "cannot copy to non-directory: /etc/passwd"),
        ("COPY a /etc/passwd/x/y", "cannot copy to non-directory: /etc/passwd"),
        ("COPY d /etc/passwd", "cannot copy to non-directory: /etc/passwd"),
        ("COPY d /has", "cannot replace to directory /has/x with file"),
        ("COPY d/x /has", "cannot replace to directory /has/x with file"),
        ("COPY d /taken", "cannot copy to non-directory: /taken/sub"),
        ("COPY a /circle/x", "/circle/x: too many levels of symbolic links"),
        ("COPY a /x\0y", "no name holds a null byte"),
        ("COPY a\0b /x", "file does not exist"),
        (f"COPY {'n' * 300} /x", "File name too long"),
        ("COPY broke* /x", f"COPY {MISSING} broken: file does not exist"),
        (f"COPY a /{'n' * 300}", "File name too long"),
        ("COPY --chown=nobody a /x", "can't find uid for user nobody: no such user: nobody"),
        ("COPY --chown=app:no a /x", "can't find gid for group no: no such group: no"),
        ("COPY --chown=9999999999 a /x", "uids and gids must be in range"),
        ("COPY --chmod=888 a /x", "invalid chmod parameter: '888'"),
        ("COPY --chmod=u+y a /x", "invalid chmod parameter: 'u+y'"),
    ],
)  # fmt: skip
def test_what_is_refused(case: Case, text: str, message: str) -> None:
    case.fill(case.context, "a", "b", "d/x", "d/sub/y", "secret")
    (case.context / ".dockerignore").write_text("secret\n")
    (case.context / "out").symlink_to("../../../etc/passwd")
    (case.context / "loop").symlink_to("loop")
    (case.context / "broken").symlink_to("nowhere")
    case.add(case.image, "has/x/")
    case.add(case.image, "taken/sub")
    (case.image / "circle").symlink_to("circle")
    with pytest.raises(MinidockError) as raised:
        case.plan(text)
    assert message in raised.value.message
    assert "\n" not in raised.value.message


def test_two_sources_that_cannot_be_one(case: Case) -> None:
    case.fill(case.context, "one/x", "two/x/y")
    with pytest.raises(InvalidInput, match="cannot copy to non-directory: /z/x"):
        case.plan("COPY one two /z/")
    with pytest.raises(InvalidInput, match="cannot replace to directory /z/x with file"):
        case.plan("COPY two one /z/")


# --- looks ---------------------------------------------------------------------------------------


def test_chown_by_name_and_number(case: Case) -> None:
    case.fill(case.context, "d/x")
    assert case.run("COPY --chown=app:staff d/x /x") == {"x": "644 1000:50 d/x"}
    assert case.run("COPY --chown=app d/x /x") == {"x": "644 1000:1005 d/x"}  # the group of that name
    assert case.run("COPY --chown=7 d/x /n/x") == {"n": "755 7:7 /", "n/x": "644 7:7 d/x"}
    assert case.run("COPY --chown=7:8 d /n/m") == {
        "n": "755 0:0 /",
        "n/m": "755 7:8 /",
        "n/m/x": "644 7:8 d/x",
    }


@pytest.mark.parametrize(
    ("chmod", "file", "program", "directory"),
    [
        ("600", "600", "600", "600"),
        ("0755", "755", "755", "755"),
        ("4711", "4711", "4711", "4711"),
        ("u=rwX,go=rX", "644", "755", "755"),
        ("+x", "755", "755", "711"),
        ("a-r", "200", "311", "300"),
        ("go=", "600", "700", "700"),
        ("u+s,o+t", "5644", "5755", "5700"),
    ],
)
def test_chmod(case: Case, chmod: str, file: str, program: str, directory: str) -> None:
    case.add(case.context, "d/file")
    case.add(case.context, "d/program", mode=0o755)
    case.add(case.context, "d/dir/", mode=0o700)
    (case.context / "d/link").symlink_to("file")
    found = case.run(f"COPY --chmod={chmod} d /n")
    modes = {name: looks.split(" ")[0] for name, looks in found.items()}
    assert modes == {
        "n": "755",
        "n/file": file,
        "n/program": program,
        "n/dir": directory,
        "n/link": "777",
    }


def test_times_are_the_sources(case: Case) -> None:
    case.fill(case.context, "d/sub/x")
    for name, seconds in (("d/sub/x", 1_000_000_000), ("d/sub", 1_100_000_000), ("d", 1_200_000_000)):
        os.utime(case.context / name, ns=(0, seconds * 10**9 + 789))
    tree = case.layer("COPY d /n")
    assert (tree / "n/sub/x").stat().st_mtime_ns == 1_000_000_000 * 10**9
    assert (tree / "n/sub").stat().st_mtime_ns == 1_100_000_000 * 10**9
    clamped = case.layer("COPY d /n", newest=1_050_000_000)
    times = {int(path.stat().st_mtime) for path in clamped.rglob("*")}
    assert times == {1_000_000_000, 1_050_000_000}


def test_a_clamped_layer_is_reproducible(case: Case) -> None:
    case.fill(case.context, "d/sub/x", "y")
    digests = set()
    for _ in range(2):
        tree = case.layer("COPY . /new/place/", newest=1_000_000_000)
        digests.add(pack_layer(tree, io.BytesIO(), newest=1_000_000_000).diff_id)
        time.sleep(0.01)
        os.utime(case.context / "y")
    assert len(digests) == 1


def test_directories_on_the_way_look_as_in_the_image(case: Case) -> None:
    case.fill(case.context, "x")
    tmp = case.add(case.image, "tmp/", mode=0o1777)
    os.chown(tmp, 11, 12)
    os.setxattr(tmp, "user.note", b"kept")
    os.utime(tmp, (1_000_000_000, 1_000_000_000))
    case.image.chmod(0o711)
    tree = case.layer("COPY x /tmp/x")
    status = (tree / "tmp").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 11, 12)
    assert int(status.st_mtime) == 1_000_000_000
    assert os.getxattr(tree / "tmp", "user.note") == b"kept"
    assert stat.S_IMODE(tree.stat().st_mode) == 0o711
    for path in (tree, tree / "tmp"):
        assert not [key for key in os.listxattr(path) if key.startswith("trusted.")]


def test_hard_links_of_one_directory_stay(case: Case) -> None:
    case.fill(case.context, "d/x")
    os.link(case.context / "d/x", case.context / "d/y")
    tree = case.layer("COPY d /n")
    assert (tree / "n/x").samefile(tree / "n/y")
    tree = case.layer("COPY d/x d/y /n/")  # two sources: two files
    assert not (tree / "n/x").samefile(tree / "n/y")


def test_capabilities_are_kept_and_other_attributes_are_not(case: Case) -> None:
    path = case.add(case.context, "x", "x", mode=0o755)
    os.setxattr(path, "security.capability", CAPABILITY)
    os.setxattr(path, "user.note", b"mine")
    tree = case.layer("COPY --chown=app x /x")
    assert os.getxattr(tree / "x", "security.capability") == CAPABILITY
    assert os.listxattr(tree / "x") == ["security.capability"]


def test_sockets_are_skipped_and_fifos_made(case: Case) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(case.add(case.context, "d/") / "sock"))
    os.mkfifo(case.context / "d/fifo", 0o600)
    assert case.run("COPY d /n") == {"n": "755 0:0 /", "n/fifo": "600 0:0 ?"}
    with pytest.raises(InvalidInput, match="stat d/sock: file does not exist"):
        case.plan("COPY d/sock /n")


# --- --exclude, --parents ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ("", ["a.md", "a.txt", "sub/b.md", "sub/b.txt"]),
        ("--exclude=*.txt", ["a.md", "sub/b.md", "sub/b.txt"]),
        ("--exclude=**/*.txt", ["a.md", "sub/b.md"]),
        ("--exclude=sub --exclude=a.md", ["a.txt"]),
        ("--exclude=sub --exclude=!sub/b.md", ["a.md", "a.txt", "sub/b.md"]),
    ],
)
def test_exclude(case: Case, flags: str, left: list[str]) -> None:
    case.fill(case.context, "d/a.txt", "d/a.md", "d/sub/b.txt", "d/sub/b.md")
    found = case.run(f"COPY {flags} d /n".replace("  ", " "))
    assert [name.removeprefix("n/") for name, looks in found.items() if not looks.endswith("/")] == left


def test_exclude_among_the_matches_of_a_wildcard(case: Case) -> None:
    case.fill(case.context, "home.txt", "home.md")
    assert case.run("COPY --exclude=*.txt hom* /n/") == {"n": "755 0:0 /", "n/home.md": "644 0:0 home.md"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("COPY --parents x/y/a /n/", ["n", "n/x", "n/x/y", "n/x/y/a"]),
        ("COPY --parents x/y z/b /n/", ["n", "n/x", "n/x/y", "n/x/y/a", "n/z", "n/z/b"]),
        ("COPY --parents ./x/./y/* /n/", ["n", "n/y", "n/y/a"]),
        ("COPY --parents /x/./y /n", ["n", "n/y", "n/y/a"]),
        ("COPY --parents */*/a /n", ["n", "n/x", "n/x/y", "n/x/y/a"]),
        ("COPY --parents x/y/a /", ["x", "x/y", "x/y/a"]),
    ],
)
def test_parents(case: Case, text: str, names: list[str]) -> None:
    case.fill(case.context, "x/y/a", "z/b")
    (case.context / "x/y").chmod(0o750)
    found = case.run(text)
    assert list(found) == names
    assert all(found[name] == "750 0:0 /" for name in names if name.endswith("y"))


# --- heredocs ------------------------------------------------------------------------------------


def test_heredocs(case: Case) -> None:
    robots = Heredoc("robots.txt", "Disallow: /\n", expand=True, chomp=False, descriptor=0)
    humans = Heredoc("humans.txt", "\tAda\n\t\tBob\n", expand=True, chomp=True, descriptor=0)
    assert case.run("COPY /n/", heredocs=(robots, humans)) == {
        "n": "755 0:0 /",
        "n/humans.txt": "644 0:0 Ada\nBob\n",
        "n/robots.txt": "644 0:0 Disallow: /\n",
    }
    assert case.run("COPY --chmod=755 --chown=1 /run.sh", heredocs=(robots,)) == {
        "run.sh": "755 1:1 Disallow: /\n"
    }


# --- the digest ----------------------------------------------------------------------------------


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def rewrite(path: Path) -> None:
    path.write_text("changed")


def open_up(path: Path) -> None:
    path.chmod(0o666)


def rename(path: Path) -> None:
    path.rename(path.with_name("other"))


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def give_capability(path: Path) -> None:
    os.setxattr(path, "security.capability", CAPABILITY)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (touch, True),
        (rewrite, False),
        (open_up, False),
        (rename, False),
        (link, False),
        (give_capability, False),
    ],
)
def test_what_counts_for_the_digest(case: Case, change: Callable[[Path], None], same: bool) -> None:
    case.fill(case.context, "d/x", "d/y")
    before = case.plan("COPY d /n")
    change(case.context / "d/x")
    after = case.plan("COPY d /n")
    assert (before.digest == after.digest) is same


def test_the_digest_does_not_depend_on_where_the_context_is(case: Case, tmp_path: Path) -> None:
    case.fill(case.context, "d/x")
    before = case.plan("COPY d /n").digest
    case.context.rename(tmp_path / "moved")
    case.context = tmp_path / "moved"
    assert case.plan("COPY d /n").digest == before


def test_files_say_which_one_changed(case: Case) -> None:
    case.fill(case.context, "d/x", "d/y")
    before = case.plan("COPY d /n").files
    rewrite(case.context / "d/x")
    after = case.plan("COPY d /n").files
    assert sorted(before) == ["d/x", "d/y"]
    assert [name for name in before if before[name] != after[name]] == ["d/x"]


@pytest.mark.parametrize(
    ("text", "shape", "shown"),
    [
        ("COPY d/x x", "file", "x"),
        ("COPY d ./n/", "dir", "./n/"),
        ("COPY d/* /n/", "multi", "/n/"),
        ("ADD d/x .", "file", "."),
    ],
)
def test_what_history_says(case: Case, text: str, shape: str, shown: str) -> None:
    case.fill(case.context, "d/x", "d/y")
    plan = case.plan(text)
    assert plan.described == f"{shape}:{plan.digest.removeprefix('sha256:')} in {shown}"


# --- archives ------------------------------------------------------------------------------------


def archive(*entries: tuple[str, str, str]) -> bytes:
    """A tar of (name, kind, content or target): kinds are file, dir, link, hard."""
    out = io.BytesIO()
    kinds = {
        "file": tarfile.REGTYPE,
        "dir": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
    }
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.mtime = kinds[kind], 33, 44, 1_000_000_000
            entry.mode = 0o750 if kind == "dir" else 0o4711
            if kind == "file":
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content.encode()))
            else:
                entry.linkname = content
                made.addfile(entry)
    return out.getvalue()


SIMPLE = archive(("./", "dir", ""), ("./f", "file", "1"), ("./t/", "dir", ""), ("./t/g", "file", "2"))
UNPACKED = {"n": "755 0:0 /", "n/f": "4711 33:44 1", "n/t": "750 33:44 /", "n/t/g": "4711 33:44 2"}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_add_unpacks_archives_whatever_their_name(case: Case, compress: Callable[[bytes], bytes]) -> None:
    case.add(case.context, "x", compress(SIMPLE))
    assert case.run("ADD x /n") == UNPACKED
    assert case.run("ADD --chown=7 x /n/") == UNPACKED  # owners are the archive's
    assert list(case.run("COPY x /n")) == ["n"]


def test_add_copies_what_is_no_archive(case: Case) -> None:
    case.add(case.context, "x.tar", "no tar")
    case.add(case.context, "d/in.tar", SIMPLE)
    compressed = gzip.compress(b"text")
    case.add(case.context, "x.gz", compressed)
    assert case.run("ADD x.tar /n") == {"n": "644 0:0 no tar"}
    assert (case.layer("ADD x.gz /n/") / "n/x.gz").read_bytes() == compressed
    assert list(case.run("ADD d /n")) == ["n", "n/in.tar"]  # not those in a directory


def test_an_archive_beside_files(case: Case) -> None:
    case.add(case.context, "x.tar", SIMPLE)
    case.fill(case.context, "f", "d/t/h")
    assert case.run("ADD x.tar f d /n/") == UNPACKED | {
        "n/f": "644 0:0 f",
        "n/t": "755 0:0 /",
        "n/t/h": "644 0:0 d/t/h",
    }


def test_an_archive_is_unpacked_as_it_would_be_in_the_image(case: Case) -> None:
    """Directories that it does not list stay, and links on the way are followed."""
    case.add(case.image, "usr/lib/", mode=0o711)
    (case.image / "lib").symlink_to("usr/lib")
    (case.image / "bin").symlink_to("usr/bin")
    entries = archive(("lib/x", "file", "1"), ("lib/y", "hard", "lib/x"), ("bin/", "dir", ""))
    case.add(case.context, "x.tar", entries)
    assert case.run("ADD x.tar /") == {
        "bin": "750 33:44 /",  # a listed directory replaces the link, as in Docker
        "usr": "755 0:0 /",
        "usr/lib": "711 0:0 /",
        "usr/lib/x": "4711 33:44 1",
        "usr/lib/y": "4711 33:44 1",
    }


def test_no_archive_leads_out_of_the_layer(case: Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    case.add(case.context, "x.tar", archive(("d", "link", str(outside))))
    case.fill(case.context, "s/d/evil")
    with pytest.raises(MinidockError):
        case.run("ADD x.tar s /n/")
    case.add(case.context, "x.tar", archive(("d", "link", str(outside)), ("d/evil", "file", "1")))
    with pytest.raises(MinidockError):
        case.run("ADD x.tar /n/")
    case.add(case.context, "x.tar", archive(("../../evil", "file", "1")))
    with pytest.raises(MinidockError, match=r"ADD x.tar: .*leads out"):
        case.run("ADD x.tar /n/")
    assert not list(outside.iterdir())


@pytest.mark.parametrize("end", [100, 4000, 9000])
def test_a_damaged_archive(case: Case, end: int) -> None:
    whole = gzip.compress(archive(("f", "file", os.urandom(9000).hex())))
    case.add(case.context, "x.tgz", whole[:end])
    with pytest.raises(InvalidInput, match=r"ADD x.tgz: not a valid gzip stream"):
        case.run("ADD x.tgz /n")


# --- URLs ----------------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    """A server whose every path holds "hello"; some answer oddly."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/f.txt")
                self.end_headers()
                return
            self.send_response(404 if self.path == "/none" else 200)
            if self.path != "/undated":
                self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", "9" if self.path == "/cut" else "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


HELLO = "600 0:0 hello"


@pytest.mark.parametrize(
    ("path", "destination", "expected"),
    [
        ("/f.txt", "/x", {"x": HELLO}),
        ("/f.txt", "/n/", {"n": "755 0:0 /", "n/f.txt": HELLO}),
        ("/f.txt?q=1", "/etc", {"etc": "755 0:0 /", "etc/f.txt": HELLO}),
        ("/moved", "/n/", {"n": "755 0:0 /", "n/moved": HELLO}),
        ("/a%20b", "/n/", {"n": "755 0:0 /", "n/a b": HELLO}),
        ("/", "/x", {"x": HELLO}),
    ],
)
def test_add_of_a_url(case: Case, url: str, path: str, destination: str, expected: Files) -> None:
    assert case.run(f"ADD {url}{path} {destination}") == expected


def test_the_time_of_a_url_is_the_servers(case: Case, url: str) -> None:
    assert (case.layer(f"ADD {url}/f.txt /x") / "x").stat().st_mtime == 1445412480
    assert (case.layer(f"ADD {url}/undated /x") / "x").stat().st_mtime == 0


def test_checksum(case: Case, url: str) -> None:
    right = hashlib.sha256(b"hello").hexdigest()
    assert case.run(f"ADD --checksum=sha256:{right} --chmod=755 {url}/f /f") == {"f": "755 0:0 hello"}
    with pytest.raises(InvalidInput, match=f"digest mismatch sha256:{right}: sha256:00"):
        case.plan(f"ADD --checksum=sha256:00 {url}/f /f")


@pytest.mark.parametrize(
    ("path", "destination", "message"),
    [
        ("/none", "/x", "/none with status 404 Not Found"),
        ("/cut", "/x", "the server closed in mid-transfer"),
        ("/", "/n/", "ADD failed: cannot determine filename for source http"),
        ("/..", "/n/", "ADD failed: cannot determine filename for source http"),
    ],
)
def test_urls_that_fail(case: Case, url: str, path: str, destination: str, message: str) -> None:
    with pytest.raises(MinidockError, match=message):
        case.plan(f"ADD {url}{path} {destination}")


def test_a_url_keeps_its_digest(case: Case, url: str) -> None:
    first, second = (case.plan(f"ADD {url}/f /f") for _ in range(2))
    assert (first.digest, first.files) == (second.digest, second.files)
    assert list(first.files) == ["f"]


# --- the world moves on --------------------------------------------------------------------------


def test_a_file_that_changes_after_the_plan(case: Case, tmp_path: Path) -> None:
    path = case.add(case.context, "x", "one")
    for change in (rewrite, Path.unlink, link, touch):
        plan = case.plan("COPY x /x")
        change(path)
        with pytest.raises(MinidockError) as raised:
            plan.write(tmp_path, None)
        assert raised.value.message.startswith("x: ") and "\n" not in raised.value.message
        path.unlink(missing_ok=True)
        path.write_text("one")
        (tmp_path / "x").unlink(missing_ok=True)


def test_a_link_that_changes_after_the_plan(case: Case, tmp_path: Path) -> None:
    (case.add(case.context, "d/") / "l").symlink_to("one")
    plan = case.plan("COPY d /n")
    (case.context / "d/l").unlink()
    (case.context / "d/l").symlink_to("other")
    with pytest.raises(MinidockError, match="d/l: changed while it was being copied"):
        plan.write(tmp_path, None)


def test_a_stage_that_is_gone(case: Case) -> None:
    case.stage.rmdir()
    with pytest.raises(MinidockError, match="stage: No such file or directory"):
        case.plan("COPY --from=0 x /x")


def test_a_file_too_large_for_the_disk(case: Case, in_child: Callable[..., object]) -> None:
    case.add(case.context, "x", b"x" * 100_000)
    plan = case.plan("COPY x /x")
    tree = case.base / "tree"
    tree.mkdir()

    def write_with_little_room() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            plan.write(tree, None)
        except MinidockError as error:
            return error.message
        return "it fitted"

    assert in_child(write_with_little_room) == "failed to copy files: /x: File too large"


def test_names_that_are_not_text(case: Case) -> None:
    directory = case.add(case.context, "d/")
    subprocess.run(["touch", os.fsencode(directory) + b"/\xff\n\xfe"], check=True)
    tree = case.layer("COPY d /n")
    assert os.listdir(os.fsencode(tree / "n")) == [b"\xff\n\xfe"]


def test_threads_do_not_disturb_each_other(case: Case) -> None:
    for number in range(8):
        case.fill(case.context, *(f"d{number}/f{each}" for each in range(50)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: case.run(f"COPY d{number} /n"), range(8)))
    for number, files in enumerate(found):
        assert len(files) == 51
        assert files["n/f7"] == f"644 0:0 d{number}/f7"


def test_what_is_written_is_a_layer(case: Case, root: Path, in_child: Callable[..., object]) -> None:
    """The kernel, stacking the layer on the image, shows both."""
    case.fill(case.context, "d/x", "d/etc/new")
    tree = case.layer("COPY d /")
    merged = root / "merged"
    merged.mkdir()

    def listed() -> list[str]:
        overlay.mount_overlay([tree, case.image], merged)
        return sorted(os.listdir(merged / "etc")) + sorted(os.listdir(merged))

    assert in_child(listed) == ["group", "new", "passwd", "etc", "x"]
