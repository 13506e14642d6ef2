"""The checks of lab 08. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import copy
import os

from minidock.build import steps
from minidock.build.problems import CommandFailed
from minidock.lab.checks import World, expect, task
from minidock.lab.diary import Diary

# --- task 1 --------------------------------------------------------------------------------------

QUESTION = {"parent": "sha256:11", "instruction": "COPY app /app", "content": "sha256:22", "unseen": "mount"}


def _keys(world: World, *questions: dict):
    call = f"cache_key{tuple(questions[0].values())}"
    return world.tell(lambda: [steps.cache_key(**each) for each in questions], call=call).value, call


@task(1)
def test_the_same_question_has_the_same_key(world: World):
    keys, call = _keys(world, QUESTION, dict(QUESTION))
    first = keys[0]
    expect(
        keys[0] == keys[1]
        and isinstance(first, str)
        and len(first) == 64
        and not first.strip("0123456789abcdef"),
        call=f"{call}, twice",
        result=f"{keys[0]!r} and {keys[1]!r}",
        expected="twice the same 64 hexadecimal digits",
        next_step="hashlib.sha256(…).hexdigest(); nothing random, no time.",
    )


@task(1, needs=("test_the_same_question_has_the_same_key",))
def test_every_part_counts(world: World):
    others = [{**QUESTION, name: "another"} for name in QUESTION]
    keys, call = _keys(world, QUESTION, *others)
    ignored = [name for name, key in zip(QUESTION, keys[1:], strict=True) if key == keys[0]]
    expect(
        not ignored,
        call=f"{call}, then with another {ignored[0] if ignored else ''}",
        result="the same key",
        expected="another key",
        next_step=f"Put {' and '.join(ignored)} into what you hash. Else an old step is taken for a new one.",
    )


@task(1, needs=("test_every_part_counts",))
def test_parts_do_not_run_together(world: World):
    one = {"parent": "a", "instruction": "RUN x", "content": "y", "unseen": ""}
    other = {"parent": "a", "instruction": "RUN xy", "content": "", "unseen": ""}
    spaced = {"parent": "a", "instruction": "RUN", "content": "x y", "unseen": ""}
    moved = {"parent": "a", "instruction": "RUN x", "content": "y ", "unseen": ""}
    keys, _ = _keys(world, one, other, spaced, moved)
    expect(
        len(set(keys)) == 4,
        call='cache_key("a", "RUN x", "y", "") and cache_key("a", "RUN xy", "", "")',
        result="the same key",
        expected="two keys",
        next_step='Put something between the parts that is in none of them: "\\0".',
    )


# --- task 2 --------------------------------------------------------------------------------------

BEFORE = {
    "created": "2026-01-01T00:00:00Z",
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:base"]},
    "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "the base"}],
}
ENTRY = {"created": "2026-02-02T00:00:00Z", "created_by": "RUN make"}
SETTINGS = {"Env": ["PATH=/bin", "A=1"]}
CALL = "committed(config, settings, entry, {})"


def _committed(world: World, diff_id, call: str):
    """The new document, and the old one afterwards."""

    def story():
        config = copy.deepcopy(BEFORE)
        return [steps.committed(config, dict(SETTINGS), dict(ENTRY), diff_id), config]

    new, old = world.tell(story, call=call).value
    expect(
        isinstance(new, dict)
        and isinstance(new.get("history"), list)
        and "diff_ids" in new.get("rootfs", {}),
        call=call,
        result=repr(new),
        expected='a dictionary with "history" and ["rootfs"]["diff_ids"]',
        next_step="Begin with {**config, …}: it is config again, with some members replaced.",
    )
    return new, old


@task(2)
def test_the_history_grows(world: World):
    call = CALL.format('"sha256:new"')
    new, _ = _committed(world, "sha256:new", call)
    said = [line.get("created_by") for line in new["history"]]
    expect(
        said == ["the base", "RUN make"],
        call=call,
        result=f"the history says {said}",
        expected="['the base', 'RUN make']",
        next_step="The lines of the image before, and entry as the last one.",
    )


@task(2, needs=("test_the_history_grows",))
def test_a_layer_goes_on_top(world: World):
    call = CALL.format('"sha256:new"')
    new, _ = _committed(world, "sha256:new", call)
    found = new["rootfs"]["diff_ids"]
    expect(
        found == ["sha256:base", "sha256:new"] and "empty_layer" not in new["history"][-1],
        call=call,
        result=f"diff_ids {found}, last line of the history {new['history'][-1]}",
        expected="['sha256:base', 'sha256:new'], and a line without empty_layer",
        next_step="The lowest layer comes first, so the new one goes to the end.",
    )


@task(2, needs=("test_the_history_grows",))
def test_a_step_without_a_layer_says_so(world: World):
    call = CALL.format("None")
    new, _ = _committed(world, None, call)
    found, last = new["rootfs"]["diff_ids"], new["history"][-1]
    wanted = {**ENTRY, "empty_layer": True}
    expect(
        "sha256:base" in found and len(found) == 1 and last == wanted,
        call=call,
        result=f"diff_ids {found}, last line of the history {last}",
        expected=f"diff_ids ['sha256:base'], last line {wanted}",
        next_step='Readers match lines and layers by this mark: no layer, then "empty_layer": True.',
    )


@task(2, needs=("test_the_history_grows",))
def test_the_image_before_stays_as_it_is(world: World):
    call = CALL.format('"sha256:new"')
    _, old = _committed(world, "sha256:new", call)
    changed = [key for key in BEFORE if old.get(key) != BEFORE[key]]
    expect(
        not changed,
        call=f"{call}, then look at config",
        result=f"{', '.join(changed)} of the image before has changed",
        expected="config is what it was",
        next_step="append changes a list for all who hold it. Copy first: list(…).",
    )


@task(2, needs=("test_the_history_grows",))
def test_the_rest_is_kept(world: World):
    call = CALL.format('"sha256:new"')
    new, _ = _committed(world, "sha256:new", call)
    wanted = {"created": ENTRY["created"], "architecture": "amd64", "os": "linux", "config": SETTINGS}
    got = {key: new.get(key) for key in wanted}
    expect(
        got == wanted and new["rootfs"].get("type") == "layers",
        call=call,
        result=repr(got),
        expected=repr(wanted),
        next_step="created comes from entry, config is settings; all other members stay: {**config, …}.",
    )


# --- task 3 --------------------------------------------------------------------------------------


def _run(world: World, code: int, *changes: str, call: str = ""):
    """[what came back or how it failed, what was called in which order]."""
    call = call or f"run_and_commit(…), exit code {code}, {len(changes)} files changed"

    def story():
        upper, called = world.root / "tmp", []

        def run():
            called.append("run")
            for name in changes:
                (upper / name).write_text("")
            return code

        def commit(tree):
            called.append("commit")
            return f"the layer of {sorted(os.listdir(tree))}"

        try:
            return [steps.run_and_commit(["make", "all"], run, upper, commit), called]
        except CommandFailed as error:
            return [{"code": error.exit_code, "message": str(error)}, called]

    return *world.tell(story, call=call).value, call


@task(3)
def test_changes_become_a_layer(world: World):
    got, called, call = _run(world, 0, "a", "b")
    expect(
        got == "the layer of ['a', 'b']" and called == ["run", "commit"],
        call=call,
        result=f"{got!r}; called were {called}",
        expected="what commit(upper) returned; called were ['run', 'commit']",
        next_step="Run first, then commit the directory upper, then return the layer.",
    )


@task(3, needs=("test_changes_become_a_layer",))
def test_no_change_is_no_layer(world: World):
    got, called, call = _run(world, 0)
    expect(
        got is None and called == ["run"],
        call=call,
        result=f"{got!r}; called were {called}",
        expected="None; called was ['run'] only",
        next_step="`RUN true` makes no layer. Look into upper after run().",
    )


@task(3, needs=("test_changes_become_a_layer",))
def test_a_command_that_fails_ends_it(world: World):
    got, called, call = _run(world, 3, "half-done")
    expect(
        isinstance(got, dict) and called == ["run"],
        call=call,
        result=f"{got!r}; called were {called}",
        expected="CommandFailed; called was ['run'] only",
        next_step="Raise CommandFailed when run() returns anything but 0. Half-done work must not be kept.",
    )


@task(3, needs=("test_a_command_that_fails_ends_it",))
def test_the_exit_code_is_told(world: World):
    got, _, call = _run(world, 3, "half-done")
    expect(
        got["code"] == 3 and "make all" in got["message"],
        call=call,
        result=f"the error's exit code is {got['code']}, and it says {got['message']!r}",
        expected="exit code 3, and the words 'make all' in the message",
        next_step='CommandFailed(f"…", exit_code=code), with " ".join(command) in the text.',
    )


# --- task 4 --------------------------------------------------------------------------------------


def _loop(world: World, instructions: str, known: str = ""):
    """A build whose states are texts: each instruction adds its letter. [the end, all calls]."""
    call = f"build_loop('', {list(instructions)}, …), where the cache knows {list(known)}"

    def story():
        called = []

        def plan(state, instruction):
            called.append(f"plan {state}+{instruction}")
            return instruction.upper()

        def find(state, planned):
            called.append(f"find {state}+{planned}")
            return state + planned if planned in known.upper() else None

        def make(state, planned):
            called.append(f"make {state}+{planned}")
            return state + planned

        return [steps.build_loop("", list(instructions), plan, find, make), called]

    return *world.tell(story, call=call).value, call


@task(4)
def test_each_step_stands_on_the_one_before(world: World):
    got, called, call = _loop(world, "abc")
    made = [each for each in called if each.startswith(("plan", "make"))]
    wanted = ["plan +a", "make +A", "plan A+b", "make A+B", "plan AB+c", "make AB+C"]
    expect(
        got == "ABC" and made == wanted,
        call=call,
        result=f"{got!r}, by {', '.join(made)}",
        expected=f"'ABC', by {', '.join(wanted)}",
        next_step="What make returns is the state for the next instruction, for plan as well.",
    )


@task(4)
def test_nothing_to_do(world: World):
    got, _, call = _loop(world, "")
    expect(got == "", call=call, result=repr(got), expected="''", next_step="Return state as it came.")


@task(4, needs=("test_each_step_stands_on_the_one_before",))
def test_what_is_known_is_not_made(world: World):
    got, called, call = _loop(world, "abc", known="abc")
    made = [each for each in called if each.startswith("make")]
    expect(
        got == "ABC" and not made,
        call=call,
        result=f"{got!r}, and {', '.join(made) or 'nothing'} was made",
        expected="'ABC', and nothing was made",
        next_step="What find returns is the next state, when it is not None.",
    )


@task(4, needs=("test_what_is_known_is_not_made",))
def test_after_a_miss_nobody_asks(world: World):
    got, called, call = _loop(world, "abc", known="ac")
    asked = [each for each in called if each.startswith("find")]
    expect(
        got == "ABC" and asked == ["find +A", "find A+B"],
        call=call,
        result=f"asked: {', '.join(asked)}",
        expected="asked: find +A, find A+B",
        next_step="b was not known. What the cache knows of c was made on another b: do not ask.",
    )


# --- task 5 --------------------------------------------------------------------------------------

NAMES = ["cache_key", "committed", "run_and_commit", "build_loop"]
DOCKERFILE = """\
FROM busybox
RUN echo installed > /tool
COPY words.txt /
RUN cat /tool /words.txt > /all
RUN true
CMD ["cat", "/all"]
"""


@task(
    5,
    needs=(
        "test_parts_do_not_run_together",
        "test_a_layer_goes_on_top",
        "test_a_step_without_a_layer_says_so",
        "test_the_image_before_stays_as_it_is",
        "test_the_rest_is_kept",
        "test_no_change_is_no_layer",
        "test_the_exit_code_is_told",
        "test_nothing_to_do",
        "test_after_a_miss_nobody_asks",
    ),
)
def test_real_images_are_built_by_your_code(minidock, tmp_path):
    diary, context = Diary(minidock.layers / "steps.py", tmp_path, NAMES), tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)

    def build(words: str) -> int:
        """Build with *words* in the file that is copied; how many steps came from the cache."""
        (context / "words.txt").write_text(words)
        said = minidock("--layers", diary.layers, "build", "-t", "mine", context)
        return said.count("Using cache")

    hits = [build("one\n"), build("one\n"), build("two\n")]
    expect(
        hits == [0, 5, 1],
        call="minidock --layers … build, three times; before the third a copied file changes",
        result=f"steps from the cache: {hits}",
        expected="[0, 5, 1]: none, all, then only what stands before the COPY",
        next_step="Build by hand with --layers ~/mydock: each step says why the cache did not have it.",
    )
    said = minidock("run", "--rm", "mine")
    empty = minidock("history", "mine").count(" 0B ")
    expect(
        said == "installed\ntwo\n" and empty >= 2,
        call="minidock run mine, minidock history mine",
        result=f"{said!r}, and {empty} lines of the history with 0B",
        expected="'installed\\ntwo\\n', and 0B for RUN true and CMD",
        next_step="Compare with the same build without --layers.",
    )
    called = diary.called()
    expect(
        called == set(NAMES),
        call="minidock --layers … build",
        result=f"the engine called {', '.join(sorted(called))}",
        expected=f"all of {', '.join(NAMES)}",
        next_step="Do not import the library's functions under other names: write them.",
    )
