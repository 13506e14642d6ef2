"""Sparse files in tar: a map says which parts of a file are stored; the rest are holes, which read as zeros.

GNU tar has written four forms of the map over the years. A map is a stranger's claim: it may go backwards,
overlap, or promise an exabyte, so :func:`check` stands between it and the file.
Source: GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable

from minidock.errors import InvalidInput
from minidock.images.header import FILE, Entry, decimal_of, number_of, shown

LARGEST_MAP = 1 << 20  # bytes
REPEATED = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_BLOCK = 512

Read = Callable[[int], bytes]  # exactly so many bytes of the archive, or b"" at its end


def read_old_map(entry: Entry, header: bytes, read: Read) -> None:
    """The oldest form, type "S": four parts in the header, 21 in each block that follows it."""
    entry.kind = FILE
    entry.size = number_of(header[483:495])
    segments: list[tuple[int, int]] = []
    block, first, count = header, 386, 4
    while True:
        for start in range(first, first + count * 24, 24):
            if block[start]:
                offset, length = block[start : start + 12], block[start + 12 : start + 24]
                segments.append((number_of(offset), number_of(length)))
        if not block[first + count * 24]:
            break
        if len(segments) * 24 > LARGEST_MAP:
            raise InvalidInput(f"tar: {shown(entry.name)}: its sparse map is too long")
        block, first, count = read(_BLOCK), 0, 21
        if not block:
            raise InvalidInput("tar: the archive ends in the middle of a sparse map")
    entry.segments = segments


def is_sparse(records: dict[bytes, bytes]) -> bool:
    """Whether PAX *records* announce a sparse file: all forms give its real size."""
    return b"GNU.sparse.realsize" in records or b"GNU.sparse.size" in records


def read_pax_map(
    entry: Entry, records: dict[bytes, bytes], repeated: list[tuple[bytes, bytes]], read: Read
) -> int:
    """The forms 0.0 (repeated keys), 0.1 (one key, commas) and 1.0 (the content begins with the map).

    Returns how many bytes of the content the map took.
    """
    entry.name = records.get(b"GNU.sparse.name") or entry.name
    entry.size = decimal_of(records.get(b"GNU.sparse.realsize") or records[b"GNU.sparse.size"])
    taken = 0
    if records.get(b"GNU.sparse.major") == b"1":
        numbers, taken = _map_in_content(entry, read)
        entry.stored -= taken
    elif b"GNU.sparse.map" in records:
        numbers = [decimal_of(number) for number in records[b"GNU.sparse.map"].split(b",") if number]
    else:
        numbers = [decimal_of(value) for _, value in repeated]
    if len(numbers) % 2:
        raise InvalidInput(f"tar: {shown(entry.name)}: its sparse map has an odd end")
    entry.segments = list(zip(numbers[::2], numbers[1::2], strict=True))
    return taken


def _map_in_content(entry: Entry, read: Read) -> tuple[list[int], int]:
    """Lines of decimal numbers, the first saying how many parts follow, padded to whole blocks."""
    lines: list[bytes] = []
    text, wanted, taken = b"", 1, 0
    while len(lines) < wanted:
        block = read(_BLOCK) if taken + _BLOCK <= min(entry.stored, LARGEST_MAP) else b""
        if not block:
            raise InvalidInput(f"tar: {shown(entry.name)}: its sparse map has no end")
        taken += _BLOCK
        *found, text = (text + block).split(b"\n")
        lines += found
        wanted = 1 + 2 * decimal_of(lines[0]) if lines else 1
    return [decimal_of(line) for line in lines[1:wanted]], taken


def check(entry: Entry) -> None:
    """Raise InvalidInput unless the parts are in order, inside the file and as long as what is stored."""
    position = total = 0
    for offset, length in entry.segments or ():
        if offset < position or length < 0:
            raise InvalidInput(f"tar: {shown(entry.name)}: its sparse map goes backwards")
        position, total = offset + length, total + length
    if position > entry.size or total != entry.stored:
        raise InvalidInput(f"tar: {shown(entry.name)}: its sparse map does not fit its content")
