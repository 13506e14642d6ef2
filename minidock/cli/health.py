"""``minidock doctor`` and ``minidock reset``: is all well, and how to begin again."""

from __future__ import annotations

import sys
from collections.abc import Callable

from minidock.cli.context import Context, confirmed
from minidock.cli.flags import Command, Values, boolean

_MARKS = {"ok": ("✔", "green"), "warn": ("!", "yellow"), "fail": ("✘", "red")}


def doctor(context: Context, values: Values, arguments: list[str]) -> int:
    """Check the machine, then look for what was left behind; 1 when something fails."""
    show = _painter()
    failed = False
    print("This machine")
    for finding in context.engine.doctor():
        failed = failed or finding.level == "fail"
        mark, colour = _MARKS[finding.level]
        print(f"  {show(mark, colour)} {finding.topic:<16}{finding.found}", flush=True)
        if finding.hint:
            print(f"    {'':<16}{finding.hint}")
    print(f"\nLeft behind under {context.engine.root}")
    left = context.engine.leftovers()
    for each in left:
        print(f"  {show('!', 'yellow')} {each.kind:<16}{each.what}: {each.path}")
    if not left:
        print(f"  {show('✔', 'green')} nothing")
    else:
        print("  The next start cleans up after a killed container; `minidock reset` removes everything.")
    return 1 if failed else 0


def _painter() -> Callable[[str, str], str]:
    if not sys.stdout.isatty():
        return lambda text, colour: text
    codes = {"green": 32, "yellow": 33, "red": 31}
    return lambda text, colour: f"\x1b[{codes[colour]}m{text}\x1b[0m"


def reset(context: Context, values: Values, arguments: list[str]) -> int:
    """Remove all that minidock made under its root."""
    kept = "" if not values["keep-images"] else "\nImages stay."
    count = len(context.engine.volumes())
    volumes = f"{count} volume{'' if count == 1 else 's'} with all their data"
    what = f"WARNING! This removes all containers, images and {volumes} under {context.engine.root}.{kept}"
    if not confirmed(what, values["yes"]):
        return 1
    done = context.engine.reset(keep_images=values["keep-images"])
    for line in done:
        print(f"removed {line}")
    if not done:
        print("nothing to remove")
    return 0


COMMANDS = {
    "doctor": Command(
        "doctor", "Check whether this machine can run containers, and what was left behind", doctor, most=0
    ),
    "reset": Command(
        "reset [OPTIONS]",
        "Remove everything that minidock made",
        reset,
        (boolean("keep-images", help="Keep the images"), boolean("yes", "y", "Do not ask")),
        most=0,
    ),
}
