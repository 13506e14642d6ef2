"""``minidock pull push login logout search``: talking to registries."""

from __future__ import annotations

import sys

from minidock import human
from minidock.cli import table
from minidock.cli.context import Context, say
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, integer
from minidock.cli.progress import showing
from minidock.cli.ps import FILTER, FORMAT
from minidock.engine import HUB, parse_filters
from minidock.errors import MinidockError


def pull(context: Context, values: Values, arguments: list[str]) -> int:
    """Download an image from a registry; prints its full name at the end."""
    reference, engine = arguments[0], context.engine
    full = engine.full_name(reference)
    if values["all-tags"]:
        raise UsageError("--all-tags is not in minidock: name the tags you want.")
    if not values["quiet"]:
        _say_default_tag(reference)
    with showing(values["quiet"]) as progress:
        engine.pull(reference, platform=values["platform"], progress=progress)
    print(full)
    return 0


def _say_default_tag(reference: str) -> None:
    if ":" not in reference.rpartition("/")[2] and "@" not in reference:
        print("Using default tag: latest", flush=True)


def push(context: Context, values: Values, arguments: list[str]) -> int:
    """Upload an image to the registry that its name says."""
    engine = context.engine
    if not values["quiet"]:
        _say_default_tag(arguments[0])
    with showing(values["quiet"]) as progress:
        engine.push(arguments[0], progress=progress)
    if values["quiet"]:
        print(engine.full_name(arguments[0]))
    return 0


def login(context: Context, values: Values, arguments: list[str]) -> int:
    """Authenticate to a registry."""
    server = arguments[0] if arguments else HUB
    username, password = values["username"], values["password"]
    if values["password-stdin"]:
        if password:
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise UsageError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not username or not password:
        if not sys.stdin.isatty():
            raise MinidockError(
                "cannot ask for a user name and password: standard input is not a terminal",
                hint="Use --username NAME --password-stdin.",
            )
        import getpass

        username = username or input("Username: ")
        password = password or getpass.getpass("Password: ")
    file = context.engine.login(server, username, password)
    say(f"WARNING! Your password is stored unencrypted in {file} (mode 0600).")
    print("Login Succeeded")
    return 0


def logout(context: Context, values: Values, arguments: list[str]) -> int:
    """Forget a registry's password."""
    server = arguments[0] if arguments else HUB
    if context.engine.logout(server):
        print(f"Removing login credentials for {server}")
    else:
        print(f"Not logged in to {server}")
    return 0


HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}


def search(context: Context, values: Values, arguments: list[str]) -> int:
    """Look for images by name."""
    whole = values["no-trunc"]
    answer = context.engine.search(
        arguments[0], limit=values["limit"], filters=parse_filters(values["filter"])
    )
    if answer.note:
        say(answer.note)
    rows = []
    for found in answer.results:
        text = found.description.replace("\n", " ").replace("\r", " ")
        rows.append(
            {
                "Name": found.name,
                "Description": text if whole else human.shortened(text, 45),
                "StarCount": str(found.stars),
                "IsOfficial": "[OK]" if found.official else "",
                "IsAutomated": "",
            }
        )
    table.show(rows, HEADINGS, ("Name", "Description", "StarCount", "IsOfficial"), values["format"])
    return 0


_QUIET = boolean("quiet", "q", "Suppress verbose output")
COMMANDS = {
    "pull": Command(
        "pull [OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        pull,
        (
            boolean("all-tags", "a", "(not in minidock)"),
            boolean("disable-content-trust", help="Skip image verification", default=True),
            Flag("platform", help="Set platform if server is multi-platform capable"),
            _QUIET,
        ),
        least=1,
        most=1,
    ),
    "push": Command(
        "push [OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        push,
        (_QUIET, boolean("disable-content-trust", help="Skip image signing", default=True)),
        least=1,
        most=1,
    ),
    "login": Command(
        "login [OPTIONS] [SERVER]",
        "Authenticate to a registry",
        login,
        (
            Flag("password", "p", help="Password"),
            boolean("password-stdin", help="Take the password from stdin"),
            Flag("username", "u", help="Username"),
        ),
        most=1,
    ),
    "logout": Command("logout [SERVER]", "Log out from a registry", logout, most=1),
    "search": Command(
        "search [OPTIONS] TERM",
        "Search a registry for images",
        search,
        (
            FILTER,
            FORMAT,
            Flag("limit", "", "int", "Max number of search results", 25, integer),
            boolean("no-trunc", help="Don't truncate output"),
        ),
        least=1,
        most=1,
    ),
}
