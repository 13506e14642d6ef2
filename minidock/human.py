"""Sizes and times for people, letter for letter as Docker prints them."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: float, digits: int = 3) -> str:
    """4261550 → ``4.26MB``: powers of 1000, *digits* significant digits."""
    return _scaled(count, 1000, _DECIMAL, digits)


def binary_size(count: float, digits: int = 4) -> str:
    """67108864 → ``64MiB``: powers of 1024."""
    return _scaled(count, 1024, _BINARY, digits)


def _scaled(count: float, base: int, units: tuple[str, ...], digits: int) -> str:
    power = 0
    while count >= base and power < len(units) - 1:
        count, power = count / base, power + 1
    return f"{count:.{digits}g}{units[power]}"


def duration(seconds: float) -> str:
    """90 → ``About a minute``; 7200 → ``2 hours``: Docker's coarse words."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(then: float, now: float | None = None) -> str:
    """Seconds since the epoch → ``2 hours ago``."""
    return duration((time.time() if now is None else now) - then) + " ago"


def stamp(then: float) -> str:
    """Seconds since the epoch → ``2026-01-31 12:00:00 +0000 UTC``, Go's way to print a local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(then))


def shortened(text: str, columns: int) -> str:
    """*text* cut to *columns*, with an ellipsis when something is missing."""
    return text if len(text) <= columns else text[: columns - 1] + "…"
