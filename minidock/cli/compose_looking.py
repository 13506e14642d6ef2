"""``minidock compose ps logs top stats events images volumes port ls``: what a project is doing."""

from __future__ import annotations

import sys
from typing import Any

from minidock.cli import inspecting, network, table
from minidock.cli import stats as usage
from minidock.cli.compose import Session, verb
from minidock.cli.flags import Flag, UsageError, Values, boolean, integer, repeated
from minidock.cli.ps import FORMAT, HEADINGS, row_of
from minidock.compose import following, labels, members
from minidock.compose.following import Follower, Page
from minidock.engine import shown_time

_COLUMNS = ("Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports")
_OF_COMPOSE = {**HEADINGS, "Name": "NAME", "Service": "SERVICE", "Project": "PROJECT", "Health": "HEALTH"}
_OF_COMPOSE["ExitCode"] = "EXIT CODE"


def ps(session: Session, values: Values, services: list[str]) -> int:
    """List the containers of the project."""
    found = session.members(services, oneoff=None if values["all"] else False)
    wanted = [
        *values["status"],
        *(text.partition("=")[2] for text in values["filter"] if text.startswith("status=")),
    ]
    for text in values["filter"]:
        if not text.startswith("status="):
            raise UsageError(f"unknown filter {text!r}", hint="status=STATE", exit_code=1)
    if wanted:
        found = [each for each in found if each.container.status() in wanted]
    elif not values["all"]:
        found = [each for each in found if each.running]
    if values["quiet"]:
        for each in found:
            print(each.id)
        return 0
    if values["services"]:
        for name in dict.fromkeys(each.service for each in found):
            print(name)
        return 0
    summaries = {row["Id"]: row for row in session.engine.ps(all=True)}
    rows = [_row(each, summaries[each.id], values["no-trunc"]) for each in found if each.id in summaries]
    table.show(rows, _OF_COMPOSE, _COLUMNS, values["format"])
    return 0


def _row(member: members.Member, summary: dict[str, Any], whole: bool) -> dict[str, Any]:
    from minidock.compose import starting

    state = member.container.state()
    return {
        **row_of(summary, whole),
        "Name": member.name,
        "Service": member.service,
        "Project": member.label.get(labels.PROJECT, ""),
        "Health": starting.health_of(member.container),
        "ExitCode": state.exit_code,
    }


def logs(session: Session, values: Values, services: list[str]) -> int:
    """Print what containers wrote."""
    found = session.members(services)
    tail = values["tail"]
    if tail != "all" and not tail.isdecimal():
        raise UsageError(f'invalid value "{tail}" for --tail: not a number', exit_code=1)
    page = Page(
        sys.stdout,
        prefix=not values["no-log-prefix"],
        colours=session.colours(not values["no-color"]),
        timestamps=values["timestamps"],
    )
    page.expect(following.short_name(each) for each in found)
    options = {
        "tail": None if tail == "all" else int(tail),
        "since": values["since"],
        "until": values["until"],
    }
    if values["follow"]:
        Follower(session.engine, page, **options).follow(session.name(), services, session.warn)
        return 0
    for member in found:
        if member.container.spec.log_driver != "none":
            following.show(session.engine, member, page, follow=False, **options)
    return 0


def top(session: Session, values: Values, services: list[str]) -> int:
    """The processes of each container."""
    for member in session.members(services):
        if member.running:
            print(member.name)
            inspecting.top(session, {}, [member.id])
            print()
    return 0


def events(session: Session, values: Values, services: list[str]) -> int:
    """What happens to the containers of the project, as it happens."""
    name = session.name(services)
    filters = {"type": ["container"], "label": [f"{labels.PROJECT}={name}"]}
    for event in session.engine.events(since=values["since"], until=values["until"], filters=filters):
        attributes = event["Actor"]["Attributes"]
        service = attributes.get(labels.SERVICE, "")
        if services and service not in services:
            continue
        if values["json"]:
            shown = {
                "time": shown_time(event["timeNano"]),
                "type": "container",
                "action": event["Action"],
                "id": event["Actor"]["ID"],
                "service": service,
                "attributes": {key: attributes.get(key, "") for key in ("image", "name")},
            }
            print(table.json_of(shown), flush=True)
            continue
        about = f"image={attributes.get('image', '')}, name={attributes.get('name', '')}"
        when = shown_time(event["timeNano"])
        print(f"{when} container {event['Action']} {event['Actor']['ID']} ({about})", flush=True)
    return 0


def stats(session: Session, values: Values, services: list[str]) -> int:
    """What the containers use."""
    found = [each for each in session.members(services) if values["all"] or each.running]
    if not found:
        table.show([], usage.HEADINGS, usage.COLUMNS, values["format"])
        return 0
    return usage.stats(session, values, [each.id for each in found])


def volumes(session: Session, values: Values, services: list[str]) -> int:
    """The volumes of the project, or those that some services use."""
    name = session.name(services)
    used = {
        mount.source
        for each in session.members(services, oneoff=None)
        for mount in each.container.spec.mounts
    }
    rows = [
        {"Driver": each["Driver"], "Name": each["Name"]}
        for each in session.engine.volumes({"label": [f"{labels.PROJECT}={name}"]})
        if not services or each["Name"] in used
    ]
    if values["quiet"]:
        for row in rows:
            print(row["Name"])
        return 0
    headings = {"Driver": "DRIVER", "Name": "VOLUME NAME"}
    table.show(rows, headings, tuple(headings), values["format"])
    return 0


_IMAGES = {
    "ContainerName": "CONTAINER",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "Size": "SIZE",
    "Service": "SERVICE",
}


def images(session: Session, values: Values, services: list[str]) -> int:
    """The images of the containers."""
    from minidock import human

    rows = []
    for member in session.members(services, oneoff=None):
        spec = member.container.spec
        repository, _, tag = session.engine.familiar_name(spec.image).rpartition(":")
        found = session.engine.image(spec.image_id)
        rows.append(
            {
                "ContainerName": member.name,
                "Repository": repository,
                "Tag": tag,
                "ID": spec.image_id.removeprefix("sha256:")[:12],
                "Size": human.size(found.size),
                "Service": member.service,
            }
        )
    if values["quiet"]:
        for row in rows:
            print(row["ID"])
        return 0
    table.show(rows, _IMAGES, ("ContainerName", "Repository", "Tag", "ID", "Size"), values["format"])
    return 0


def port(session: Session, values: Values, arguments: list[str]) -> int:
    """Where a port of a service is published."""
    name, number = arguments
    member = members.one(session.engine, session.name([name]), name, values["index"] or 0)
    protocol = number if "/" in number else f"{number}/{values['protocol']}"
    return network.port(session, {}, [member.id, protocol])


def ls(session: Session, values: Values, arguments: list[str]) -> int:
    """All projects under this root."""
    rows = []
    for name, found in members.projects(session.engine).items():
        states: dict[str, int] = {}
        for each in found:
            status = each.container.status()
            states[status] = states.get(status, 0) + 1
        if not values["all"] and not any(each.running for each in found):
            continue
        shown = ", ".join(f"{status}({count})" for status, count in sorted(states.items()))
        files = found[0].label.get(labels.FILES, "") if found else ""
        rows.append({"Name": name, "Status": shown, "ConfigFiles": files})
    if values["quiet"]:
        for row in rows:
            print(row["Name"])
        return 0
    headings = {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}
    table.show(rows, headings, tuple(headings), values["format"])
    return 0


_INDEX = Flag("index", "", "int", "Number of the container, if the service has several", None, integer)
_SINCE = Flag("since", help='Only what came after this moment, or relative (e.g. "42m")')
_UNTIL = Flag("until", help="Only what came before this moment, or relative")

COMMANDS = {
    "ps": verb(
        "ps [OPTIONS] [SERVICE...]",
        "List containers",
        ps,
        (
            boolean("all", "a", "Show stopped containers too, and those of `run`"),
            repeated("filter", help="Filter by status=STATE"),
            FORMAT,
            boolean("no-trunc", help="Don't truncate output"),
            boolean("quiet", "q", "Only display IDs"),
            boolean("services", help="Display services"),
            repeated("status", help="Only containers in this state"),
        ),
    ),
    "logs": verb(
        "logs [OPTIONS] [SERVICE...]",
        "View output from containers",
        logs,
        (
            boolean("follow", "f", "Follow log output"),
            boolean("no-color", help="Produce monochrome output"),
            boolean("no-log-prefix", help="Don't print the names before the lines"),
            _SINCE,
            Flag("tail", "n", help="Number of lines to show from the end, for each container", default="all"),
            boolean("timestamps", "t", "Show timestamps"),
            _UNTIL,
        ),
    ),
    "top": verb("top [SERVICE...]", "Display the running processes", top),
    "events": verb(
        "events [OPTIONS] [SERVICE...]",
        "Receive real time events from containers",
        events,
        (boolean("json", help="Output events as JSON objects"), _SINCE, _UNTIL),
    ),
    "images": verb(
        "images [OPTIONS] [SERVICE...]",
        "List the images of the containers",
        images,
        (FORMAT, boolean("quiet", "q", "Only display IDs")),
    ),
    "stats": verb(
        "stats [OPTIONS] [SERVICE...]",
        "Display what the containers use, as a live stream",
        stats,
        (
            boolean("all", "a", "Show stopped containers too"),
            FORMAT,
            boolean("no-stream", help="Only the first result"),
            boolean("no-trunc", help="Don't truncate output"),
        ),
    ),
    "volumes": verb(
        "volumes [OPTIONS] [SERVICE...]",
        "List volumes",
        volumes,
        (FORMAT, boolean("quiet", "q", "Only display names")),
    ),
    "port": verb(
        "port [OPTIONS] SERVICE PRIVATE_PORT",
        "Print where a port is published",
        port,
        (_INDEX, Flag("protocol", help="tcp or udp", default="tcp")),
        least=2,
        most=2,
    ),
    "ls": verb(
        "ls [OPTIONS]",
        "List projects",
        ls,
        (
            boolean("all", "a", "Also those that do not run"),
            FORMAT,
            boolean("quiet", "q", "Only display names"),
        ),
        most=0,
    ),
}
