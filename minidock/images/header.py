"""The headers of tar: one entry's name, mode, owner, size and time, as 512 bytes and as a value.

What does not fit the header's fields goes into an entry before it: GNU's ``L`` and ``K`` (long names), or
PAX's ``x``, a list of ``length key=value`` lines (times in nanoseconds, extended attributes, sizes beyond
8 GiB). Names are bytes, as in the kernel. Times are nanoseconds since the epoch.

Source: tar(5); pax(1), "pax Interchange Format".
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field

from minidock.errors import InvalidInput

BLOCK = 512

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
KINDS = frozenset((FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."

#   name mode uid gid size mtime checksum kind link magic+version user group major minor prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SECOND = 1_000_000_000


@dataclass(slots=True)
class Entry:
    """One member of an archive.

    *size* is the length of the file, *stored* the bytes of content that the archive holds for it: they
    differ only for sparse files, whose *segments* then list (offset, length) of the parts that are there.
    *device* is makedev(major, minor).
    """

    name: bytes
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    stored: int = 0
    segments: list[tuple[int, int]] | None = None


def shown(name: bytes) -> str:
    """A name for a message: quoted, control characters escaped, never more than a line."""
    text = repr(os.fsdecode(name))
    return text if len(text) <= 100 else f"{text[:97]}…'"


def parse(header: bytes, known: dict[bytes, int]) -> tuple[Entry, bytes]:
    """The entry that a header block describes, and the type that stands in it.

    *known* remembers number fields that repeat from entry to entry: the caller keeps it, empty at first.
    Raises InvalidInput when the block is no header.
    """
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix = (
        _HEADER.unpack(header)
    )
    _check_sum(header, checksum)
    name, _, _ = name.partition(b"\0")
    if magic[:6] == b"ustar\0" and prefix[0]:
        # star keeps two times in the last bytes of the prefix
        prefix = (prefix[:131] if header[508:] == b"tar\0" else prefix).partition(b"\0")[0]
        name = prefix + b"/" + name
    if kind == b"\0" or kind == b"7":
        kind = FILE
    if len(known) > 4096:
        known.clear()
    for number in (mode, uid, gid):
        if number not in known:
            known[number] = number_of(number)
    entry = Entry(name, kind, known[mode] & 0o7777, known[uid], known[gid])
    entry.mtime = number_of(mtime) * _SECOND
    entry.size = entry.stored = number_of(size)
    if kind in KINDS and kind != FILE:
        entry.link = link.partition(b"\0")[0]
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = _device(number_of(major), number_of(minor))
        entry.size = entry.stored = 0  # a header is all there is, whatever the size field claims
    if entry.size < 0:
        raise InvalidInput(f"tar: {shown(name)}: a size of {entry.size} bytes")
    return entry, kind


def extend(entry: Entry, records: dict[bytes, bytes], defaults: dict[bytes, bytes]) -> None:
    """Let PAX records overrule the header; *defaults* are global ones. No name or size can be global."""
    for key, value in defaults.items():
        if key not in records and (key in (b"uid", b"gid", b"mtime") or key.startswith(_XATTR)):
            overrule(entry, key, value)
    for key, value in records.items():
        overrule(entry, key, value)


def overrule(entry: Entry, key: bytes, value: bytes) -> None:
    """Let one PAX record overrule what the header says."""
    if key.startswith(_XATTR):
        entry.xattrs[key[len(_XATTR) :]] = value
    elif not value:
        return  # an empty value takes the record back
    elif key == b"path":
        entry.name = value
    elif key == b"linkpath":
        if entry.kind in (SYMLINK, HARD_LINK):
            entry.link = value
    elif key == b"mtime":
        entry.mtime = _nanoseconds(value)
    elif key == b"size":
        if entry.kind in (FILE, DIRECTORY):
            entry.stored = decimal_of(value)
            entry.size = entry.size if entry.segments is not None else entry.stored
    elif key == b"uid":
        entry.uid = decimal_of(value)
    elif key == b"gid":
        entry.gid = decimal_of(value)


def _check_sum(header: bytes, stored: bytes) -> None:
    # The sum of all bytes, the checksum field itself counted as blanks. Adler-32 keeps 1 + that sum
    # (modulo 65521) in its lower half and is forty times faster than sum().
    with suppress(InvalidInput):
        claimed = number_of(stored)
        total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(stored) + 8 * ord(" ")
        if (total - claimed) % 65521 == 0 or _sums(header, claimed):
            return
    raise InvalidInput("tar: a header's checksum is wrong: not a tar archive, or a damaged one")


def _sums(header: bytes, claimed: int) -> bool:
    blank = header[:148] + b" " * 8 + header[156:]
    return claimed in (sum(blank), sum(byte - 256 if byte > 127 else byte for byte in blank))


def number_of(number: bytes) -> int:
    """A number field: octal digits, or (first bit set) a big-endian two's complement integer."""
    if number[0] & 0x80:
        value = int.from_bytes(number, "big") & ~(0x80 << 8 * (len(number) - 1))
        return value - (1 << 8 * len(number) - 1) if number[0] & 0x40 else value
    digits = number.strip(b" \0").partition(b"\0")[0].strip()
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise InvalidInput(f"tar: {digits!r} is not an octal number")


def decimal_of(text: bytes) -> int:
    """A number of a PAX record. Raises InvalidInput for anything but at most 19 digits."""
    if not text.isdigit() or len(text) > 19:
        raise InvalidInput(f"tar: {shown(text)} is not a number that an archive can hold")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    value = decimal_of(seconds) * _SECOND + decimal_of((fraction + b"0" * 9)[:9])
    return -value if text.startswith(b"-") else value


def _device(major: int, minor: int) -> int:
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise InvalidInput(f"tar: no device has the number {major}:{minor}")
    return os.makedev(major, minor)


def records_of(body: bytes) -> list[tuple[bytes, bytes]]:
    """The (key, value) records of a PAX header. Raises InvalidInput when one does not parse."""
    records = []
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 10)
        digits = body[at:space]
        end = at + int(digits) if space > 0 and digits.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not (0 < space < end <= len(body) and body[end - 1] == 0x0A and equals and key):
            raise InvalidInput(f"tar: a PAX record does not parse: {shown(body[at : at + 40])}")
        records.append((key, value))
        at = end
    return records


def build(entry: Entry) -> bytes:
    """The header blocks of *entry*: its own, after a PAX header where something does not fit.

    The same entry always gives the same bytes: no user names, no clock.
    """
    name = entry.name + b"/" if entry.kind == DIRECTORY and not entry.name.endswith(b"/") else entry.name
    records = {_XATTR + key: value for key, value in entry.xattrs.items()}
    prefix, short = _split(name)
    if len(short) > 100:
        records[b"path"], prefix, short = name, b"", short[:100]
    if len(entry.link) > 100:
        records[b"linkpath"] = entry.link
    seconds, fraction = divmod(entry.mtime, _SECOND)
    if fraction or not 0 <= seconds < 8**11:
        records[b"mtime"] = _time(entry.mtime)
    for key, number, digits in ((b"uid", entry.uid, 7), (b"gid", entry.gid, 7), (b"size", entry.size, 11)):
        if number >= 8**digits:
            records[key] = b"%d" % number
    own = _block(
        short,
        entry.kind,
        prefix,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        seconds,
        entry.link,
        entry.device,
    )
    if not records:
        return own
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    extension = _block(b"PaxHeaders/" + short[-80:].strip(b"/"), b"x", b"", 0o644, 0, 0, len(body), 0, b"", 0)
    return extension + body + bytes(-len(body) % BLOCK) + own


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A name as the header's prefix and name fields, where it fits them; else ("", name)."""
    if len(name) > 100:
        slash = name.find(b"/", len(name) - 101)
        if 0 < slash <= 155 and slash + 1 < len(name):
            return name[:slash], name[slash + 1 :]
    return b"", name


def _block(
    name: bytes,
    kind: bytes,
    prefix: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    device: int,
) -> bytes:
    def octal(value: int, digits: int) -> bytes:
        return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)

    numbers = octal(mode, 7), octal(uid, 7), octal(gid, 7), octal(size, 11), octal(seconds, 11)
    major, minor = (octal(os.major(device), 7), octal(os.minor(device), 7)) if device else (b"", b"")
    block = _HEADER.pack(
        name, *numbers, b" " * 8, kind, link[:100], b"ustar\00000"[:8], b"", b"", major, minor, prefix
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:  # the length counts its own digits
        length += 1
    return b"%d%s" % (length, rest)


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    return b"%s%d.%09d" % (sign, seconds, fraction) if fraction else b"%s%d" % (sign, seconds)
