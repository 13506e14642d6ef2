"""The stages of a Dockerfile as a graph: what each is made from, and which must be there before it.

A stage begins with FROM. It needs the stage that its FROM names, and those that its ``COPY --from`` and
``RUN --mount=from=`` take files from. From the target backwards this tells which stages are needed at
all; the others are never built. Two stages that do not need each other can be built at the same time.

ONBUILD triggers of the base image are instructions of the stage, before its own: they may need stages, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minidock.build import instructions, parser
from minidock.build.instructions import Arg, Copy, From, Instruction, Label, Onbuild, Run
from minidock.build.parser import Dockerfile, Node
from minidock.build.problems import SyntaxProblem, meant
from minidock.build.scope import Variables
from minidock.errors import InvalidInput
from minidock.images.image import Image

SCRATCH = "scratch"
# How an image is found: its name, the platform that FROM asks for, and the text where it stands.
FindImage = Callable[[str, str], Image]


@dataclass(slots=True)
class Stage:
    """One stage. *base* is another stage, an image, or None for ``scratch``.

    *steps* are its instructions after FROM, not yet expanded; *triggers* those of its base's ONBUILD, which
    come first. *sources* is what --from names: a stage or an image.
    """

    number: int  # from 0, as they stand in the Dockerfile
    begin: From
    steps: list[Instruction]
    base: Stage | Image | None = None
    triggers: tuple[Instruction, ...] = ()
    sources: dict[str, Stage | Image] | None = None  # None: not yet looked at

    @property
    def name(self) -> str:
        return self.begin.name or str(self.number)

    @property
    def needs(self) -> list[Stage]:
        """The stages that must be complete before this one begins."""
        found = [self.base, *(self.sources or {}).values()]
        return [each for each in found if isinstance(each, Stage)]


def read(dockerfile: Dockerfile, outside: Variables) -> list[Stage]:
    """All stages of the file. *outside* learns the ARGs before the first FROM, which FROM lines may use.

    Every instruction is read, so that a mistake in the last line is found before the first is built.
    Raises SyntaxProblem.
    """
    stages: list[Stage] = []
    for node in dockerfile.nodes:
        instruction = instructions.read(node)
        if isinstance(instruction, From):
            begin = instructions.expanded(instruction, outside.known(), dockerfile.escape)
            assert isinstance(begin, From)
            stages.append(Stage(len(stages), begin, []))
        elif stages:
            stages[-1].steps.append(instruction)
        elif isinstance(instruction, Arg):
            known = instructions.expanded(instruction, outside.known(), dockerfile.escape)
            assert isinstance(known, Arg)
            outside.declare(known)
        else:
            raise node.problem("no build stage in current context", hint="A Dockerfile begins with FROM.")
    if not stages:
        raise SyntaxProblem(f"{dockerfile.name}: no build stage", hint="Where is the line with FROM?")
    return stages


def target(stages: list[Stage], text: str) -> Stage:
    """The stage that --target names, by name or number; without it the last. Raises InvalidInput."""
    if not text:
        return stages[-1]
    for stage in reversed(stages):
        if stage.begin.name == text.lower():
            return stage
    if text.isdecimal() and int(text) < len(stages):
        return stages[int(text)]
    names = [stage.begin.name for stage in stages if stage.begin.name]
    known = f"Stages: {', '.join(names)}." if names else "No stage has a name: FROM image AS name gives one."
    raise InvalidInput(f"failed to reach build target {text} in Dockerfile{meant(text, names)}", hint=known)


def connect(stages: list[Stage], wanted: Stage, find_image: FindImage) -> list[Stage]:
    """Find out what *wanted* needs, and what those need; returns the needed stages, needs first.

    The images are looked up, and pulled, on the way: only those of stages that are needed. Raises
    InvalidInput when stages need each other in a circle, and whatever *find_image* does.
    """
    order: list[Stage] = []
    way: list[Stage] = []

    def visit(stage: Stage) -> None:
        if stage in order:
            return
        if stage in way:
            circle = " → ".join(each.name for each in [*way[way.index(stage) :], stage])
            raise stage.begin.node.problem(
                f"circular dependency detected on stage: {stage.name}",
                hint=f"Each of these needs the next one: {circle}.",
            )
        way.append(stage)
        _look_at(stage, stages, find_image)
        for each in stage.needs:
            visit(each)
        way.pop()
        order.append(stage)

    visit(wanted)
    return order


def _look_at(stage: Stage, stages: list[Stage], find_image: FindImage) -> None:
    """Find the base of *stage*, its triggers, and what its instructions take files from."""
    begin = stage.begin
    before = [each for each in stages[: stage.number] if each.begin.name == begin.image.lower()]
    triggers: list[str] = []
    if before:
        stage.base = before[-1]
        triggers = [each.text for each in before[-1].steps if isinstance(each, Onbuild)]
    elif begin.image != SCRATCH:
        stage.base = find_image(begin.image, begin.platform)
        triggers = stage.base.settings.get("OnBuild") or []
    stage.triggers = tuple(instructions.read(parser.parse_line(text)) for text in triggers)
    stage.sources = {}
    for instruction in (*stage.triggers, *stage.steps):
        for name in _named(instruction):
            if name not in stage.sources:
                stage.sources[name] = _source(name, instruction.node, stage, stages, find_image)


def _named(instruction: Instruction) -> list[str]:
    """What an instruction takes files from, beside the context."""
    if isinstance(instruction, Copy):
        return [instruction.from_stage] if instruction.from_stage else []
    if isinstance(instruction, Run):
        return [each.from_stage for each in instruction.mounts if each.from_stage]
    return []


def _source(name: str, node: Node, stage: Stage, stages: list[Stage], find_image: FindImage) -> Stage | Image:
    # The nearest one above counts; one below may be meant, too, as long as it does not need this one.
    named = [each for each in stages if each.begin.name == name.lower()]
    above = [each for each in named if each.number < stage.number]
    if named:
        return above[-1] if above else named[0]
    if name.isdecimal():
        if int(name) >= stage.number:
            raise node.problem(
                f"invalid from flag value {name}: invalid stage index {name}",
                hint=f"The stages above are 0 to {stage.number - 1}." if stage.number else "It is the first.",
            )
        return stages[int(name)]
    try:
        return find_image(name, "")
    except InvalidInput as error:
        raise node.placed(InvalidInput(f"invalid from flag value {name}: {error.message}")) from None


def total(stages: list[Stage], labels: int) -> int:
    """How many steps these stages have; *labels* of --label are one more."""
    return sum(1 + len(stage.steps) for stage in stages) + bool(labels)


def label_step(labels: dict[str, str]) -> Label:
    """The LABEL instruction that --label adds at the end."""
    import json

    words = " ".join(f"{json.dumps(name)}={json.dumps(value)}" for name, value in labels.items())
    return Label(parser.parse_line(f"LABEL {words}"), tuple(labels.items()))
