"""Addresses as numbers: which subnets are free, and which address in one.

Python's `ipaddress` knows more, but its import alone would take a tenth of what a container's start may.
"""

from __future__ import annotations

import _socket
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from minidock.errors import Conflict, InvalidInput, MinidockError

# Where networks without a wish of their own come from: Docker's pools.
_POOLS = (
    *(f"172.{second}.0.0/16" for second in range(17, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A block of addresses: *first*, and those that share its first *prefix* bits. *bits* is 32 or 128."""

    first: int
    prefix: int
    bits: int

    def __str__(self) -> str:
        return f"{address(self.first, self.bits)}/{self.prefix}"

    @property
    def last(self) -> int:
        return self.first | (1 << (self.bits - self.prefix)) - 1

    def holds(self, text: str) -> bool:
        """Whether an address lies in it."""
        value, bits = number(text)
        return bits == self.bits and self.first <= value <= self.last

    def overlaps(self, other: Subnet) -> bool:
        return self.bits == other.bits and self.first <= other.last and other.first <= self.last


def number(text: str) -> tuple[int, int]:
    """``"172.17.0.2"`` → its value and 32; an IPv6 address → its value and 128. Raises InvalidInput."""
    family, bits = (_socket.AF_INET6, 128) if ":" in text else (_socket.AF_INET, 32)
    try:
        return int.from_bytes(_socket.inet_pton(family, text), "big"), bits
    except (OSError, ValueError):
        raise InvalidInput(f"invalid IP address: {text}") from None


def address(value: int, bits: int) -> str:
    """The address of a value as people write it."""
    family = _socket.AF_INET if bits == 32 else _socket.AF_INET6
    return _socket.inet_ntop(family, value.to_bytes(bits // 8, "big"))


def subnet(text: str) -> Subnet:
    """``"172.20.0.0/16"``; a host's address in it stands for the whole. Raises InvalidInput."""
    where, slash, length = text.partition("/")
    value, bits = number(where)
    if not slash or not length.isdigit() or int(length) > bits:
        raise InvalidInput(f"invalid subnet {text}: invalid CIDR address", hint="Write 172.20.0.0/16.")
    prefix = int(length)
    return Subnet(value >> (bits - prefix) << (bits - prefix), prefix, bits)


def choose(taken: Iterable[Subnet]) -> Subnet:
    """A block for one more network: the first of Docker's pools that overlaps none of *taken*.

    Raises MinidockError when all are in use.
    """
    used = list(taken)
    for text in _POOLS:
        found = subnet(text)
        if not any(found.overlaps(other) for other in used):
            return found
    raise MinidockError(
        "all predefined address pools have been fully subnetted",
        hint="Name a free one with --subnet, or remove networks: minidock network prune.",
    )


def choose_ipv6(random: bytes) -> Subnet:
    """A block of private IPv6 addresses: ``fd``, 40 random bits, a subnet of its own (RFC 4193)."""
    return Subnet(int.from_bytes(b"\xfd" + random[:5] + bytes(10), "big"), 64, 128)


def usable(block: Subnet, within: Subnet | None = None) -> Iterator[int]:
    """The addresses that a host may have, lowest first: not the block's own name, not its broadcast."""
    part = within or block
    low, high = max(part.first, block.first), min(part.last, block.last)
    if block.bits - block.prefix > 1:
        low = max(low, block.first + 1)
        high = min(high, block.last - (block.bits == 32))
    return iter(range(low, high + 1))


def free(block: Subnet, within: Subnet | None, taken: Container[str]) -> str:
    """The lowest free address. Raises Conflict when there is none."""
    for value in usable(block, within):
        text = address(value, block.bits)
        if text not in taken:
            return text
    raise Conflict(f"no available IPv{4 if block.bits == 32 else 6} addresses in {within or block}")
