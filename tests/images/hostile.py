"""Hostile archives: one line each says what is in it and what must happen.

The makers write raw header blocks, because no honest tar program makes these. Each gets the path of the
*canary*, a tree beside the target that must never change.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

END = bytes(1024)


def block(
    name: bytes = b"x",
    kind: bytes = b"0",
    *,
    size: bytes | int = 0,
    link: bytes = b"",
    mode: int = 0o644,
    uid: bytes | int = 0,
    mtime: bytes | int = 1_600_000_000,
    device: tuple[int, int] | None = None,
    magic: bytes = b"ustar\00000",
    **patches: bytes,
) -> bytes:
    """One header block. Numbers may be given as raw fields; ``at_124=b"…"`` overwrites bytes there."""

    def number(value: bytes | int, width: int) -> bytes:
        return value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    major, minor = (number(part, 8) for part in device) if device else (b"", b"")
    raw = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
            *(name[:100], number(mode, 8), number(uid, 8), number(0, 8), number(size, 12), number(mtime, 12)),
            *(b" " * 8, kind, link[:100], magic, b"", b"", major, minor, b""),
        )
    )
    for where, what in patches.items():
        offset = int(where.removeprefix("at_"))
        raw[offset : offset + len(what)] = what
    if "at_148" not in patches:
        raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def body(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def file(name: bytes, content: bytes = b"hi", **fields: Any) -> bytes:
    return block(name, size=len(content), **fields) + body(content)


def directory(name: bytes, mode: int = 0o755, **fields: Any) -> bytes:
    return block(name, b"5", mode=mode, **fields)


def symlink(name: bytes, to: bytes) -> bytes:
    return block(name, b"2", link=to)


def hard_link(name: bytes, to: bytes) -> bytes:
    return block(name, b"1", link=to)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return b"%d%s" % (length, rest)


def raw_pax(text: bytes, kind: bytes = b"x") -> bytes:
    return block(b"pax", kind, size=len(text)) + body(text)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return raw_pax(b"".join(record(key, value) for key, value in records), kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    return block(b"././@LongLink", kind, size=len(name) + 1) + body(name + b"\0")


def xattr(name: bytes, value: bytes) -> bytes:
    return pax((b"SCHILY.xattr." + name, value))


def sparse(size: bytes, sparse_map: bytes, content: bytes = b"") -> bytes:
    return pax((b"GNU.sparse.size", size), (b"GNU.sparse.map", sparse_map)) + file(b"x", content)


def sparse_1(size: bytes, text: bytes, content: bytes = b"") -> bytes:
    return pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)
    ) + file(b"x", body(text) + content)


def old_sparse(size: int, *parts: tuple[int, int], extended: bytes = b"\0", content: bytes = b"") -> bytes:
    numbers = b"".join(b"%011o\0%011o\0" % part for part in parts)
    fields = {"at_386": numbers, "at_482": extended, "at_483": b"%011o\0" % size}
    return block(b"x", b"S", size=len(content), magic=b"ustar  \0", **fields) + body(content)


def nested(depth: int) -> bytes:
    return b"/".join([b"d"] * depth)


Maker = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Case:
    """*make* gets the canary's path and gives the archive. Either *refused*, a part of the message, or
    *result*: what must stand in the target, as :func:`describe` says it; names not in it may not exist."""

    name: str
    make: Maker
    refused: str = ""
    result: dict[bytes, str] = field(default_factory=dict)
    raw: bool = False  # the bytes are a whole stream: no end blocks are added
    max_size: int = 1 << 20
    options: dict[str, str] = field(default_factory=dict)


def no(name: str, make: Maker, refused: str, **more: Any) -> Case:
    return Case(name, make, refused=refused, **more)


def yes(name: str, make: Maker, result: dict[bytes, str], **more: Any) -> Case:
    return Case(name, make, result=result, **more)


def of(*parts: bytes) -> Maker:
    return lambda canary: b"".join(parts)


OUT, LINK, NOWHERE = "leads out", "symbolic link to no directory", "not in this archive"

NAMES = [
    no("climbs out", of(file(b"../canary/x")), OUT),
    no("climbs out late", of(file(b"a/../../canary/x")), OUT),
    no("climbs out of the root", of(file(b"/../canary/x")), OUT),
    no("is ..", of(directory(b"..")), OUT),
    no("a long name climbs out", of(long_name(b"a/" * 60 + b"../" * 61 + b"canary/x"), file(b"x")), OUT),
    no("a PAX path climbs out", of(pax((b"path", b"../canary/x")), file(b"x")), OUT),
    no("a prefix climbs out", of(file(b"x", at_345=b"../canary")), OUT),
    yes("absolute", of(file(b"/etc/passwd")), {b"etc": "dir 755", b"etc/passwd": "file 644 hi"}),
    yes("the canary, absolute", lambda canary: file(b"//" + canary[:60]), {b"*": ""}),
    yes("dots inside", of(file(b"./a/.././b")), {b"b": "file 644 hi"}),
    yes("three dots", of(file(b"...")), {b"...": "file 644 hi"}),
    yes("a backslash", of(file(b"..\\x")), {b"..\\x": "file 644 hi"}),
    yes("a newline", of(file(b"a\nb")), {b"a\nb": "file 644 hi"}),
    yes("not UTF-8", of(file(b"\xff\xfe")), {b"\xff\xfe": "file 644 hi"}),
    no("no name", of(file(b"")), "not a name"),
    no("a null byte", of(pax((b"path", b"a\0b")), file(b"x")), "not a name"),
    no("the root as a file", of(file(b".")), "root can only be a directory"),
    no("the root as a link", lambda canary: symlink(b"./", canary[:100]), "root can only be a directory"),
    no("a component too long", of(pax((b"path", b"n" * 256)), file(b"x")), "File name too long"),
    no("a path too long", of(pax((b"path", b"d/" * 2100)), file(b"x")), "longer than 4095"),
]

LINKS = [
    no("through a link, absolute", lambda c: symlink(b"x", c[:100]) + file(b"x/file"), LINK),
    no("through a link, relative", of(symlink(b"x", b"../canary"), file(b"x/file")), LINK),
    no("through two links", of(symlink(b"a", b".."), symlink(b"b", b"a/canary"), file(b"b/file")), LINK),
    no("through a magic link", of(symlink(b"x", b"/proc/self/root"), file(b"x/tmp")), LINK),
    no("through a loop", of(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")), LINK),
    yes(
        "through a link that stays inside, as in Docker",
        of(directory(b"canary"), symlink(b"x", b"/../../canary"), file(b"x/file")),
        {b"canary": "dir 755", b"canary/file": "file 644 hi", b"x": "link /../../canary"},
    ),
    yes(
        "a link to the root",
        of(symlink(b"up", b".."), file(b"up/up/x")),
        {b"up": "link ..", b"x": "file 644 hi"},
    ),
    no("directory behind a link", of(symlink(b"x", b"../canary"), directory(b"x/new/")), LINK),
    no("node behind a link", of(symlink(b"x", b"../canary"), block(b"x/fifo", b"6")), LINK),
    no("link behind a link", of(symlink(b"x", b"../canary"), symlink(b"x/file", b"y")), LINK),
    no("whiteout behind a link", of(symlink(b"x", b"../canary"), file(b"x/.wh.file")), LINK),
    no("opaque behind a link", of(symlink(b"x", b"../canary"), file(b"x/.wh..wh..opq")), LINK),
    yes(
        "a file over a link",
        of(symlink(b"x", b"../canary/file"), file(b"x")),
        {b"x": "file 644 hi"},
    ),
    yes(
        "a directory over a link", of(symlink(b"x", b"../canary"), directory(b"x", 0o777)), {b"x": "dir 777"}
    ),
    yes(
        "a link over a directory, whose mode is still to be set",
        of(directory(b"x", 0o700), file(b"x/y"), symlink(b"x", b"../canary")),
        {b"x": "link ../canary"},
    ),
    no(
        "through a link that replaced a directory",
        of(directory(b"x"), file(b"x/a"), symlink(b"x", b"../canary"), file(b"x/file")),
        LINK,
    ),
    no(
        "through a link that replaced a link",
        of(
            *(directory(b"d"), symlink(b"x", b"d"), file(b"x/a")),
            *(symlink(b"x", b"../canary"), file(b"x/file")),
        ),
        LINK,
    ),
    yes(
        "attributes on a link",
        of(xattr(b"user.evil", b"1"), symlink(b"x", b"../canary/file")),
        {b"x": "link ../canary/file"},
    ),
    no("a link to nothing", of(symlink(b"x", b"")), "link to nothing"),
    no("a link target too long", of(long_name(b"t" * 5000, b"K"), symlink(b"x", b"t")), "too long"),
    no("hard link, absolute", lambda c: hard_link(b"x", c[:80] + b"/file"), NOWHERE),
    no("hard link climbs", of(hard_link(b"x", b"../canary/file")), OUT),
    no("hard link through a link", of(symlink(b"l", b"../canary"), hard_link(b"x", b"l/file")), NOWHERE),
    no("hard link to nothing", of(hard_link(b"x", b"y")), NOWHERE),
    no("hard link to a directory", of(directory(b"d"), hard_link(b"x", b"d")), "is a directory"),
    no("hard link to the root", of(hard_link(b"x", b".")), "is a directory"),
    no("hard link to a deletion", of(file(b".wh.y"), hard_link(b"x", b"y")), "this layer deletes"),
    yes("hard link to itself", of(file(b"x"), hard_link(b"x", b"./x")), {b"x": "file 644 hi"}),
    yes(
        "a file over a hard link to a link",
        of(symlink(b"l", b"../canary/file"), hard_link(b"x", b"l"), file(b"x")),
        {b"l": "link ../canary/file", b"x": "file 644 hi"},
    ),
    yes(
        "a file over one of two hard links",
        of(file(b"a", b"old"), hard_link(b"b", b"a"), file(b"b", b"new")),
        {b"a": "file 644 old", b"b": "file 644 new"},
    ),
    no("below a file", of(file(b"x"), file(b"x/y")), "not a directory"),
    no("below a fifo", of(block(b"x", b"6"), file(b"x/y")), "not a directory"),
]

WHITEOUTS = [
    no("whiteout of nothing", of(file(b".wh.", b"")), "whiteout of nothing"),
    no("whiteout of .", of(file(b".wh..", b"")), "whiteout of nothing"),
    no("whiteout of ..", of(file(b".wh...", b"")), "whiteout of nothing"),
    no("whiteout of .. deeper", of(directory(b"a"), file(b"a/.wh...")), "whiteout of nothing"),
    no("whiteout climbs", of(file(b"../.wh.canary")), OUT),
    no("inside a whiteout", of(file(b".wh.x/y")), "inside a whiteout"),
    yes("whiteout as a directory", of(directory(b".wh.x")), {b"x": "whiteout"}),
    yes("whiteout as a link", of(symlink(b".wh.x", b"../canary")), {b"x": "whiteout"}),
    yes("whiteout with content", of(file(b".wh.x"), file(b"y")), {b"x": "whiteout", b"y": "file 644 hi"}),
    yes("whiteout twice", of(file(b".wh.x"), file(b".wh.x")), {b"x": "whiteout"}),
    yes("deleted, then a file", of(file(b".wh.x"), file(b"x")), {b"x": "file 644 hi"}),
    yes("a file, then deleted", of(file(b"x"), file(b".wh.x")), {b"x": "file 644 hi"}),
    yes("deleted, then a directory", of(file(b".wh.x"), directory(b"x")), {b"x": "dir 755 opaque"}),
    yes("a directory, then deleted", of(directory(b"x"), file(b".wh.x")), {b"x": "dir 755 opaque"}),
    yes(
        "deleted, then used",
        of(file(b".wh.x"), file(b"x/y")),
        {b"x": "dir 755 opaque", b"x/y": "file 644 hi"},
    ),
    yes(
        "what aufs kept",
        of(file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs"), file(b"x")),
        {b"x": "file 644 hi"},
    ),
    no("hard link into what aufs kept", of(file(b".wh..wh.a/1"), hard_link(b"x", b".wh..wh.a/1")), NOWHERE),
    no("a raw overlay whiteout", of(block(b"x", b"3", device=(0, 0))), "takes for a whiteout"),
    yes(
        "smuggled overlay attributes",
        of(
            *(xattr(b"trusted.overlay.opaque", b"y"), directory(b"d")),
            *(xattr(b"trusted.overlay.redirect", b"/canary"), directory(b"r")),
            *(xattr(b"trusted.overlay.metacopy", b""), file(b"m")),
            *(xattr(b"trusted.overlay.whiteout", b"y"), file(b"w", b"")),
            *(xattr(b"trusted.minidock.implied", b""), directory(b"i")),
        ),
        {b"d": "dir 755", b"r": "dir 755", b"m": "file 644 hi", b"w": "file 644 ", b"i": "dir 755"},
    ),
]

NODES = [
    yes("a disk", of(block(b"sda", b"4", mode=0o660, device=(8, 0))), {b"sda": "block 660 8:0"}),
    yes("setuid", of(file(b"su", mode=0o4755, uid=7)), {b"su": "file 4755 hi"}),
    yes(
        "setgid and sticky",
        of(directory(b"t", 0o3777), file(b"t/x")),
        {b"t": "dir 3777", b"t/x": "file 644 hi"},
    ),
    no("a device beyond all numbers", of(block(b"x", b"3", device=(0o77777, 1))), "no device"),
    no("an unknown type", of(block(b"x", b"V")), "not supported"),
    no("a file of several volumes", of(block(b"x", b"M")), "not supported"),
    yes("a contiguous file", of(file(b"x", kind=b"7")), {b"x": "file 644 hi"}),
    yes("a directory as tar once wrote it", of(block(b"x/", b"\0", mode=0o755)), {b"x": "dir 755"}),
    yes(
        "a device that claims content",
        of(block(b"x", b"6", size=512), file(b"y")),
        {b"x": "fifo 644", b"y": "file 644 hi"},
    ),
    no(
        "a link that has content",
        of(file(b"a"), block(b"b", b"1", size=2, link=b"a"), body(b"hi")),
        "checksum",
    ),
]

NUMBERS = [
    no("a negative size", of(block(size=b"\xff" * 12)), "a size of -1"),
    no("a size of 2**80", of(block(size=b"\x80" + b"\1" + bytes(10))), "more than"),
    no("the largest octal size", of(block(size=b"77777777777\0")), "more than"),
    no("a PAX size of an exabyte", of(pax((b"size", b"1000000000000000000")), file(b"x")), "more than"),
    no("a negative PAX size", of(pax((b"size", b"-1")), file(b"x")), "not a number"),
    no("a PAX size with an exponent", of(pax((b"size", b"1e3")), file(b"x")), "not a number"),
    no("a size that is not octal", of(block(size=b"00000000009\0")), "not an octal number"),
    no("a size with underscores", of(block(size=b"0000000_010\0")), "not an octal number"),
    no("the user who is nobody at all", of(pax((b"uid", b"4294967295")), file(b"x")), "no user or group"),
    no("a negative user", of(block(uid=b"\xff" * 8)), "no user or group"),
    no("a time beyond time", of(pax((b"mtime", b"9" * 19)), file(b"x")), "cannot hold"),
    no("a time that is no number", of(pax((b"mtime", b"nan")), file(b"x")), "not a number"),
    yes("a time before 1970", of(pax((b"mtime", b"-1.5")), file(b"x")), {b"x": "file 644 hi"}),
]

EXTENSIONS = [
    no("a PAX record of length 0", of(raw_pax(b"0 a=b\n"), file(b"x")), "does not parse"),
    no("a PAX record without end", of(raw_pax(b"99 a=b\n"), file(b"x")), "does not parse"),
    no("a PAX record without newline", of(raw_pax(b"6 a=bc"), file(b"x")), "does not parse"),
    no("a PAX record without =", of(raw_pax(b"5 ab\n"), file(b"x")), "does not parse"),
    no("a PAX record without length", of(raw_pax(b"a=b\n"), file(b"x")), "does not parse"),
    no("a PAX record with a signed length", of(raw_pax(b"+6 a=b\n"), file(b"x")), "does not parse"),
    no(
        "a PAX header of 2 MiB",
        of(block(kind=b"x", size=2 << 20), bytes(2 << 20)),
        "make sense",
        max_size=8 << 20,
    ),
    no("a name of 2 MiB", of(block(kind=b"L", size=2 << 20), bytes(2 << 20)), "make sense", max_size=8 << 20),
    no("a PAX header and no entry", of(pax((b"path", b"y"))), "after an extended header"),
    no("a long name and no entry", of(long_name(b"y" * 200)), "after an extended header"),
    yes("a global path", of(pax((b"path", b"../canary/x"), kind=b"g"), file(b"x")), {b"x": "file 644 hi"}),
    yes("a global size", of(pax((b"size", b"9"), kind=b"g"), file(b"x")), {b"x": "file 644 hi"}),
    yes("a thousand PAX headers", of(pax((b"path", b"y")) * 1000, file(b"x")), {b"y": "file 644 hi"}),
    no("an attribute without name", of(xattr(b"", b"1"), file(b"x")), "archive entry 'x'"),
    no("an attribute too large", of(xattr(b"user.x", b"1" * 70000), file(b"x")), "archive entry 'x'"),
    no("broken capabilities", of(xattr(b"security.capability", b"no"), file(b"x")), "archive entry 'x'"),
]

SPARSE = [
    no("sparse: backwards", of(sparse(b"30", b"10,2,5,2", b"aabb")), "goes backwards"),
    no("sparse: overlapping", of(sparse(b"30", b"0,4,2,4", b"aaaabbbb")), "goes backwards"),
    no("sparse: beyond the end", of(sparse(b"3", b"2,4", b"aaaa")), "does not fit"),
    no("sparse: more than stored", of(sparse(b"90", b"0,40", b"aaaa")), "does not fit"),
    no("sparse: an odd map", of(sparse(b"90", b"0,4,9", b"aaaa")), "odd end"),
    no("sparse: an exabyte of holes", of(sparse(b"1000000000000000000", b"")), "more than"),
    no("sparse: not numbers", of(sparse(b"90", b"0,x", b"aaaa")), "not a number"),
    no("sparse 1.0: endless map", of(sparse_1(b"90", b"1" + b"0" * 511)), "no end"),
    no("sparse 1.0: a map longer than the file", of(sparse_1(b"90", b"999999999999\n")), "no end"),
    no("sparse 1.0: no map", of(sparse_1(b"90", b"")), "no end"),
    no("old sparse: backwards", of(old_sparse(90, (9, 1), (0, 1), content=b"ab")), "goes backwards"),
    no(
        "old sparse: an endless map",
        of(old_sparse(90, (0, 1), extended=b"\1", content=b"")),
        "sparse map",
        raw=True,
    ),
    yes("sparse: only a hole", of(sparse(b"5", b"")), {b"x": "file 644 " + "\0" * 5}),
    yes(
        "old sparse: two parts",
        of(old_sparse(6, (1, 2), (4, 1), content=b"abc")),
        {b"x": "file 644 \0ab\0c\0"},
    ),
]

WRONG = "sha256:" + "0" * 64
ENCRYPTED = "application/vnd.oci.image.layer.v1.tar+encrypted"
BOMB = gzip.compress(bytes(64 << 20))

STREAMS = [
    no("cut in a file", of(file(b"x", b"y" * 2000)[:900]), "in the middle", raw=True),
    no("cut in a header", of(file(b"x")[:300]), "in the middle", raw=True),
    no("cut in the padding", of(file(b"x")[:600]), "in the middle", raw=True),
    no("random bytes", of(b"\x13" * 5000), "checksum", raw=True),
    no("a zip file", of(b"PK\3\4" + bytes(1000)), "tar", raw=True),
    no("a wrong checksum", of(block(at_148=b"000000\0 ")), "checksum"),
    no("a zero block in the middle", of(file(b"x"), bytes(512), file(b"y")), "zero block", raw=True),
    yes("nothing at all", of(), {}, raw=True),
    yes("no end", of(file(b"x")), {b"x": "file 644 hi"}, raw=True),
    yes("rubbish after the end", of(file(b"x"), END, b"\xff" * 3000), {b"x": "file 644 hi"}, raw=True),
    no("gzip, cut", of(gzip.compress(file(b"x") + END)[:-9]), "not a valid gzip", raw=True),
    no(
        "gzip, damaged", of(gzip.compress(os.urandom(4000))[:99] + b"\xff" * 99), "not a valid gzip", raw=True
    ),
    no(
        "gzip, rubbish after it",
        of(gzip.compress(file(b"x") + END) + b"rubbish" * 9),
        "not a valid gzip",
        raw=True,
    ),
    yes(
        "gzip of two members",
        of(gzip.compress(file(b"x")) + gzip.compress(END)),
        {b"x": "file 644 hi"},
        raw=True,
    ),
    no("a bomb after the end", of(BOMB), "more than 1048576 bytes", raw=True),
    no("a bomb in a file", of(gzip.compress(block(size=64 << 20)) + BOMB), "more than", raw=True),
    no("a bomb of small files", of(*(file(b"%d" % n, b"y" * 9000) for n in range(120))), "more than"),
    no(
        "another archive than the digest's",
        of(file(b"x")),
        "digest should be",
        options={"expected_digest": WRONG},
    ),
    no(
        "another tar than the diff id's",
        of(file(b"x")),
        "diff id should be",
        options={"expected_diff_id": WRONG},
    ),
    no("an unknown digest", of(file(b"x")), "not supported", options={"expected_digest": "md5:" + "0" * 32}),
    no(
        "damaged: the digest is what is wrong",
        of(b"\x13" * 5000),
        "digest should be",
        raw=True,
        options={"expected_digest": WRONG},
    ),
    no(
        "an encrypted layer",
        of(file(b"x")),
        "encrypted",
        options={"media_type": ENCRYPTED},
    ),
]

ORDER = [
    yes("the same file twice", of(file(b"x", b"one"), file(b"x", b"two")), {b"x": "file 644 two"}),
    yes("a file over a full directory", of(file(b"x/y/z"), file(b"x")), {b"x": "file 644 hi"}),
    yes(
        "a directory over a file",
        of(file(b"x"), directory(b"x"), file(b"x/y")),
        {b"x": "dir 755", b"x/y": "file 644 hi"},
    ),
    yes(
        "a directory twice",
        of(directory(b"x"), file(b"x/y"), directory(b"x", 0o700)),
        {b"x": "dir 700", b"x/y": "file 644 hi"},
    ),
    yes(
        "a file over two thousand directories",
        of(pax((b"path", nested(2000))), directory(b"x"), file(b"d")),
        {b"d": "file 644 hi"},
    ),
    yes(
        "deeper than a path can say",
        of(
            *(pax((b"path", nested(1500))), directory(b"x")),
            *(pax((b"linkpath", nested(1500))), symlink(b"s", b"x")),
            *(
                pax((b"path", b"s/" + nested(1500))),
                file(b"x"),
                symlink(b"d", b"gone"),
                symlink(b"s", b"gone"),
            ),
        ),
        {b"d": "link gone", b"s": "link gone"},
    ),
    yes(
        "directories without entries, used in turn",
        of(*(file(b"%d/a/b/%d" % (n % 90, n), b"") for n in range(400))),
        {b"*": ""},
    ),
    yes(
        "two thousand directories, to be cleaned up",
        of(pax((b"path", nested(2000))), directory(b"x")),
        {b"*": ""},
    ),
    no("hard link to what it replaces", of(file(b"x/y"), hard_link(b"x", b"x/y")), "No such file"),
]

CASES = NAMES + LINKS + WHITEOUTS + NODES + NUMBERS + EXTENSIONS + SPARSE + STREAMS + ORDER
