"""``/build``: an image from a Dockerfile and the files that the client sends as a tar archive.

Source: Docker Engine API v1.44, POST /build, POST /build/prune.
"""

from __future__ import annotations

from typing import Any

from minidock.build_events import Event, ImageWritten
from minidock.build_page import Page
from minidock.errors import InvalidInput
from minidock.server.errors import BAD_REQUEST, Refused
from minidock.server.plain import number, pairs, table, tables, text, words
from minidock.server.request import Request, parsed
from minidock.server.streams import Stream

_RED = 91  # what RUN writes to its stderr, whether the client has a terminal or not
_LIMITS = {
    "memory": "memory",
    "memswap": "memory_swap",
    "cpuperiod": "cpu_period",
    "cpuquota": "cpu_quota",
    "cpushares": "cpu_shares",
}


def build(request: Request) -> None:
    """Docker's classic lines, one JSON object each; the last but those carries the image's id."""
    if request.text("version") == "2":
        raise Refused(BAD_REQUEST, "BuildKit's protocol is not in minidock: set DOCKER_BUILDKIT=0")
    options = _options(request)
    remote = request.text("remote")
    if remote and "://" not in remote and not remote.startswith("git"):  # a path would be one of ours
        raise InvalidInput(f"remoteURL ({remote}) could not be recognized as URL")
    with request.spooled() as file:
        context = remote or file
        quiet = request.flag("q")
        begun: list[Stream] = []

        def tell(line: dict[str, Any]) -> None:
            if not begun:  # what is wrong with the Dockerfile comes before: a 400
                begun.append(request.tell_progress())
            begun[0].tell(line)

        def line(text: str) -> None:
            # Clients look for words at the end of each line; what is red comes in one piece.
            for each in [text] if text.startswith("\x1b") else text.splitlines(keepends=True):
                tell({"stream": each})

        def show(event: Event) -> None:
            if isinstance(event, ImageWritten):
                tell({"aux": {"ID": event.id}})
            page.show(event)

        page = Page(
            lambda data: line(data.decode(errors="replace")),
            lambda text: line(f"{text}\n"),
            quiet=quiet,
            errors_in=_RED,
        )

        def pulls(event: Any) -> None:
            if not quiet:
                tell({"status": event.message or event.status, **({"id": event.id} if event.id else {})})

        try:
            built = request.engine.build(context, on_event=show, progress=pulls, **options)
        except BaseException:
            page.failed()
            raise
        if quiet:
            line(f"{built.id}\n")


def _options(request: Request) -> dict[str, Any]:
    json = {
        name: parsed(request.text(name).encode() or b"null", f"error reading {name}")
        for name in ("buildargs", "labels", "cachefrom", "ulimits")
    }
    arguments = {key: value for key, value in table(json, "buildargs").items() if value is not None}
    found: dict[str, Any] = {
        "dockerfile": request.text("dockerfile") or None,
        "tags": [name for name in request.texts("t") if name],
        "target": request.text("target"),
        "build_args": pairs({"buildargs": arguments}, "buildargs"),
        "labels": pairs(json, "labels"),
        "use_cache": not request.flag("nocache"),
        "cache_from": words(json, "cachefrom") or [],
        "pull": request.flag("pull"),
        "platform": request.text("platform"),
        "network": request.text("networkmode"),
        "add_host": request.texts("extrahosts"),
        "squash": request.flag("squash"),
        "shm_size": request.number("shmsize") or None,
        "ulimits": {
            text(each, "Name"): (number(each, "Soft") or 0, number(each, "Hard") or 0)
            for each in tables(json, "ulimits")
        },
    }
    for name, option in _LIMITS.items():
        if request.number(name):
            found[option] = request.number(name)
    for name, option in (("cpusetcpus", "cpuset_cpus"), ("cpusetmems", "cpuset_mems")):
        if request.text(name):
            found[option] = request.text(name)
    return found


def prune(request: Request) -> Any:
    _, freed = request.engine.prune_builds()
    return {"CachesDeleted": [], "SpaceReclaimed": freed}


ROUTES = [("POST", "/build", build), ("POST", "/build/prune", prune)]
