"""Points in time as Docker writes them: RFC 3339, UTC, nanoseconds."""

from __future__ import annotations

import re
import time

from minidock.errors import InvalidInput

NEVER = "0001-01-01T00:00:00Z"  # Docker's "has not happened"
SECOND = 1_000_000_000

_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": 1_000_000, "us": 1000, "µs": 1000, "ns": 1}


def now() -> str:
    """The current time: ``2026-11-24T02:55:05.123456789Z``."""
    return from_nanoseconds(time.time_ns())


def boot() -> str:
    """Which start of the machine this is: another id each time. Source: proc_sys_kernel(5), boot_id."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def from_nanoseconds(moment: int) -> str:
    """Nanoseconds since the epoch as text."""
    seconds, rest = divmod(moment, SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def to_nanoseconds(text: str) -> int:
    """The inverse of :func:`from_nanoseconds`, with any offset and number of digits. Raises InvalidInput."""
    match = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?(Z|[+-]\d\d:\d\d)?", text
    )
    if not match:
        raise InvalidInput(f"{text!r} is not a point in time", hint="Write 2026-01-31T12:00:00Z, or 10m.")
    import calendar

    *clock, fraction, zone = match.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in clock)
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if zone and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * SECOND + int((fraction or "0")[:9].ljust(9, "0"))


def moment(text: str) -> int:
    """What ``--since`` and ``--until`` take, in nanoseconds since the epoch.

    A point in time, seconds since the epoch (``1764000000.5``), or how long ago (``1h30m``).
    Raises InvalidInput.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * SECOND + int(fraction[:9].ljust(9, "0"))
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time_ns() - int(sum(float(number) * _UNITS[unit] for number, unit in parts))
    return to_nanoseconds(text)
