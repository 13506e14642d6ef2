"""Automatic names: an adjective and a noun of this course's world, as in ``patient_otter``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from minidock.errors import InvalidInput

# fmt: off
ADJECTIVES = """
able agile amber ample apt balanced blithe brave bright brisk calm candid careful cheerful clear clever
cosy crisp curious daring deft eager earnest easy even fair fearless fleet fond frank fresh friendly
frugal gentle glad gleaming golden graceful grand hardy helpful honest hopeful humble jolly joyful keen
kind lively loyal lucid lucky mellow merry mild modest neat nimble noble open patient placid plain
playful polite proud quick quiet rapid ready robust rosy serene sharp shiny silent simple sincere sleek
smart smooth snug sober solid spry steady stout sunny swift tactful tidy tranquil trim true upbeat vivid
warm watchful wise witty zesty
""".split()  # noqa: SIM905
NOUNS = """
alder anchor auk badger barge beaver birch bison brook canoe cedar clipper cod comet coral cormorant
cove crane cutter delta dinghy dolphin dory dune eagle eel egret elm falcon ferry finch fjord frigate
galley gannet glacier grebe gull hare harbour hawk heron ibex isle junk kayak ketch kite lagoon lantern
lark lighthouse linnet loon lugger lynx manatee maple marlin marten mole mooring moose narwhal newt
nutmeg oak orca osprey otter owl oyster pelican petrel pier pike pilot pine plover pontoon porpoise
puffin quay raft raven reef rudder salmon schooner seal skiff sloop sparrow squid starling sturgeon swan
tern tide trout tugboat turtle walrus whale willow wren yawl
""".split()  # noqa: SIM905
# fmt: on

_ALLOWED = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"


def generate(taken: Callable[[str], bool]) -> str:
    """A free name; *taken* tells whether a name is in use. Numbers follow when luck runs out."""
    for attempt in range(1000):
        # Not the module random: its import alone takes half a millisecond of each start.
        chance = int.from_bytes(os.urandom(8), "little")
        name = f"{ADJECTIVES[chance % len(ADJECTIVES)]}_{NOUNS[chance // 1000 % len(NOUNS)]}"
        if attempt > 5:
            name += str(chance % 10 ** (attempt // 5))
        if not taken(name):
            return name
    raise InvalidInput("no free container name found", hint="Choose one with --name.")


def check(name: str) -> str:
    """*name* itself, without Docker's leading slash. Raises InvalidInput for what Docker refuses."""
    name = name.removeprefix("/")
    if not re.fullmatch(_ALLOWED, name):
        raise InvalidInput(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            hint="At least two characters; start with a letter or a digit.",
        )
    return name
