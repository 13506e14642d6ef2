"""Restart policies: whether a container that ended starts again, and how long it rests before.

    no                never (the default)
    on-failure[:N]    when its exit code is not 0, at most N times
    always            whenever it ends, and after the machine starts (`minidock resume`)
    unless-stopped    the same, but not after the machine starts when a user had stopped it

A user who stops or kills a container wants it to end: then no policy counts until the machine starts again.

Source: Docker Engine API v1.44, RestartPolicy; docker run, "Restart policies".
"""

from __future__ import annotations

from dataclasses import dataclass

from minidock.errors import InvalidInput

NAMES = ("no", "always", "unless-stopped", "on-failure")
_SHORTEST, _LONGEST = 0.1, 60.0  # seconds of rest
_STEADY = 10.0  # seconds after which a container counts as running well


def parse(text: str) -> tuple[str, int]:
    """``"on-failure:3"`` → ``("on-failure", 3)``; 0 means without end. Raises InvalidInput."""
    name, colon, number = text.partition(":")
    if name not in ("", *NAMES):
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{name}'; use one of '{', '.join(NAMES)}'"
            if name
            else "invalid restart policy"
        )
    if not colon:
        return name or "no", 0
    if not number.isdigit():
        raise InvalidInput("invalid restart policy format: maximum retry count must be an integer")
    if name != "on-failure":
        raise InvalidInput(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            hint=f"Write {name}, or on-failure:{number}.",
        )
    return name, int(number)


def again(policy: str, most: int, exit_code: int, done: int) -> bool:
    """Whether a container that nobody stopped starts again, after *done* restarts."""
    if policy == "on-failure":
        return exit_code != 0 and (not most or done < most)
    return policy in ("always", "unless-stopped")


@dataclass(slots=True)
class BackOff:
    """The rest before the next start: 100 ms, doubled each time up to a minute. Docker's numbers."""

    seconds: float = 0.0

    def rest(self, lasted: float) -> float:
        """Seconds to wait, after a run of *lasted* seconds. A long run begins from 100 ms again."""
        if lasted >= _STEADY or not self.seconds:
            self.seconds = _SHORTEST
        else:
            self.seconds = min(self.seconds * 2, _LONGEST)
        return self.seconds
