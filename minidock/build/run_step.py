"""RUN: a container is made from the image so far, runs one command, and its changes become a layer.

    the layers so far  ──▶  container  ──▶  its upper directory  ──▶  one more layer

The container is one like those of `minidock run`: the same namespaces, the same limits, the same filter.
Nothing is mounted a second time to see what it did: the upper directory of its overlay *is* the change.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minidock import trace
from minidock.build import dockerfile, heredocs, run_mounts, steps
from minidock.build.draft import Draft
from minidock.build.events import ContainerEnded, ContainerMade, LayerMade, Output
from minidock.build.instructions import Run
from minidock.build.run_mounts import Planned
from minidock.build.workshop import Stopped, Workshop
from minidock.containers import timestamps, wiring
from minidock.containers.spec import Namespaces, Spec
from minidock.containers.state import Container
from minidock.containers.streams import Streams
from minidock.errors import InvalidInput, MinidockError
from minidock.images import owners
from minidock.images.image import Layer
from minidock.kernel import overlay
from minidock.kernel.overlay import Change


@dataclass(frozen=True, slots=True)
class Command:
    """What a RUN executes: *words*; *script* is the text of a heredoc that begins with ``#!``."""

    words: list[str]
    script: str = ""


def command(instruction: Run, shell: list[str]) -> Command:
    """The words to execute: the exec form as it is, the shell form behind *shell*.

    A heredoc that stands alone is the script itself; else the shell gets it together with its line.
    """
    if instruction.exec_form:
        return Command(dockerfile.program(instruction.command, True, shell))
    text = instruction.command[0]
    if len(instruction.heredocs) == 1 and _alone(text):
        script = instruction.heredocs[0].text
        if script.startswith("#!"):
            return Command([run_mounts.script_path()], script)
        return Command(dockerfile.program([script], False, shell))
    for each in instruction.heredocs:
        text += f"\n{each.content}{each.name}"
    return Command(dockerfile.program([text], False, shell))


def _alone(text: str) -> bool:
    """Whether the line of a RUN is the name of its heredoc and nothing else: ``<<EOF``."""
    return len(text.split()) == 1 and heredocs.from_word(text.strip()) is not None


@trace.mechanism(lesson=8)
def run(
    shop: Workshop,
    stage: str,
    draft: Draft,
    instruction: Run,
    wanted: Command,
    environment: list[str],
    planned: Planned,
) -> Layer | None:
    """Run the command in a container of *draft*; returns the layer of what it changed, None for nothing.

    Raises CommandFailed, MinidockError when the container cannot start. The container is gone afterwards.
    """
    # Not before a container is needed: 40 ms.
    from minidock.containers import lifecycle, shim, user_namespace

    shim.get_ready()  # the shims of all RUNs are forked from here: what is imported now, none of them imports
    options, settings = shop.options, draft.settings
    network = instruction.network if instruction.network != "default" else options.network
    below = shop.view(draft)
    scratch = shop.new.directory / f"mounts-{os.urandom(4).hex()}"
    caches = shop.store.root / "cache" / "mounts"
    workdir = settings.get("WorkingDir") or "/"
    with run_mounts.prepared(planned, workdir, scratch, caches, dict(options.secrets)) as ready:
        spec = Spec(
            id=os.urandom(32).hex(),
            name="",
            image=draft.id,
            image_id=draft.id,
            layers=shop.names_for_mount(draft),
            created=timestamps.now(),
            arguments=wanted.words,
            command=wanted.words,
            environment=[*environment, *ready.environment],
            working_directory=workdir,
            user=settings.get("User") or "",
            mounts=ready.mounts,
            limits=options.limits,
            shm_size=options.shm_size,
            ulimits=dict(options.ulimits),
            namespaces=_namespaces(network, options.userns_remap),
            wiring=_wiring(network, options.extra_hosts),
            student_layers=shop.student_layers,
            owner=str(shop.new.directory),
        )
        container = lifecycle.create(shop.store.root, spec)
        with shop.alive(container):
            shop.tell(ContainerMade(stage, container.id, tuple(wanted.words)))
            upper = container.directory / "upper"

            def execute() -> int:
                code = _execute(shop, stage, container)
                if spec.namespaces.user == "private":
                    owners.change(upper, user_namespace.ids_of(spec).inside)
                run_mounts.forget(upper, ready.points, sorted(settings.get("Volumes") or {}), below)
                return code

            def take(tree: Path) -> Layer | None:
                changes = changes_in(shop, draft, tree)
                layer, size = shop.take(tree)
                if layer is not None:
                    shop.tell(LayerMade(stage, layer, size, changes))
                return layer

            return steps.run_and_commit(wanted.words, execute, upper, take)


def _execute(shop: Workshop, stage: str, container: Container) -> int:
    """Run the container to its end; returns its exit code."""
    from minidock.containers import lifecycle

    streams = Streams(
        stdin=None,
        stdout=lambda data: shop.tell(Output(stage, 1, data)),
        stderr=lambda data: shop.tell(Output(stage, 2, data)),
        detach_keys="",
        forward_signals=False,
    )
    begin = time.monotonic()
    try:
        code = lifecycle.start(container, streams) or 0
    except MinidockError as error:
        error.exit_code = 1  # Docker's, when the container cannot even start
        raise
    if shop.stopped:
        raise Stopped("the build was stopped")
    requests: tuple[trace.Step, ...] = ()
    if shop.options.explain:
        with suppress(FileNotFoundError):  # the disk was full
            requests = tuple(trace.read(container.directory / "trace.jsonl"))
    seconds = time.monotonic() - begin
    shop.tell(ContainerEnded(stage, container.id, code, seconds, requests))
    return code


def _namespaces(network: str, userns_remap: str) -> Namespaces:
    """As those of a container, also where daemon.json says that users are remapped."""
    spaces = Namespaces(network=network)
    if userns_remap:
        from minidock.containers import subordinate

        why = subordinate.why_not(spaces)
        if why:
            raise InvalidInput(f"RUN: {why}", hint="Choose another network, or none.")
        spaces.user = "private"
        spaces.user_ids, spaces.group_ids = subordinate.ranges(userns_remap)
    return spaces


def _wiring(network: str, extra_hosts: tuple[str, ...]) -> wiring.Wiring:
    """A cable into *network*, where that is one with cables."""
    attachments = [wiring.Attachment(network)] if wiring.is_network(network) else []
    return wiring.Wiring(attachments, extra_hosts=list(extra_hosts))


def changes_in(shop: Workshop, draft: Draft, tree: Path) -> tuple[Change, ...]:
    """What *tree* changes in *draft*; nothing when nobody wants to know."""
    if not shop.options.explain:
        return ()
    return tuple(overlay.diff(tree, shop.trees(draft)))
