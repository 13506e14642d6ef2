"""Why calls about networks are refused, read from the live machine."""

from __future__ import annotations

import os
from errno import EEXIST, ENETUNREACH, ENOENT

from minidock.kernel.evidence import Answer, Question, cause


@cause("nft", ENOENT)
def nft_missing(question: Question) -> Answer:
    """Addresses are translated by the kernel's packet filter, which is told what to do by a program."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]
    if any(os.access(f"{place}/nft", os.X_OK) for place in places if place):
        return None
    return (
        "the program nft is not installed",
        "apt install nftables; until then --network none and host work.",
    )


@cause("RTM_NEWLINK", EEXIST)
def name_taken(question: Question) -> Answer:
    """The name of an interface is unique in its network."""
    name = question.text("name")
    if not os.path.exists(f"/sys/class/net/{name}") and f"{name}:" not in question.read("net/dev"):
        return None
    return f"an interface called {name} is there already", f"ip link show {name}"


@cause("RTM_NEWROUTE", ENETUNREACH)
def gateway_not_beside(question: Question) -> Answer:
    """A gateway must be on the wire of an interface that is on and has an address beside it."""
    gateway = question.text("gateway")
    if ":" in gateway or not gateway:
        return None
    value = int.from_bytes(bytes(map(int, gateway.split("."))), "big")
    for line in question.read("thread-self/net/route").splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
        if mask and value & mask == destination:
            return None
    return (
        f"no interface of this network has an address beside {gateway}",
        "First an address, then the interface on, then the route.",
    )
