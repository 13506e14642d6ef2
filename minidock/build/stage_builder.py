"""One stage, instruction by instruction: each takes the draft that the one before left, and makes the next.

For every instruction the same five moves:

1. Its variables are put in.
2. What it is, in the words of `history`, and a digest of the files that it reads: that is the question
   to the cache.
3. A hit: the step found there is taken, and nothing is done.
4. A miss: RUN starts a container, COPY, ADD and WORKDIR write files; what changed becomes a layer. The
   other instructions change only the config.
5. The step becomes one more line of the history: that is the next draft.

Source: Dockerfile reference; for the words, and for what makes a hit, Docker's classic builder.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from minidock.build import copy, instructions, run_mounts, run_step, settings, steps
from minidock.build.cache import Question
from minidock.build.context import Context
from minidock.build.draft import DEFAULT_PATH, Draft, Step
from minidock.build.events import CacheHit, CacheMiss, LayerMade, Note, StageDone, StepBegun, StepDone
from minidock.build.instructions import (
    Arg,
    Cmd,
    Copy,
    Instruction,
    Maintainer,
    Run,
    Workdir,
)
from minidock.build.layout import ROOT, Item
from minidock.build.parser import Node
from minidock.build.scope import Variables
from minidock.build.stages import Stage
from minidock.build.view import View
from minidock.build.workshop import Stopped, Workshop
from minidock.errors import InvalidInput
from minidock.images.image import Image, Layer
from minidock.kernel import overlay

_DEPRECATED = (
    "MAINTAINER is deprecated: LABEL org.opencontainers.image.authors=… says it, and can be asked for."
)
Make = Callable[[], Layer | None]
_AFTER_A_MISS = "the step before was not in the cache"


@dataclass(frozen=True, slots=True)
class Planned:
    """What one instruction means where it stands: the question to the cache, and what follows a no.

    *settings* are those after it, *make* writes the files that it changes, if it may.
    """

    number: int
    node: Node
    question: Question
    settings: settings.Settings
    make: Make | None = None
    author: str = ""


@dataclass(slots=True)
class StageBuilder:
    """Builds one stage. *done* are the drafts of the stages before, by their numbers.

    *draft* is what has been reached: after a failure, the last good one.
    """

    shop: Workshop
    stage: Stage
    variables: Variables
    escape: str
    done: Mapping[int, Draft]
    first: int  # the number of its first step
    total: int
    draft: Draft = field(default_factory=Draft.scratch)
    _reason: str = ""  # why the cache did not have the step
    _cmd_given: bool = False

    def build(self, more: list[Instruction]) -> Draft:
        """Carry out FROM, the triggers of the base, the stage's own instructions, and *more*."""
        self._begin()
        if self.stage.triggers:
            count = len(self.stage.triggers)
            self.shop.tell(Note(f"# Executing {count} build trigger{'s' if count > 1 else ''}"))
        work = [(trigger, 0) for trigger in self.stage.triggers]
        work += [(each, number) for number, each in enumerate([*self.stage.steps, *more], self.first + 1)]
        self.draft = steps.build_loop(self.draft, work, self._plan, self._find, self._make)
        self.shop.tell(StageDone(self.stage.name, self.draft.id))
        return self.draft

    def _begin(self) -> None:
        """FROM: the draft is the image that it names."""
        begin, base = self.stage.begin, self.stage.base
        self._announce(self.first, begin.node.original)
        if isinstance(base, Stage):
            self.draft = self.done[base.number]
        elif isinstance(base, Image):
            self.draft = Draft.of(base)
            self.shop.hold(self.draft)
        else:
            self.draft = Draft.scratch(begin.platform or self.shop.options.platform or None)
        adjusted = {key: value for key, value in self.draft.settings.items() if key != "OnBuild"}
        environment = adjusted.get("Env") or []
        if not any(entry.startswith("PATH=") for entry in environment):
            adjusted["Env"] = [*environment, DEFAULT_PATH]
        if adjusted != self.draft.settings:
            self.draft = self.draft.with_settings(adjusted)
        self.shop.tell(StepDone(self.stage.name, self.first, self.draft.id, None, False))

    def _announce(self, number: int, text: str) -> None:
        if self.shop.stopped:
            raise Stopped("the build was stopped")
        self.shop.tell(StepBegun(self.stage.name, number, self.total, text))

    # --- one step --------------------------------------------------------------------------------

    def _plan(self, draft: Draft, turn: tuple[Instruction, int]) -> Planned:
        """What the instruction whose turn has come means on *draft*."""
        self.draft = draft
        written, number = turn
        self._announce(number, written.node.original)
        try:
            known = self.variables.known(draft.settings.get("Env") or [])
            instruction = instructions.expanded(written, known, self.escape)
            planned = self._meaning(instruction)
        except InvalidInput as error:
            raise written.node.placed(error) from None
        return replace(planned, number=number, node=written.node)

    def _meaning(self, instruction: Instruction) -> Planned:
        author = ""
        match instruction:
            case Run():
                return self._run(instruction)
            case Copy():
                return self._copy(instruction)
            case Workdir():
                return self._workdir(instruction)
            case Arg():
                self.variables.declare(instruction)
            case Maintainer(name=author):
                self.shop.tell_once(Note(_DEPRECATED, warning=True))
        before = self.draft.settings
        after = settings.changed(before, instruction, cmd_given=self._cmd_given)
        self._cmd_given = self._cmd_given or isinstance(instruction, Cmd)
        question = Question(settings.described(instruction, before))
        return Planned(0, instruction.node, question, after, author=author)

    def _find(self, draft: Draft, planned: Planned) -> Draft | None:
        """The next draft, if the cache knows the step."""
        step, self._reason = self.shop.find(draft, planned.question)
        if step is None:
            return None
        self.shop.tell(CacheHit(self.stage.name))
        return self._done(draft, planned, step, cached=True)

    def _make(self, draft: Draft, planned: Planned) -> Draft:
        """The next draft, made here and now, and remembered."""
        shop = self.shop
        shop.tell(CacheMiss(self.stage.name, self._reason))
        if shop.options.use_cache:
            self._reason = _AFTER_A_MISS  # nobody asks again
        try:
            layer = planned.make() if planned.make else None
        except InvalidInput as error:
            raise planned.node.placed(error) from None
        step = Step(shop.now(), planned.question.created_by, layer)
        shop.remember(draft, planned.question, step)
        return self._done(draft, planned, step, cached=False)

    def _done(self, draft: Draft, planned: Planned, step: Step, *, cached: bool) -> Draft:
        after = draft.after(step, planned.settings, planned.author)
        if len(after.layers) > overlay.MOST_LAYERS:
            raise planned.node.problem(
                f"max depth exceeded: an image has at most {overlay.MOST_LAYERS} layers",
                hint="Join instructions (RUN a && b), or copy what is needed into a new stage.",
            )
        self.shop.tell(StepDone(self.stage.name, planned.number, after.id, step.layer, cached))
        return after

    # --- those that change files -----------------------------------------------------------------

    def _run(self, instruction: Run) -> Planned:
        if instruction.security == "insecure":
            raise InvalidInput(
                "RUN --security=insecure is not allowed: no build gives its containers the host",
                hint="What needs it can be done in a container (minidock run --privileged) and committed.",
            )
        before = self.draft.settings
        shown, environment = self.variables.for_run(before.get("Env") or [])
        wanted = run_step.command(instruction, settings.shell(before))
        planned = run_mounts.plan(instruction, self._files_of, wanted.script)
        # What of the command's surroundings shows in its text: ARGs in front, as Docker puts them.
        text = " ".join([*([f"|{len(shown)}", *shown] if shown else []), *wanted.words])
        extra = [each.text for each in instruction.mounts] + [wanted.script]
        question = Question(text, planned.content, planned.files, " ".join(filter(None, extra)))

        def make() -> Layer | None:
            everything = [*(before.get("Env") or []), *environment]
            return run_step.run(
                self.shop, self.stage.name, self.draft, instruction, wanted, everything, planned
            )

        return Planned(0, instruction.node, question, before, make)

    def _copy(self, instruction: Copy) -> Planned:
        before = self.draft.settings
        below = self.shop.view(self.draft)
        source = self._files_of(instruction.from_stage)
        plan = copy.plan(instruction, source, before.get("WorkingDir") or "/", below)
        chown = f"--chown={instruction.chown} " if instruction.chown else ""
        keyword = instruction.node.keyword.upper()
        text = " ".join([*settings.shell(before), f"#(nop) {keyword} {chown}{plan.described} "])
        question = Question(text, plan.digest, plan.files)

        def make() -> Layer | None:
            return self._written(lambda tree: plan.write(tree, self.shop.options.newest))

        return Planned(0, instruction.node, question, before, make)

    def _workdir(self, instruction: Workdir) -> Planned:
        """The directory is made here and now, not by the first container that wants to start in it."""
        before = self.draft.settings
        after = settings.changed(before, instruction)
        path = after["WorkingDir"]
        text = " ".join([*settings.shell(before), f"#(nop) WORKDIR {path}"])
        below = self.shop.view(self.draft)

        def make() -> Layer | None:
            name = below.resolve(path)
            if (there := below.find(name)) is not None:
                if not there.is_directory:
                    raise InvalidInput(f"WORKDIR {path}: the image has a file of this name")
                return None
            from minidock.build import place  # not for what the cache has

            return self._written(
                lambda tree: place.write(_directories(name), tree, below, self.shop.options.newest)
            )

        return Planned(0, instruction.node, Question(text), after, make)

    def _written(self, write: Callable[[Path], None]) -> Layer | None:
        """The layer of what *write* puts into an empty directory."""
        with self.shop.new.tree() as tree:
            write(tree.path)
            changes = run_step.changes_in(self.shop, self.draft, tree.path)
            layer, size = self.shop.take(tree.path)
        if layer is not None:
            self.shop.tell(LayerMade(self.stage.name, layer, size, changes))
        return layer

    def _files_of(self, name: str) -> View | Context:
        """The context, or the files of the stage or image *name*."""
        if not name:
            return self.shop.context
        source = (self.stage.sources or {})[name]
        if isinstance(source, Image):
            return self.shop.view_of(source)
        return self.shop.view(self.done[source.number])


def _directories(name: str) -> list[Item]:
    """``a/b`` → the directories to make, root's and with mode 0755; those that are there stay as they are."""
    parts = name.split("/")
    ways = ["/".join(parts[:count]) for count in range(len(parts) + 1)]
    return [Item(way, None, stat.S_IFDIR | 0o755, ROOT) for way in ways]
