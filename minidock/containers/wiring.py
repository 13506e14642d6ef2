"""Which networks a container is to be in, and which of its ports the host is to serve: part of its spec."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

DEFAULT = "bridge"  # the network of containers that name none; no names are resolved in it, as in Docker
PREDEFINED = (DEFAULT, "host", "none")
MODES = ("none", "host", "default")  # beside these and container:ID, --network names a network


@dataclass(slots=True)
class Attachment:
    """One network that a container is in. Empty addresses are chosen at each start.

    *links* are ``container:alias``: what this container calls another one. *link_local* are addresses that
    count on this cable only, beside the proper one. *driver_options* mean nothing here: inspect shows them.
    """

    network: str  # its name
    aliases: list[str] = field(default_factory=list)
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    links: list[str] = field(default_factory=list)
    link_local: list[str] = field(default_factory=list)
    driver_options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Publish:
    """One ``-p``: *port* inside, and which *host* address and port (*first* to *last*; 0: any) lead to it."""

    port: int
    protocol: str = "tcp"
    host: str = ""  # every address of the host
    first: int = 0
    last: int = 0


@dataclass(slots=True)
class Wiring:
    """All of it. *dns* and its like go into resolv.conf, *extra_hosts* (``name:address``) into hosts."""

    attachments: list[Attachment] = field(default_factory=list)
    publish: list[Publish] = field(default_factory=list)
    publish_all: bool = False
    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    dns_options: list[str] = field(default_factory=list)
    extra_hosts: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Wiring:
        """Read what `asdict` made of it; keys that a later version wrote are ignored."""
        known = {each.name for each in fields(cls)}
        wiring = cls(**{key: item for key, item in value.items() if key in known})
        wiring.attachments = [Attachment(**item) for item in value.get("attachments", [])]
        wiring.publish = [Publish(**item) for item in value.get("publish", [])]
        return wiring


def is_network(mode: str) -> bool:
    """Whether a container of this ``--network`` has a cable to a bridge."""
    return mode not in ("none", "host") and not mode.startswith("container:")
