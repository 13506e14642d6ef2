"""What a build tells while it works: small values, for whoever shows them.

The command prints them as lines, a notebook draws them, the Engine API will send them as JSON. *stage* is
the stage's name, or its number as text: stages may be built side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minidock.images.image import Layer
from minidock.kernel.overlay import Change
from minidock.trace import Step as Request


@dataclass(frozen=True, slots=True)
class StepBegun:
    """An instruction's turn has come. *number* of *total* counts over all stages; 0 is an ONBUILD trigger."""

    stage: str
    number: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class CacheHit:
    """The instruction was carried out before: its result is taken from the cache."""

    stage: str


@dataclass(frozen=True, slots=True)
class CacheMiss:
    """It has to be carried out, because of *reason*."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class ContainerMade:
    """A container runs the instruction. *arguments* are the words that it executes."""

    stage: str
    container: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What the container wrote. *stream* is 1 for standard output, 2 for standard error."""

    stage: str
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ContainerEnded:
    """Its command is done. *requests* are the steps that made the container, where `explain` is wanted."""

    stage: str
    container: str
    exit_code: int
    seconds: float
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class LayerMade:
    """The changes became a layer; *files* are the bytes of its files, *changes* what is in it."""

    stage: str
    layer: Layer
    files: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class StepDone:
    """*id* is the id that the image would have now; *layer* None when only its config changed."""

    stage: str
    number: int
    id: str
    layer: Layer | None
    cached: bool


@dataclass(frozen=True, slots=True)
class StageDone:
    """All steps of a stage are done; *id* as in StepDone."""

    stage: str
    id: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know: a warning, or what is done beside the steps."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class ImageWritten:
    """The image is in the store; *names* as people write them."""

    id: str
    names: tuple[str, ...]


Event = (
    StepBegun
    | CacheHit
    | CacheMiss
    | ContainerMade
    | Output
    | ContainerEnded
    | LayerMade
    | StepDone
    | StageDone
    | Note
    | ImageWritten
)
OnEvent = Callable[[Event], object]
