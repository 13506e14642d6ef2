"""Every path of the Engine API that minidock answers: each family of endpoints has a file of its own."""

from __future__ import annotations

from minidock.server import build, containers, events, exec, images, living, networks, system, volumes
from minidock.server.routes import Table

FAMILIES = (system, containers, living, exec, events, images, build, networks, volumes)


def table() -> Table:
    """The routes of all families."""
    return Table(route for family in FAMILIES for route in family.ROUTES)
