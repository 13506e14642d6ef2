"""Build contexts from all the places they may come from."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import lzma
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from minidock.build.context import Context, open_context
from minidock.errors import InvalidInput, MinidockError

TEXT = b"FROM busybox\n"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with a Dockerfile and a few files."""
    root = tmp_path / "context"
    for name in ("Dockerfile", "a.txt", "src/main.c", "src/main.o", "docs/a/README.md", "docs/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(TEXT if name == "Dockerfile" else name.encode())
    return root


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(content), 33, 44
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def names(context: Context) -> list[str]:
    return [found.name for found in context.walk("") if found.name]


# --- a directory ---------------------------------------------------------------------------------


def test_a_directory(here: Path, scratch: Path) -> None:
    context, text, name = open_context(here, None, scratch)
    assert (text, name) == (TEXT, "Dockerfile")
    assert context.view.read("src/main.c") == b"src/main.c"
    assert names(context) == [
        *("Dockerfile", "a.txt", "docs", "docs/a", "docs/a/README.md", "docs/x"),
        *("src", "src/main.c", "src/main.o"),
    ]


def test_what_is_ignored_is_not_there(here: Path, scratch: Path) -> None:
    (here / ".dockerignore").write_text("# comment\n**/*.o\ndocs\n!docs/a/README.md\nDockerfile\n")
    context, text, _ = open_context(str(here), None, scratch)
    assert text == TEXT  # ignoring the Dockerfile does not hide it from the builder
    assert context.find("Dockerfile") is None
    assert context.find("src/main.o") is None
    assert context.names("src") == ["main.c"]
    assert context.find("docs/a/README.md") and context.find("docs")
    assert context.names("") == [".dockerignore", "a.txt", "docs", "src"]
    assert context.names("docs") == ["a"]
    assert names(context) == [".dockerignore", "a.txt", "docs/a/README.md", "src", "src/main.c"]


def test_a_link_does_not_lead_to_what_is_ignored(here: Path, scratch: Path) -> None:
    (here / ".dockerignore").write_text("docs\n")
    (here / "link").symlink_to("docs/x")
    context, _, _ = open_context(here, None, scratch)
    assert context.find("link") is None


def test_an_ignored_directory_is_not_opened(here: Path, scratch: Path) -> None:
    """A directory too deep to walk stands for one that is too large."""
    deep = here / "node_modules"
    for _ in range(25):
        deep = deep / ("d" * 200)
        try:
            deep.mkdir(parents=True)
        except OSError:
            break
    descriptor = os.open(deep.parent, os.O_RDONLY)
    for _ in range(5):  # below what a path can name
        os.mkdir("d" * 200, dir_fd=descriptor)
        descriptor = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
    context, _, _ = open_context(here, None, scratch)
    with pytest.raises(MinidockError, match="File name too long"):
        names(context)
    (here / ".dockerignore").write_text("node_modules\n")
    context, _, _ = open_context(here, None, scratch)
    assert "a.txt" in names(context)


def test_sockets_are_not_there(here: Path, scratch: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "sock"))
    context, _, _ = open_context(here, None, scratch)
    assert context.find("sock") is None
    assert "sock" not in names(context)


def test_another_dockerfile(
    here: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-f starts at the working directory, not at the context, and may lie outside."""
    (here.parent / "Other").write_bytes(b"FROM scratch\n")
    (here.parent / "Other.dockerignore").write_text("src\n")
    (here / ".dockerignore").write_text("docs\n")
    monkeypatch.chdir(here.parent)
    context, text, name = open_context("context", "Other", scratch)
    assert (text, name) == (b"FROM scratch\n", "Other")
    assert "docs/x" in names(context) and "src" not in names(context)


def test_a_dockerfile_on_standard_input(here: Path, scratch: Path) -> None:
    context, text, name = open_context(here, "-", scratch, io.BytesIO(b"FROM x\n"))
    assert (text, name) == (b"FROM x\n", "-")
    assert context.find("a.txt")


def test_lower_case_will_do(here: Path, scratch: Path) -> None:
    (here / "Dockerfile").rename(here / "dockerfile")
    assert open_context(here, None, scratch)[1:] == (TEXT, "dockerfile")


def test_a_fifo_for_dockerignore_holds_nobody_up(here: Path, scratch: Path) -> None:
    os.mkfifo(here / ".dockerignore")
    context, _, _ = open_context(here, None, scratch)
    assert context.find("a.txt")


@pytest.mark.parametrize(
    ("source", "dockerfile", "message"),
    [
        ("none", None, 'unable to prepare context: path "none" not found'),
        ("context/a.txt", None, "unable to prepare context: context must be a directory: context/a.txt"),
        (
            "context/src",
            None,
            "Dockerfile path: lstat .*/context/src/Dockerfile: no such file",
        ),
        ("context", "none", "unable to evaluate symlinks in Dockerfile path: lstat .*/none: no such file"),
        ("context", "context", "lstat .*/context: is a directory"),
        ("-", "-", "invalid argument: can't use stdin for both build context and dockerfile"),
        ("git@github.com:a/b.git", None, "minidock builds no git repositories"),
        ("https://example.org/a/b.git#main", None, "minidock builds no git repositories"),
        ("http://127.0.0.1:9/x", None, "127.0.0.1:9"),
    ],
)
def test_what_is_no_context(
    here: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    dockerfile: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(here.parent)
    with pytest.raises(MinidockError, match=message) as raised:
        open_context(source, dockerfile, scratch, io.BytesIO())
    assert "\n" not in raised.value.message


def test_a_dockerignore_that_makes_no_sense(here: Path, scratch: Path) -> None:
    (here / ".dockerignore").write_text("ok\n[\n")
    with pytest.raises(InvalidInput, match="syntax error in pattern"):
        open_context(here, None, scratch)


# --- archives ------------------------------------------------------------------------------------

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_on_standard_input(scratch: Path, compression: str) -> None:
    files = {"./Dockerfile": TEXT, "a/b": b"1", "secret": b"2", ".dockerignore": b"secret\n"}
    stream = io.BytesIO(COMPRESSIONS[compression](tar(files)))
    context, text, name = open_context("-", None, scratch, stream)
    assert (text, name) == (TEXT, "Dockerfile")
    assert names(context) == [".dockerignore", "Dockerfile", "a", "a/b"]


def test_an_archive_with_long_names(scratch: Path) -> None:
    """It begins with an extended header, not with a file."""
    long = "x" * 150
    context, _, _ = open_context("-", None, scratch, io.BytesIO(tar({long: b"1", "Dockerfile": TEXT})))
    assert context.view.read(long) == b"1"


def test_an_open_file_as_the_engine_api_gives_it(scratch: Path) -> None:
    stream = io.BytesIO(tar({"sub/My": b"FROM y\n", "sub/My.dockerignore": b"a\n", "a": b"1"}))
    context, text, name = open_context(stream, "sub/My", scratch)
    assert (text, name) == (b"FROM y\n", "sub/My")
    assert context.find("a") is None


def test_a_dockerfile_alone(scratch: Path) -> None:
    context, text, name = open_context("-", None, scratch, io.BytesIO(b"FROM x\nRUN true\n"))
    assert (text, name) == (b"FROM x\nRUN true\n", "Dockerfile")
    assert names(context) == []


def test_nothing_at_all(scratch: Path) -> None:
    assert open_context("-", None, scratch, io.BytesIO())[1] == b""


@pytest.mark.parametrize(
    ("stream", "dockerfile", "message"),
    [
        (tar({"a": b""}), None, "Cannot locate specified Dockerfile: Dockerfile"),
        (tar({"a": b""}), "Foo", "Cannot locate specified Dockerfile: Foo"),
        (TEXT, "Foo", "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"),
        (tar({"../a": b""}), None, "leads out"),
        (tar({"a": b"x" * 9000})[:4096], None, "ends in the middle"),
        (gzip.compress(tar({"a": os.urandom(9000)}))[:4096], None, "not a valid gzip stream"),
        (b"#" * (5 << 20), None, "this is no Dockerfile"),
    ],
)
def test_streams_that_are_no_context(
    scratch: Path, stream: bytes, dockerfile: str | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_context("-", dockerfile, scratch, io.BytesIO(stream))


def test_a_link_in_an_archive_does_not_lead_out(scratch: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, target in (("Dockerfile", "/etc/passwd"), (".dockerignore", "../../../etc/passwd")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    with pytest.raises(InvalidInput, match="Cannot locate specified Dockerfile"):
        open_context("-", None, scratch, io.BytesIO(out.getvalue()))


# --- URLs ----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server: its address, and what it serves."""
    served: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = served.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"") + (self.path == "/cut")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}", served
        listener.shutdown()


def test_a_url_of_an_archive_or_of_a_dockerfile(
    scratch: Path, tmp_path: Path, server: tuple[str, dict[str, bytes]]
) -> None:
    url, served = server
    served["/x.tgz"] = gzip.compress(tar({"Dockerfile": TEXT, "a": b"1"}))
    context, text, _ = open_context(f"{url}/x.tgz", None, scratch)
    assert text == TEXT and context.view.read("a") == b"1"
    served["/Dockerfile"] = b"FROM z\n"
    (tmp_path / "second").mkdir()
    context, text, _ = open_context(f"{url}/Dockerfile", None, tmp_path / "second")
    assert text == b"FROM z\n" and names(context) == []


def test_a_url_that_fails(scratch: Path, tmp_path: Path, server: tuple[str, dict[str, bytes]]) -> None:
    url, served = server
    with pytest.raises(MinidockError, match=r"failed to GET .*/none with status 404 Not Found"):
        open_context(f"{url}/none", None, scratch)
    served["/cut"] = TEXT
    with pytest.raises(MinidockError, match="the server closed in mid-transfer"):
        open_context(f"{url}/cut", None, tmp_path)
