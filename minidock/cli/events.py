"""``minidock events``: what happens to containers, images, networks and volumes, as it happens."""

from __future__ import annotations

import sys
from typing import Any

from minidock.cli.context import Context
from minidock.cli.flags import Command, Flag, Values, repeated
from minidock.cli.templates import Template, json_of
from minidock.engine import parse_filters, shown_time


def events(context: Context, values: Values, arguments: list[str]) -> int:
    """Print events until --until, or for ever; each as soon as it is known."""
    template = None
    if values["format"] and values["format"] != "json":
        template = Template(values["format"])
    found = context.engine.events(
        since=values["since"], until=values["until"], filters=parse_filters(values["filter"])
    )
    for event in found:
        if values["format"] == "json":
            line = json_of(event)
        else:
            line = template.render(event) if template else _line(event)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


def _line(event: dict[str, Any]) -> str:
    actor = event["Actor"]
    about = ", ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
    when = shown_time(event["timeNano"])
    return f"{when} {event['Type']} {event['Action']} {actor['ID']} ({about})"


COMMANDS = {
    "events": Command(
        "events [OPTIONS]",
        "Get real time events",
        events,
        (
            repeated("filter", "f", "Filter output based on conditions provided", kind="filter"),
            Flag("format", help="Format output using a Go template, or 'json'"),
            Flag("since", help='Show all events created since timestamp, or relative (e.g. "42m")'),
            Flag("until", help="Stream events until this timestamp, or relative"),
        ),
        most=0,
    ),
}
