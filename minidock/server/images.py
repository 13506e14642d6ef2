"""``/images``: pulling and pushing, finding and removing, archives of them; ``/auth``, ``/commit``.

Source: Docker Engine API v1.44, "Image"; "Progress reporting" of POST /images/create.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from minidock.engine import HUB
from minidock.errors import InvalidInput
from minidock.server.errors import Refused
from minidock.server.plain import pairs, table, text, words
from minidock.server.request import Reply, Request, parsed
from minidock.server.streams import Stream

if TYPE_CHECKING:
    from minidock.engine import Event

_TAR = "application/x-tar"
_MOVING = ("Downloading", "Extracting", "Pushing")  # what is told with bytes; that all is done, without


# --- from and to registries ----------------------------------------------------------------------


def create(request: Request) -> None:
    """Pull, or import where ``fromSrc`` says so."""
    if request.text("fromSrc"):
        _import(request)
        return
    reference, tag = request.text("fromImage"), request.text("tag")
    if not reference:
        raise InvalidInput("invalid reference format: no image named")
    if tag:
        reference += f"@{tag}" if ":" in tag else f":{tag}"
    elif not _has_tag(reference):
        reference += ":latest"  # Docker pulls every tag; minidock the one that is meant nearly always
    request.engine.full_name(reference)
    login, platform = _login(request), request.text("platform") or None
    show = _Shown(request)
    request.engine.pull(reference, platform=platform, progress=show, login=login)
    show.done()


def _has_tag(reference: str) -> bool:
    return ":" in reference.rpartition("/")[2] or "@" in reference


def push(request: Request) -> None:
    reference, tag = request["name"], request.text("tag")
    login = _login(request)
    show = _Shown(request)
    request.engine.push(f"{reference}:{tag}" if tag else reference, progress=show, login=login)
    show.done()


class _Shown:
    """Progress as lines of JSON. The first one begins the answer: what fails before it has a status.

    Of a pull those lines wait that come before somebody has the image: that nobody has it is a 404.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._stream: Stream | None = None
        self._early: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        line: dict[str, Any] = {"status": event.message or event.status}
        early = event.status.startswith(("Pulling from ", "Warning"))
        if event.id:
            moved = event.status in _MOVING and event.current and event.total
            detail = {"current": event.current, "total": event.total} if moved else {}
            line |= {"id": event.id} if early else {"id": event.id, "progressDetail": detail}
        if self._stream is None and early:
            self._early.append(line)
        else:
            self.stream().tell(line)

    def stream(self) -> Stream:
        if self._stream is None:
            self._stream = self._request.tell_progress()
            for line in self._early:
                self._stream.tell(line)
        return self._stream

    def done(self) -> None:
        self.stream()


def _login(request: Request) -> dict[str, Any] | None:
    """X-Registry-Auth: base64url of JSON, perhaps without its padding. Unreadable: nobody, as in Docker."""
    sent = request.headers.get("X-Registry-Auth", "")
    try:
        value = parsed(base64.urlsafe_b64decode(sent + "=" * (-len(sent) % 4)), "X-Registry-Auth")
    except (ValueError, Refused):
        return None
    return value if isinstance(value, dict) else None


def authenticate(request: Request) -> Any:
    body = request.json()
    request.engine.check_login(
        text(body, "serveraddress") or HUB, text(body, "username"), text(body, "password")
    )
    return {"Status": "Login Succeeded", "IdentityToken": ""}


def search(request: Request) -> Any:
    found = request.engine.search(
        request.text("term"), limit=request.number("limit") or 25, filters=request.filters()
    )
    return [
        {
            "name": each.name,
            "description": each.description,
            "star_count": each.stars,
            "is_official": each.official,
            "is_automated": False,
        }
        for each in found.results
    ]


# --- what is here --------------------------------------------------------------------------------


def list_(request: Request) -> Any:
    filters = request.filters()
    if request.text("filter"):  # of older clients
        filters.setdefault("reference", []).append(request.text("filter"))
    return request.engine.image_summaries(filters)


def inspect(request: Request) -> Any:
    """With what is to go in 1.45: docker-compose 1.29 looks there for the volumes that it hands on."""
    found = request.engine.image_inspect(request["name"])
    return {**found, "Container": "", "ContainerConfig": found["Config"]}


def history(request: Request) -> Any:
    return request.engine.history(request["name"])


def tag(request: Request) -> Reply:
    repository, name = request.text("repo"), request.text("tag")
    request.engine.tag(request["name"], f"{repository}:{name}" if name else repository)
    return Reply(201)


def remove(request: Request) -> Any:
    removed = request.engine.rmi(request["name"], force=request.flag("force"))
    return _removed(removed)


def _removed(removed: Any) -> list[dict[str, str]]:
    return [
        *({"Untagged": name} for name in removed.untagged),
        *({"Deleted": digest} for digest in removed.deleted),
    ]


def prune(request: Request) -> Any:
    filters = request.filters()
    dangling = filters.pop("dangling", ["true"])
    unused = any(value.lower() in ("false", "0") for value in dangling)
    removed = request.engine.prune_images(filters, unused=unused)
    return {"ImagesDeleted": _removed(removed), "SpaceReclaimed": removed.freed}


def distribution(request: Request) -> Any:
    """What the registry has under a name, whatever is here."""
    found = request.engine.offered(request["name"], login=_login(request))
    return {
        "Descriptor": found.descriptor.to_json(),
        "Platforms": [_platform(each) for each in found.platforms],
    }


def _platform(each: Any) -> dict[str, str]:
    variant = {"variant": each.variant} if each.variant else {}
    return {"architecture": each.architecture, "os": each.system, **variant}


# --- archives ------------------------------------------------------------------------------------


def save(request: Request) -> None:
    names = request.texts("names") or ([request["name"]] if "name" in request.parameters else [])
    names = [part for name in names for part in name.split(",")]
    if not names:
        raise InvalidInput("no images named")
    for name in names:
        request.engine.image(name)  # before the answer begins
    request.engine.save(names, request.begin(_TAR))  # type: ignore[arg-type]


def load(request: Request) -> None:
    with request.spooled() as file:
        stream = request.tell_progress()  # what is wrong with the archive is told in its last line
        loaded = request.engine.load(file)
    for name in loaded:
        kind = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        stream.tell({"stream": f"{kind}: {name}\n"})


def _import(request: Request) -> None:
    source, repository, name = request.text("fromSrc"), request.text("repo"), request.text("tag")
    if source != "-":
        raise InvalidInput("import from a URL is not in minidock", hint="Send the archive itself.")
    reference = f"{repository}:{name}" if repository and name else repository
    changes, message = request.texts("changes"), request.text("message")
    options = {"message": message} if message else {}
    with request.spooled() as file:
        image = request.engine.import_(file, reference, changes=changes, **options)
    request.tell_progress().tell({"status": image.id})


def commit(request: Request) -> Reply:
    repository, name = request.text("repo"), request.text("tag")
    body = request.json(optional=True)
    changes = [line for each in request.texts("changes") for line in each.split("\n") if line.strip()]
    image = request.engine.commit(
        request.text("container"),
        f"{repository}:{name}" if repository and name else repository,
        message=request.text("comment"),
        author=request.text("author"),
        changes=[*_as_changes(body), *changes],
        pause=request.flag("pause", True),
    )
    return Reply(201, {"Id": image.id})


def _as_changes(config: dict[str, Any]) -> list[str]:
    """The config that a commit may bring along, as instructions of a Dockerfile."""
    found = []
    for key, instruction in (("Cmd", "CMD"), ("Entrypoint", "ENTRYPOINT")):
        if words(config, key) is not None:
            found.append(f"{instruction} {json.dumps(words(config, key))}")
    for entry in words(config, "Env") or []:
        variable, _, value = entry.partition("=")
        found.append(f"ENV {variable}={json.dumps(value)}")
    for key, value in pairs(config, "Labels").items():
        found.append(f"LABEL {json.dumps(key)}={json.dumps(value)}")
    for key, instruction in (("WorkingDir", "WORKDIR"), ("User", "USER"), ("StopSignal", "STOPSIGNAL")):
        if text(config, key):
            found.append(f"{instruction} {text(config, key)}")
    found += [f"EXPOSE {port}" for port in table(config, "ExposedPorts")]
    found += [f"VOLUME {json.dumps([path])}" for path in table(config, "Volumes")]
    return found


ROUTES = [
    ("POST", "/images/create", create),
    ("GET", "/images/json", list_),
    ("GET", "/images/search", search),
    ("GET", "/images/get", save),
    ("POST", "/images/load", load),
    ("POST", "/images/prune", prune),
    ("GET", "/images/{name...}/json", inspect),
    ("GET", "/images/{name...}/history", history),
    ("GET", "/images/{name...}/get", save),
    ("POST", "/images/{name...}/push", push),
    ("POST", "/images/{name...}/tag", tag),
    ("DELETE", "/images/{name...}", remove),
    ("GET", "/distribution/{name...}/json", distribution),
    ("POST", "/commit", commit),
    ("POST", "/auth", authenticate),
]
