"""Questions and answers of the Domain Name System, as bytes: as much of it as a container's names need.

Source: RFC 1035 (messages, section 4), RFC 3596 (AAAA), RFC 6891 (EDNS: what it adds is passed over).
"""

from __future__ import annotations

import _socket
import struct
from dataclasses import dataclass

A, PTR, AAAA, ANY = 1, 12, 28, 255
_IN = 1
_HEADER = struct.Struct(">6H")  # id, flags, and how many questions, answers, authorities, additional records
_RESPONSE, _RECURSION_WANTED, _RECURSION = 0x8000, 0x0100, 0x0080
SERVFAIL, NXDOMAIN = 2, 3
_TTL = 600  # seconds, Docker's


@dataclass(frozen=True, slots=True)
class Question:
    """One query: *name* in lower case without the last dot, *kind* A, AAAA, PTR, …; *raw* as it was asked."""

    id: int
    name: str
    kind: int
    raw: bytes
    recursion: bool


def question(message: bytes) -> Question:
    """Read a query. Raises ValueError for what is none."""
    try:
        identifier, flags, questions, *_ = _HEADER.unpack_from(message)
        if flags & _RESPONSE or questions != 1:
            raise ValueError("not a query with one question")
        labels, at = [], _HEADER.size
        while length := message[at]:
            if length > 63:
                raise ValueError("a question has no compressed names")
            labels.append(message[at + 1 : at + 1 + length].decode("latin-1"))
            at += 1 + length
        kind, space = struct.unpack_from(">2H", message, at + 1)
    except (IndexError, struct.error) as error:
        raise ValueError(f"cut short: {error}") from None
    if space != _IN:
        raise ValueError("not of the internet")
    raw = message[_HEADER.size : at + 5]
    return Question(identifier, ".".join(labels).lower(), kind, raw, bool(flags & _RECURSION_WANTED))


def reply(asked: Question, records: list[str], code: int = 0) -> bytes:
    """The answer: addresses for A and AAAA, names for PTR. None at all: the name exists, but has no such."""
    flags = _RESPONSE | _RECURSION | (_RECURSION_WANTED if asked.recursion else 0) | code
    body = b"".join(_record(asked.kind, text) for text in records)
    return _HEADER.pack(asked.id, flags, 1, len(records), 0, 0) + asked.raw + body


def _record(kind: int, text: str) -> bytes:
    if kind == PTR:
        data = b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"
    else:
        kind, family = (AAAA, _socket.AF_INET6) if ":" in text else (A, _socket.AF_INET)
        data = _socket.inet_pton(family, text)
    # 0xC00C: "the name that stands at byte 12", that of the question.
    return struct.pack(">HHHIH", 0xC00C, kind, _IN, _TTL, len(data)) + data


def truncated(message: bytes) -> bytes:
    """What is said when an answer does not fit into a datagram: ask again over TCP."""
    return message[:2] + bytes([message[2] | 2]) + message[3:]


def address_of(name: str) -> str | None:
    """The address that a PTR question is about: ``2.0.17.172.in-addr.arpa`` → ``172.17.0.2``."""
    head, _, tail = name.removesuffix(".arpa").rpartition(".")
    parts = head.split(".")[::-1]
    try:
        if tail == "in-addr" and len(parts) == 4:
            return _socket.inet_ntop(_socket.AF_INET, bytes(map(int, parts)))
        if tail == "ip6" and len(parts) == 32:
            return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex("".join(parts)))
    except (ValueError, OSError):
        pass
    return None
