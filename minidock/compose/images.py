"""The images of a project: built, pulled, pushed."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import minidock
from minidock import notation
from minidock.compose import grants, labels, order
from minidock.compose.model import Project
from minidock.compose.progress import Report
from minidock.compose.reading import ComposeError, Map
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.engine import Engine


def name_of(project: Project, name: str) -> str:
    """The image of a service; one that is built and has no name gets ``project-service``."""
    return str(project.services[name].get("image") or f"{project.name}-{name}")


def make_ready(
    engine: Engine, project: Project, names: Iterable[str], report: Report, *, build: bool | None, pull: str
) -> None:
    """See to it that every image is here. *build*: True in any case, None when missing, False never.

    *pull* is the command's --pull ("" leaves it to each service's pull_policy).
    """
    todo = list(names)
    building = [name for name in todo if _wants_build(engine, project, name, build)]
    for name in todo:
        service, image = project.services[name], name_of(project, name)
        if name in building:
            continue
        policy = _policy(pull or str(service.get("pull_policy") or ""), service)
        if policy == "never" and not engine.has_image(image):
            if service.get("build"):
                raise ComposeError(f"services.{name}: the image {image} is not built", hint="up --build")
            raise ComposeError(f"services.{name}: the image {image} is not here, and is not to be pulled")
        if policy == "always" or not engine.has_image(image):
            if service.get("build") and not service.get("image"):
                raise ComposeError(f"services.{name}: the image {image} is not built", hint="up --build")
            _pull(engine, service, image, report, name)
    if building:
        build_all(engine, project, building, report)


def _wants_build(engine: Engine, project: Project, name: str, asked: bool | None) -> bool:
    service = project.services[name]
    if not service.get("build") or asked is False:
        return False
    if asked or service.get("pull_policy") == "build":
        return True
    return not engine.has_image(name_of(project, name))


def _policy(text: str, service: Map) -> str:
    if text in ("", "missing", "if_not_present", "build"):
        return "missing"
    if text in ("always", "never"):
        return text
    raise ComposeError(
        f"the pull policy {text!r} is not supported by minidock",
        service.places.get("pull_policy"),
        hint="always, missing, never or build.",
    )


def _pull(engine: Engine, service: Map, image: str, report: Report, name: str) -> None:
    report.step("Image", image, "Pulling")
    try:
        with report.pulling() as show:
            engine.pull(
                image, platform=str(service["platform"]) if service.get("platform") else None, progress=show
            )
    except MinidockError as error:
        error.message = f"services.{name}: {error.message}"
        raise
    report.step("Image", image, "Pulled")


def pull_all(
    engine: Engine, project: Project, names: Iterable[str], report: Report, *, policy: str, ignore: bool
) -> int:
    """`compose pull`: what is not built here. 1 if one failed; with *ignore* it is only told."""
    failed = 0
    for name in names:
        service, image = project.services[name], name_of(project, name)
        if service.get("build") and not service.get("image"):
            report.step("Image", image, "Skipped: it is built")
            continue
        if policy == "missing" and engine.has_image(image):
            report.step("Image", image, "Skipped: it is here")
            continue
        try:
            _pull(engine, service, image, report, name)
        except MinidockError as error:
            if not ignore and not service.get("build"):
                raise
            report.warn(error.message)
            failed = 0 if ignore or service.get("build") else 1
    return failed


def push_all(engine: Engine, project: Project, names: Iterable[str], report: Report) -> None:
    """`compose push`: what is built here."""
    for name in names:
        service = project.services[name]
        if not service.get("build"):
            continue
        if not service.get("image"):
            report.warn(f"services.{name} has no image to push to")
            continue
        report.step("Image", name_of(project, name), "Pushing")
        with report.pulling() as show:
            engine.push(name_of(project, name), progress=show)
        report.step("Image", name_of(project, name), "Pushed")


def build_all(engine: Engine, project: Project, names: Iterable[str], report: Report, **asked: Any) -> None:
    """Build the images of the services *names*, in the order of their dependencies.

    *asked*: no_cache, pull, args (a dictionary), memory; what the command's flags say.
    """
    wanted = set(names)
    for name in order.with_needed(wanted, project.needs()):
        if name in wanted and project.services[name].get("build"):
            _build(engine, project, name, report, asked)


def _build(engine: Engine, project: Project, name: str, report: Report, asked: dict[str, Any]) -> None:
    service, image = project.services[name], name_of(project, name)
    build: Map = service["build"]
    inline = build.get("dockerfile_inline")
    if inline is not None and build.get("dockerfile"):
        raise ComposeError(
            f"services.{name}.build: dockerfile and dockerfile_inline exclude each other",
            build.places.get("dockerfile_inline"),
        )
    arguments = {key: value for key, value in (build.get("args") or {}).items() if value is not None}
    arguments.update(asked.get("args") or {})
    limits = {"memory": asked["memory"]} if asked.get("memory") else {}
    report.step("Image", image, "Building")
    with report.building() as show:
        more = {"on_event": show} if show is not None else {}
        try:
            engine.build(
                str(build["context"]),
                dockerfile="-" if inline is not None else _text(build.get("dockerfile")),
                stdin=io.BytesIO(inline.encode()) if inline is not None else None,
                tags=[image, *map(str, build.get("tags") or [])],
                target=str(build.get("target") or ""),
                build_args=arguments,
                labels={
                    **{key: value or "" for key, value in (build.get("labels") or {}).items()},
                    labels.PROJECT: project.name,
                    labels.SERVICE: name,
                    labels.VERSION: minidock.__version__,
                },
                use_cache=not (asked.get("no_cache") or build.get("no_cache")),
                cache_from=list(map(str, build.get("cache_from") or [])),
                pull=bool(asked.get("pull") or build.get("pull")),
                platform=str((build.get("platforms") or [service.get("platform") or ""])[0]),
                network=str(build.get("network") or ""),
                add_host=list(map(str, build.get("extra_hosts") or [])),
                secrets=_secrets(project, build),
                shm_size=notation.parsed(build.get("shm_size"), notation.size),
                ulimits={
                    key: (value, value)
                    if isinstance(value, int)
                    else (int(value["soft"]), int(value["hard"]))
                    for key, value in (build.get("ulimits") or {}).items()
                },
                **more,
                **limits,
            )
        except MinidockError as error:
            error.message = f"services.{name}: {error.message}"
            raise
    report.step("Image", image, "Built")


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _secrets(project: Project, build: Map) -> dict[str, bytes]:
    return {
        str(grant.get("target") or grant["source"]): grants.value(project, project.secrets[grant["source"]])
        for grant in build.get("secrets") or []
    }
