"""The tar format itself: headers both ways, and what the writer promises."""

from __future__ import annotations

import io
import os
import tarfile

import hostile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidock.errors import InvalidInput
from minidock.images import tar
from minidock.images.header import build, number_of, parse, records_of
from minidock.images.tar import Entry, Reader, Writer

NAMES = st.binary(min_size=1, max_size=400).filter(lambda name: b"\0" not in name)


@given(st.integers(0, 8**7 - 1))
def test_octal_numbers(value: int) -> None:
    for spelling in (b"%07o\0", b"%7o ", b"%o", b" %o\0", b"%07o"):
        assert number_of((spelling % value).ljust(8, b"\0")) == value


@given(st.integers(-(2**62), 2**62))
def test_binary_numbers(value: int) -> None:
    field = value.to_bytes(12, "big", signed=True)
    assert number_of(bytes([field[0] | 0x80]) + field[1:]) == value


@pytest.mark.parametrize("field", [b"8", b"-1", b"+1", b"1_0", b"0o7", b"0x1", b"\xd9\xa3" * 4, b"1 2"])
def test_what_is_no_number(field: bytes) -> None:
    if field[0] & 0x80:
        return  # a binary number: anything is one
    with pytest.raises(InvalidInput, match="octal"):
        number_of(field.ljust(8, b"\0"))


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=30).filter(lambda k: b"=" not in k), st.binary(max_size=2000)
    )
)
def test_pax_records(records: dict[bytes, bytes]) -> None:
    body = b"".join(hostile.record(key, value) for key, value in records.items())
    assert records_of(body) == list(records.items())


@given(
    name=NAMES,
    link=NAMES,
    kind=st.sampled_from(
        [tar.HARD_LINK, tar.SYMLINK, tar.CHARACTER, tar.BLOCK_DEVICE, tar.DIRECTORY, tar.FIFO]
    ),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime=st.integers(-(10**18), 10**19),
    device=st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    xattrs=st.dictionaries(
        st.binary(min_size=1, max_size=40).filter(lambda key: not set(key) & set(b"=\0")),
        st.binary(max_size=500),
    ),
)
def test_every_entry_comes_back(
    name: bytes,
    link: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    device: int,
    xattrs: dict[bytes, bytes],
) -> None:
    entry = Entry(name, kind, mode, uid, gid, mtime=mtime, xattrs=xattrs)
    if kind in (tar.SYMLINK, tar.HARD_LINK):
        entry.link = link
    elif kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
        entry.device = device
    data = build(entry)
    (back,) = Reader([data])
    if kind == tar.DIRECTORY and not name.endswith(b"/"):
        entry.name += b"/"
    assert back == entry
    with tarfile.open(fileobj=io.BytesIO(data + hostile.END), errors="surrogateescape") as archive:
        (member,) = archive
        assert os.fsencode(member.name).rstrip(b"/") == entry.name.rstrip(b"/")
        assert (member.mode, member.uid, member.gid) == (mode, uid, gid)


@given(
    st.lists(st.tuples(st.text("abc/", min_size=1, max_size=150), st.binary(max_size=1500)), max_size=8),
    st.integers(1, 2000),
)
def test_content_in_any_pieces(contents: list[tuple[str, bytes]], size: int) -> None:
    out = io.BytesIO()
    writer = Writer(out.write)
    for name, content in contents:
        pieces = (content[at : at + size] for at in range(0, len(content), size))
        writer.add(Entry(name.rstrip("/").encode() + b"x", size=len(content)), pieces)
    writer.close()
    data = out.getvalue()
    assert len(data) % tar.BLOCK == 0
    reader = Reader(data[at : at + size] for at in range(0, len(data), size))
    found = []
    for number, entry in enumerate(reader):
        # what is not asked for is skipped
        found.append((entry.name, entry.size, b"".join(map(bytes, reader.pieces())) if number % 2 else None))
    assert found == [
        (name.rstrip("/").encode() + b"x", len(content), content if number % 2 else None)
        for number, (name, content) in enumerate(contents)
    ]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [archive.extractfile(member).read() for member in archive] == [c for _, c in contents]  # type: ignore[union-attr]


def test_sizes_beyond_octal() -> None:
    entry = Entry(b"huge", size=9 << 30)
    data = build(entry)
    assert records_of(data[512:1024].rstrip(b"\0")) == [(b"size", b"%d" % (9 << 30))]
    assert next(iter(Reader([data]))).size == 9 << 30


def test_signed_checksums_of_old_tars() -> None:
    block = bytearray(hostile.block("ümlaut".encode()))
    total = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % total
    assert parse(bytes(block), {})[0].name == "ümlaut".encode()


@pytest.mark.parametrize("content", [b"short", b"much too long"])
def test_a_file_that_changes_while_it_is_read(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="changed while it was read"):
        Writer(lambda data: None).add(Entry(b"x", size=7), content)


def test_a_limit_on_content() -> None:
    reader = Reader([hostile.file(b"manifest.json", b"x" * 600)])
    next(iter(reader))
    with pytest.raises(InvalidInput, match="at most 599"):
        reader.content(599)
