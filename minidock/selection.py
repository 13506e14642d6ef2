"""``--filter``: which containers, images and volumes a list shows. Docker's keys, with Docker's meaning.

Filters are ``{"status": ["exited", "created"], "label": ["tier=web"]}``: the values of one key are
alternatives (of ``label`` all must fit), the keys must all fit.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from minidock import notation
from minidock.containers import timestamps
from minidock.containers.networks import Network
from minidock.containers.spec import Spec
from minidock.containers.state import Container
from minidock.containers.volumes import Volume
from minidock.containers.wiring import PREDEFINED
from minidock.errors import InvalidInput
from minidock.images.image import Image
from minidock.inspection import familiar

if TYPE_CHECKING:
    from minidock.images.search import Result

Filters = dict[str, list[str]]
CONTAINER_KEYS = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label"),
    *("name", "network", "publish", "since", "status", "volume"),
)
VOLUME_KEYS = ("dangling", "driver", "label", "name")
IMAGE_KEYS = ("before", "dangling", "label", "reference", "since", "until")
NETWORK_KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def parse(texts: Iterable[str]) -> Filters:
    """``["status=exited"]`` → ``{"status": ["exited"]}``; the command has made sure of the ``=``."""
    filters: Filters = {}
    for text in texts:
        key, _, value = text.partition("=")
        filters.setdefault(key.strip().lower(), []).append(value.strip())
    return filters


def check(filters: Filters, known: tuple[str, ...]) -> None:
    for key in filters:
        if key not in known:
            raise InvalidInput(f"invalid filter '{key}'", hint=f"Filters here: {', '.join(known)}.")


def containers(
    candidates: list[Container],
    filters: Filters,
    find: Callable[[str], Container],
    image_id: Callable[[str], str | None],
) -> list[Container]:
    """Those of *candidates* that fit. *find* and *image_id* look up what a filter names."""
    check(filters, CONTAINER_KEYS)
    for status in filters.get("status", []):
        if status not in STATUSES:
            raise InvalidInput(f"invalid filter 'status={status}'", hint=f"States: {', '.join(STATUSES)}.")
    ancestors = {image_id(text) or text for text in filters.get("ancestor", [])}
    after = max((find(text).spec.created for text in filters.get("since", [])), default="")
    before = min((find(text).spec.created for text in filters.get("before", [])), default="~")
    exit_codes = [_number(text) for text in filters.get("exited", [])]
    expose, publish = _ports(filters, "expose"), _ports(filters, "publish")
    tasks = [_truth("is-task", text) for text in filters.get("is-task", [])]  # of swarms: none is here

    def fits(container: Container) -> bool:
        spec, status = container.spec, container.status()
        networks = {each.network for each in spec.wiring.attachments} | {spec.namespaces.network}
        mounts = {path for mount in spec.mounts for path in (mount.source, mount.target)}
        return (
            _one(filters, "status", lambda value: value == status)
            and _one(filters, "health", lambda value: value == _health_of(container))
            and _one(filters, "id", lambda value: spec.id.startswith(value))
            and _one(filters, "name", lambda value: bool(re.search(value.removeprefix("/"), spec.name)))
            and labelled(filters, spec.labels)
            and (not ancestors or bool(ancestors & {spec.image_id, spec.image}))
            and (not exit_codes or (status == "exited" and container.state().exit_code in exit_codes))
            and after < spec.created < before
            and ("expose" not in filters or bool(expose & set(spec.exposed_ports)))
            and ("publish" not in filters or bool(publish & _published(spec)))
            and (not tasks or False in tasks)
            and _one(filters, "isolation", lambda value: value == "default")
            and _one(filters, "network", lambda value: value in networks)
            and _one(filters, "volume", lambda value: value in mounts)
        )

    return [container for container in candidates if fits(container)]


def _ports(filters: Filters, key: str) -> set[str]:
    """``80``, ``53/udp``, ``8000-8010``: ports of containers."""
    return {port for text in filters.get(key, []) for port in notation.exposed_ports(text)}


def _published(spec: Spec) -> set[str]:
    return {f"{each.port}/{each.protocol}" for each in spec.wiring.publish}


def prunable(candidates: list[Container], filters: Filters) -> list[Container]:
    """The containers that `container prune` removes: those that do not run, and fit."""
    check(filters, ("label", "until"))
    until = min((timestamps.moment(text) for text in filters.get("until", [])), default=None)
    return [
        container
        for container in candidates
        if not container.running()
        and labelled(filters, container.spec.labels)
        and (until is None or timestamps.to_nanoseconds(container.spec.created) < until)
    ]


def images(candidates: list[Image], filters: Filters, find: Callable[[str], Image]) -> list[Image]:
    """Those of *candidates* that fit."""
    check(filters, IMAGE_KEYS)
    after = max((find(text).created for text in filters.get("since", [])), default="")
    before = min((find(text).created for text in filters.get("before", [])), default="~")
    until = min((timestamps.moment(text) for text in filters.get("until", [])), default=None)

    def fits(image: Image) -> bool:
        return (
            _one(filters, "dangling", lambda value: (value.lower() in ("true", "1")) == image.dangling)
            and ("reference" not in filters or bool(named(image.names, filters)))
            and labelled(filters, image.settings.get("Labels") or {})
            and (not after or image.created > after)
            and (before == "~" or image.created < before)
            and (until is None or timestamps.to_nanoseconds(image.created) < until)
        )

    return [image for image in candidates if fits(image)]


def networks(candidates: list[Network], filters: Filters, used: set[str]) -> list[Network]:
    """Those of *candidates* that fit. Raises InvalidInput for an unknown filter."""
    check(filters, NETWORK_KEYS)

    def fits(network: Network) -> bool:
        kind = "builtin" if network.name in PREDEFINED else "custom"
        dangling = kind == "custom" and network.name not in used
        tests: dict[str, Callable[[str], bool]] = {
            "driver": lambda value: value == network.driver,
            "id": network.id.startswith,
            "name": lambda value: value in network.name,
            "scope": lambda value: value == "local",
            "type": lambda value: value == kind,
            "dangling": lambda value: (value.lower() in ("true", "1")) == dangling,
        }
        return all(
            key not in filters or any(test(value) for value in filters[key]) for key, test in tests.items()
        ) and labelled(filters, network.labels)

    return [network for network in candidates if fits(network)]


def prunable_networks(candidates: list[Network], filters: Filters) -> list[Network]:
    """Those that `network prune` may remove, as far as *filters* (label, until) go."""
    check(filters, ("label", "until"))
    until = min((timestamps.moment(text) for text in filters.get("until", [])), default=None)
    return [
        network
        for network in candidates
        if network.name not in PREDEFINED
        and labelled(filters, network.labels)
        and (until is None or timestamps.to_nanoseconds(network.created) < until)
    ]


def volumes(found: list[Volume], filters: Filters, used: Collection[str]) -> list[Volume]:
    """Those of *found* that fit; *used* are the names of volumes that some container uses."""
    check(filters, VOLUME_KEYS)
    dangling = {_truth("dangling", text) for text in filters.get("dangling", [])}

    def fits(volume: Volume) -> bool:
        return (
            (not dangling or (volume.name not in used) in dangling)
            and ("driver" not in filters or "local" in filters["driver"])
            and ("name" not in filters or any(_matches(text, volume.name) for text in filters["name"]))
            and labelled(filters, volume.labels)
        )

    return [volume for volume in found if fits(volume)]


def _truth(key: str, text: str) -> bool:
    if text.lower() not in ("true", "1", "t", "false", "0", "f"):
        raise InvalidInput(f"invalid filter '{key}=[{text}]'", hint=f"Write {key}=true or {key}=false.")
    return text.lower() in ("true", "1", "t")


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return pattern in name


def prunable_volumes(found: list[Volume], filters: Filters, *, all: bool) -> list[Volume]:
    """The volumes that `volume prune` would remove, were none in use."""
    check(filters, ("all", "label", "label!"))
    all = all or any(_truth("all", text) for text in filters.get("all", []))
    unwanted = [{"label": [text]} for text in filters.get("label!", [])]
    return [
        volume
        for volume in found
        if (all or volume.anonymous)
        and labelled(filters, volume.labels)
        and not any(labelled(each, volume.labels) for each in unwanted)
    ]


def named(names: list[str], filters: Filters) -> list[str]:
    """Those of *names* that fit ``reference=…``; all when nothing was asked."""
    wanted = filters.get("reference")
    return [name for name in names if wanted is None or any(matches(each, name) for each in wanted)]


def matches(pattern: str, name: str) -> bool:
    """Whether an image's name fits ``busy*`` or ``*:latest``, with or without its tag."""
    short = familiar(name)
    repository = short.rpartition(":")[0] or short
    return any(fnmatch.fnmatchcase(each, pattern) for each in (short, repository, name))


def found(results: Iterable[Result], filters: Filters) -> list[Result]:
    """What a search found, as far as it fits ``is-official=true`` and ``stars=3`` (at least so many)."""
    check(filters, ("is-official", "stars"))
    official = {_truth("is-official", text) for text in filters.get("is-official", [])}
    for text in filters.get("stars", []):
        if not text.isdecimal():
            raise InvalidInput(f"invalid filter 'stars={text}'", hint="Write stars=3.")
    least = max(map(int, filters.get("stars", [])), default=0)
    return [each for each in results if each.stars >= least and (not official or each.official in official)]


EVENT_KEYS = ("container", "event", "image", "label", "network", "scope", "type", "volume")


def event_filter(filters: Filters) -> Callable[[dict[str, Any]], bool]:
    """Which events fit. A thing is named by its id, the beginning of it, or its name."""
    check(filters, EVENT_KEYS)

    def fits(event: dict[str, Any]) -> bool:
        actor = event["Actor"]
        names = (actor["ID"], actor["Attributes"].get("name", ""), actor["Attributes"].get("image", ""))

        def is_about(kind: str) -> bool:
            if kind not in filters:
                return True
            if kind == "image" and event["Type"] == "container":
                return actor["Attributes"].get("image") in filters[kind]
            return event["Type"] == kind and any(
                value in names or actor["ID"].startswith(value) for value in filters[kind]
            )

        return (
            _one(filters, "type", lambda value: value == event["Type"])
            and _one(filters, "event", lambda value: event["Action"].partition(":")[0] == value)
            and _one(filters, "scope", lambda value: value == event["scope"])
            and all(is_about(kind) for kind in ("container", "image", "network", "volume"))
            and labelled(filters, actor["Attributes"])
        )

    return fits


def _health_of(container: Container) -> str:
    status: str = container.state().health.get("Status", "none") if container.running() else "none"
    return status


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"invalid filter 'exited={text}': not a number") from None


def _one(filters: Filters, key: str, fits: Callable[[str], bool]) -> bool:
    return key not in filters or any(fits(value) for value in filters[key])


def labelled(filters: Filters, labels: dict[str, str]) -> bool:
    """Whether *labels* fit every ``label=…`` of the filters."""
    for text in filters.get("label", []):
        name, equals, value = text.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
