"""The checks of lab 04. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import json
import os
import shutil
import stat
from pathlib import Path

from minidock import trace
from minidock.kernel import overlay
from minidock.lab.checks import World, expect, task


def _plant(directory: Path, files: dict[str, str]) -> Path:
    """Make *files*: "path/" is a directory, "!" as text a whiteout, "path/*" makes the directory opaque."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif name.endswith("*"):
            os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
        elif text == "!":
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        else:
            path.write_text(text)
    return directory


def _stack(world: World, *layers: dict[str, str]) -> list[Path]:
    """One directory a layer, topmost first."""
    return [_plant(world.scratch / f"layer{number}", files) for number, files in enumerate(layers)]


def _stage(world: World) -> tuple[Path, Path, Path]:
    places = tuple(world.scratch / name for name in ("merged", "upper", "work"))
    for place in places:
        place.mkdir()
    return places


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_layers_are_seen_as_one(world: World):
    def story():
        lower = _stack(world, {"top": ""}, {"bottom": ""})
        merged, upper, work = _stage(world)
        overlay.mount_overlay(lower, merged, upper, work)
        return sorted(os.listdir(merged))

    told = world.tell(story, call="mount_overlay([one, two], merged, upper, work)")
    expect(
        told.value == ["bottom", "top"],
        call="mount_overlay([one, two], merged, upper, work), then list merged",
        result=", ".join(told.value) or "nothing",
        expected="bottom, top: one file from each layer",
        next_step='Mount the type "overlay"; the options begin with lowerdir=ONE:TWO.',
    )


@task(1, needs=("test_layers_are_seen_as_one",))
def test_the_first_layer_is_the_topmost(world: World):
    def story():
        lower = _stack(world, {"file": "of the first"}, {"file": "of the second"})
        merged, upper, work = _stage(world)
        overlay.mount_overlay(lower, merged, upper, work)
        return (merged / "file").read_text()

    told = world.tell(story, call="mount_overlay([one, two], merged, upper, work)")
    expect(
        told.value == "of the first",
        call="both layers have `file`: mount_overlay([one, two], …), then read it",
        result=f"the text {told.value}",
        expected="the text of the first: it is the topmost",
        next_step="lowerdir lists the topmost first, as the argument does. Keep the order.",
    )


@task(1, needs=("test_layers_are_seen_as_one",))
def test_changes_go_to_the_upper_directory(world: World):
    def story():
        lower = _stack(world, {"file": "old"}, {})
        merged, upper, work = _stage(world)
        overlay.mount_overlay(lower, merged, upper, work)
        (merged / "file").write_text("new")
        return [(lower[0] / "file").read_text(), sorted(os.listdir(upper))]

    told = world.tell(
        story,
        call="mount_overlay([one, two], merged, upper, work), then write into merged",
        next_step="With an upper directory the options need upperdir= and workdir=.",
    )
    expect(
        told.value == ["old", ["file"]],
        call="mount_overlay([one, two], merged, upper, work), then write into merged/file",
        result=f"the layer says {told.value[0]!r}, upper holds {told.value[1]}",
        expected="the layer says 'old', upper holds ['file']",
        next_step="Give the kernel upperdir= and workdir= when upper is not None.",
    )


@task(1, needs=("test_changes_go_to_the_upper_directory",))
def test_the_upper_directory_keeps_whole_files(world: World):
    def story():
        lower = _stack(world, {}, {})
        merged, upper, work = _stage(world)
        with trace.recording(trace.Recorder()) as recorder:
            overlay.mount_overlay(lower, merged, upper, work)
        return ",".join(str(step.arguments.get("data", "")) for step in recorder.steps)

    told = world.tell(story, call="mount_overlay([one, two], merged, upper, work)")
    expect(
        {"redirect_dir=off", "metacopy=off"} <= set(told.value.split(",")),
        call="mount_overlay([one, two], merged, upper, work)",
        result=f"mounted with the options {told.value}",
        expected="redirect_dir=off and metacopy=off among them",
        next_step="Both would leave half a file in upper. Mount through `syscalls`, with both switched off.",
    )


@task(1, needs=("test_layers_are_seen_as_one",))
def test_a_single_layer_is_shown_read_only(world: World):
    def story():
        (lower,) = _stack(world, {"file": "old"})
        merged, _, _ = _stage(world)
        overlay.mount_overlay([lower], merged)
        try:
            (merged / "file").write_text("new")
            return "writing works"
        except OSError as error:
            return error.strerror

    told = world.tell(
        story,
        call="mount_overlay([one], merged)",
        next_step="Bind the layer to the target instead (MS_BIND).",
    )
    expect(
        told.value == "Read-only file system",
        call="mount_overlay([one], merged), then write into it",
        result=told.value,
        expected="Read-only file system",
        next_step="A bind mount becomes read-only by a remount: MS_BIND | MS_REMOUNT | MS_RDONLY.",
    )


@task(1, needs=("test_layers_are_seen_as_one",))
def test_sixty_layers_with_long_names_fit(world: World):
    def story():
        lower = [_plant(world.scratch / f"{number:064}", {str(number): ""}) for number in range(60)]
        merged, upper, work = _stage(world)
        overlay.mount_overlay(lower, merged, upper, work)
        return len(os.listdir(merged))

    told = world.listen(story)
    expect(
        told.value == 60,
        call="mount_overlay with 60 layers, whose names have 64 letters",
        result=told.error or told.ended or f"{told.value} of them show",
        expected="all 60: mount(2) takes one page of options, 4096 bytes, so the names must become short",
        next_step="Open each directory (os.O_PATH): /proc/self/fd/NUMBER is a short name for it.",
    )


# --- task 2 --------------------------------------------------------------------------------------


@task(2)
def test_a_whiteout_is_known(world: World):
    def story():
        (layer,) = _stack(world, {"gone": "!"})
        return overlay.is_whiteout(layer / "gone")

    told = world.tell(story, call="is_whiteout(a character device 0/0)")
    expect(
        told.value is True,
        call="is_whiteout(a character device with number 0/0)",
        result=told.value,
        expected="True",
        next_step="os.lstat gives st_mode and st_rdev; stat.S_ISCHR knows a character device.",
    )


@task(2, needs=("test_a_whiteout_is_known",))
def test_other_things_are_no_whiteouts(world: World):
    def story():
        (layer,) = _stack(world, {"file": "", "directory/": "", "gone": "!"})
        (layer / "link").symlink_to("gone")
        os.mknod(layer / "null", stat.S_IFCHR, os.makedev(1, 3))
        names = ("file", "directory", "link", "null", "missing")
        return [name for name in names if overlay.is_whiteout(layer / name)]

    told = world.tell(story, call="is_whiteout(…) of other things")
    expect(
        told.value == [],
        call="is_whiteout of a file, a directory, a link to a whiteout, the device null (1/3), nothing",
        result=f"True for: {', '.join(told.value)}",
        expected="False for each",
        next_step="Look at the kind *and* the number, follow no link, and catch FileNotFoundError.",
    )


@task(2)
def test_an_opaque_directory_is_known(world: World):
    def story():
        (layer,) = _stack(world, {"opaque/*": "", "plain/": "", "other/": ""})
        os.setxattr(layer / "other", "trusted.overlay.opaque", b"x")
        return [name for name in ("opaque", "plain", "other") if overlay.is_opaque(layer / name)]

    told = world.tell(story, call="is_opaque(…)", next_step="A directory without the attribute: OSError.")
    expect(
        told.value == ["opaque"],
        call='is_opaque of three directories: OPAQUE is b"y" on one, missing on one, b"x" on one',
        result=f"True for: {', '.join(told.value) or 'none'}",
        expected='True for the one with b"y"',
        next_step='os.getxattr(directory, OPAQUE) gives the value. Compare it with b"y".',
    )


# --- task 3 --------------------------------------------------------------------------------------

MARKS = (
    "test_a_whiteout_is_known",
    "test_other_things_are_no_whiteouts",
    "test_an_opaque_directory_is_known",
)


def _look(world: World, layers: list[dict[str, str]], name: str = "x"):
    """What lookup says, as [text of the file or kind, number of the layer, numbers of the directories]."""

    def story():
        stack = _stack(world, *layers)
        status, layer, directories = overlay.lookup(stack, name)
        shown = None if status is None else "directory" if stat.S_ISDIR(status.st_mode) else "file"
        numbers = [stack.index(Path(each).parent) for each in directories]
        return [shown, None if layer is None else stack.index(layer), numbers]

    return world.tell(story, call=f"lookup(layers, {name!r})").value


def _expect_lookup(value, wanted, *, told: str, expected: str, next_step: str):
    shown, layer, directories = value
    expect(
        value == wanted,
        call=f"lookup(layers, 'x'), where {told}",
        result=f"shows {shown or 'nothing'}, of layer {layer}, merging those of layers {directories}",
        expected=expected,
        next_step=next_step,
    )


@task(3, needs=MARKS)
def test_the_topmost_file_shows(world: World):
    _expect_lookup(
        _look(world, [{}, {"x": "one"}, {"x": "two"}]),
        ["file", 1, []],
        told="layers 1 and 2 have a file x",
        expected="a file, of layer 1; no directories",
        next_step="Go through the layers from the top, and stop at the first that has a file there.",
    )


@task(3, needs=("test_the_topmost_file_shows",))
def test_a_whiteout_hides_what_lies_below(world: World):
    _expect_lookup(
        _look(world, [{}, {"x": "!"}, {"x": "two"}]),
        [None, None, []],
        told="layer 1 has a whiteout and layer 2 a file x",
        expected="nothing",
        next_step="Where is_whiteout says True the search ends: nothing below shows.",
    )


@task(3, needs=("test_the_topmost_file_shows",))
def test_directories_are_merged(world: World):
    _expect_lookup(
        _look(world, [{"x/": ""}, {}, {"x/": ""}]),
        ["directory", 0, [0, 2]],
        told="layers 0 and 2 have a directory x",
        expected="a directory, of layer 0, merging those of layers 0 and 2",
        next_step="A directory does not end the search: those below are merged with it.",
    )


@task(3, needs=("test_directories_are_merged",))
def test_a_file_below_a_directory_is_hidden(world: World):
    _expect_lookup(
        _look(world, [{"x/": ""}, {"x": "a file"}, {"x/": ""}]),
        ["directory", 0, [0]],
        told="layer 0 has a directory x, layer 1 a file, layer 2 a directory",
        expected="a directory, of layer 0, merging only its own",
        next_step="What is no directory ends the search, also below a directory.",
    )


@task(3, needs=("test_directories_are_merged",))
def test_an_opaque_directory_hides_those_below(world: World):
    _expect_lookup(
        _look(world, [{"x/": ""}, {"x/*": ""}, {"x/": ""}]),
        ["directory", 0, [0, 1]],
        told="all have a directory x, that of layer 1 is opaque",
        expected="a directory, of layer 0, merging those of layers 0 and 1",
        next_step="An opaque directory is the last that is merged.",
    )


# --- task 4 --------------------------------------------------------------------------------------

LOOKUP = (
    "test_a_whiteout_hides_what_lies_below",
    "test_a_file_below_a_directory_is_hidden",
    "test_an_opaque_directory_hides_those_below",
)
BELOW = {"etc/passwd": "root", "etc/group": "root", "opt/a": "", "opt/b": "", "srv/": ""}


def _diff(world: World, upper: dict[str, str], *, aged: tuple[str, ...] = ()) -> list[str]:
    """The changes as lines. Directories in *aged* look as they do below: only what is in them differs."""

    def story():
        below, above = _plant(world.scratch / "lower", BELOW), _plant(world.scratch / "upper", upper)
        for name in aged:
            shutil.copystat(below / name, above / name)
        changes = overlay.diff(above, [below])
        return [str(overlay.Change(*change)) for change in changes]

    return world.tell(story, call="diff(upper, [lower])").value


def _expect_lines(lines, wanted, *, told: str, next_step: str):
    expect(
        lines == wanted,
        call=f"diff(upper, [lower]), where {told}",
        result=", ".join(lines) or "no change",
        expected=", ".join(wanted) or "no change",
        next_step=next_step,
    )


@task(4, needs=LOOKUP)
def test_new_files_are_added(world: World):
    _expect_lines(
        _diff(world, {"new": "", "tmp/deep/file": ""}),
        ["A /new", "A /tmp", "A /tmp/deep", "A /tmp/deep/file"],
        told="upper has /new and /tmp/deep/file, and lower neither",
        next_step="Go through upper, directories too. What lookup does not find below was added.",
    )


@task(4, needs=("test_new_files_are_added",))
def test_a_changed_file_changes_its_directory(world: World):
    _expect_lines(
        _diff(world, {"etc/passwd": "new"}, aged=("etc",)),
        ["C /etc", "C /etc/passwd"],
        told="upper has another /etc/passwd; its /etc has the mode, owner and time of the one below",
        next_step="Every directory above a change counts as changed.",
    )


@task(4, needs=("test_new_files_are_added",))
def test_a_whiteout_deletes(world: World):
    _expect_lines(
        _diff(world, {"srv": "!", "never-was": "!"}),
        ["D /srv"],
        told="upper has whiteouts for /srv, which exists below, and for /never-was, which does not",
        next_step="A whiteout means D when lookup finds something below, and nothing otherwise.",
    )


@task(4, needs=("test_a_changed_file_changes_its_directory",))
def test_a_directory_with_nothing_new_is_no_change(world: World):
    _expect_lines(
        _diff(world, {"srv/": ""}, aged=("srv",)),
        [],
        told="upper has a directory /srv with nothing in it and the mode, owner and time of the one below",
        next_step="A directory counts when its mode, owner, group or time differ, or what is in it.",
    )


@task(4, needs=("test_a_whiteout_deletes", "test_a_changed_file_changes_its_directory"))
def test_an_opaque_directory_deletes_what_it_hides(world: World):
    _expect_lines(
        _diff(world, {"opt/*": "", "opt/a": "again"}, aged=("opt",)),
        ["C /opt", "C /opt/a", "D /opt/b"],
        told="upper has an opaque /opt with a file a; below /opt has a and b",
        next_step="When is_opaque(directory): each name below that the directory itself lacks was deleted.",
    )


# --- task 5 --------------------------------------------------------------------------------------

ALL = (
    "test_the_first_layer_is_the_topmost",
    "test_the_upper_directory_keeps_whole_files",
    "test_a_single_layer_is_shown_read_only",
    "test_sixty_layers_with_long_names_fit",
    "test_a_directory_with_nothing_new_is_no_change",
    "test_an_opaque_directory_deletes_what_it_hides",
)


@task(5, needs=ALL)
def test_you_agree_with_the_kernel(world: World):
    layers = [
        {"a": "0", "d/new": "", "d/gone": "!", "w": "!", "o/*": "", "o/mine": "", "f/inside": ""},
        {"a": "1", "b": "!", "w": "1", "d/gone": "1", "o/theirs": "", "f": "a file", "deep/er/y": ""},
        {"b": "2", "c": "2", "d/old": "", "o/oldest": "", "f/below": "", "deep/er/z": "", "deep/*": ""},
    ]

    def story():
        stack = _stack(world, *layers)
        merged, upper, work = _stage(world)
        overlay.mount_overlay(stack, merged, upper, work)

        def walk(below, at):
            found = {}
            for name in {name for each in below for name in os.listdir(each)}:
                status, layer, directories = overlay.lookup(below, name)
                if status is not None:
                    plain = stat.S_ISREG(status.st_mode)
                    found[f"{at}{name}"] = (layer / name).read_text() if plain else "directory"
                    found.update(walk(directories, f"{at}{name}/"))
            return found

        yours = walk(stack, "")
        kernels = {
            str(path.relative_to(merged)): path.read_text() if path.is_file() else "directory"
            for path in merged.rglob("*")
        }
        return sorted(set(yours.items()) ^ set(kernels.items()))

    told = world.tell(story, call="lookup(…), name by name, beside the kernel's own view")
    expect(
        told.value == [],
        call="lookup(…) for every name of three layers, beside the kernel's own view of them",
        result=f"they differ at {told.value[:3]}",
        expected="the same files and directories",
        next_step="Build the case by hand with `mount -t overlay`, and look what the kernel shows.",
    )


@task(5, needs=("test_you_agree_with_the_kernel",))
def test_a_real_image_runs_on_your_layer(minidock):
    program = "rm /etc/group; echo hello > /etc/new; cat /etc/new"
    said = minidock("--layers", minidock.layers, "run", "--name", "yours", "busybox", "sh", "-c", program)
    lines = minidock("--layers", minidock.layers, "diff", "yours").splitlines()
    (record,) = (minidock.root / "containers").glob("*/trace.jsonl")
    sources = {json.loads(line)["source"] for line in record.read_text().splitlines()}
    minidock("rm", "yours")
    expect(
        said == "hello\n" and lines == ["C /etc", "D /etc/group", "A /etc/new"],
        call="minidock --layers … run busybox (it deletes /etc/group and writes /etc/new), then diff",
        result=f"{said!r}, and the lines {lines}",
        expected="'hello\\n', and C /etc, D /etc/group, A /etc/new",
        next_step="Try it by hand: minidock --layers ~/mydock run … and minidock --layers ~/mydock diff …",
    )
    expect(
        str(minidock.layers / "overlay.py") in sources,
        call="minidock --layers … run busybox",
        result=f"its record names {sources}",
        expected=f"steps taken by {minidock.layers / 'overlay.py'}",
        next_step="Use `syscalls` for every step: only then the record names your file.",
    )
