"""overlay: the union mount, its whiteouts, and what changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock import trace
from minidock.errors import InvalidInput, KernelError
from minidock.kernel import overlay
from minidock.kernel.mounts import mountinfo

pytestmark = pytest.mark.vm

InChild = Callable[..., Any]


@pytest.fixture
def layers(overlay_dir: Path) -> Callable[..., list[Path]]:
    """``layers(3)``: three directories, top first; each holds its number in `number`, and an own file."""

    def make(count: int, prefix: str = "") -> list[Path]:
        made = []
        for number in reversed(range(count)):
            layer = overlay_dir / f"{prefix}{number:064d}"
            layer.mkdir()
            (layer / "number").write_text(str(number))
            (layer / f"only-{number}").write_text("x")
            made.append(layer)
        return made

    return make


@pytest.fixture
def stage(overlay_dir: Path) -> Path:
    """A directory with merged/, upper/ and work/."""
    for name in ("merged", "upper", "work"):
        (overlay_dir / name).mkdir()
    return overlay_dir


def mounted(stage: Path, lower: list[Path], act: Callable[[Path], Any]) -> Any:
    overlay.mount_overlay(lower, stage / "merged", stage / "upper", stage / "work")
    return act(stage / "merged")


def test_the_top_layer_wins_and_the_lower_ones_show_through(
    in_child: InChild, layers: Any, stage: Path
) -> None:
    def look(merged: Path) -> tuple[str, list[str]]:
        return (merged / "number").read_text(), sorted(os.listdir(merged))

    number, names = in_child(mounted, stage, layers(3), look)
    assert number == "2"
    assert names == ["number", "only-0", "only-1", "only-2"]


def test_writing_never_touches_a_layer(in_child: InChild, layers: Any, stage: Path) -> None:
    lower = layers(2)
    in_child(mounted, stage, lower, lambda merged: (merged / "number").write_text("mine") and None)
    assert (lower[0] / "number").read_text() == "1"
    assert (stage / "upper/number").read_text() == "mine"


def test_127_layers_whose_names_do_not_fit_a_page(in_child: InChild, layers: Any, stage: Path) -> None:
    """With plain paths the kernel would cut the list and take a cut path as the bottom layer."""
    lower = layers(127)
    assert len(":".join(map(str, lower))) > 4096

    def look(merged: Path) -> tuple[str, list[str]]:
        return (merged / "number").read_text(), sorted(os.listdir(merged))

    number, names = in_child(mounted, stage, lower, look)
    assert number == "126"
    assert names == sorted(["number", *(f"only-{each}" for each in range(127))])


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "lowerdir=x,upperdir=y"])
def test_names_that_look_like_options(in_child: InChild, layers: Any, stage: Path, name: str) -> None:
    lower = layers(2, prefix=name)
    assert in_child(mounted, stage, lower, lambda merged: sorted(os.listdir(merged))) == [
        "number",
        "only-0",
        "only-1",
    ]


def test_without_an_upper_directory_it_is_read_only(in_child: InChild, layers: Any, stage: Path) -> None:
    def look(lower: list[Path]) -> tuple[list[str], str]:
        overlay.mount_overlay(lower, stage / "merged")
        try:
            (stage / "merged/new").write_text("x")
        except OSError as error:
            return sorted(os.listdir(stage / "merged")), error.strerror or ""
        return [], "it was writable"

    names = ["number", "only-0", "only-1"]
    assert in_child(look, layers(2)) == (names, "Read-only file system")
    assert in_child(look, layers(1, prefix="single")) == (["number", "only-0"], "Read-only file system")


def test_too_many_layers_and_none_are_refused(stage: Path) -> None:
    for count in (0, 128):
        with pytest.raises(InvalidInput, match=f"{count} layers"):
            overlay.mount_overlay([stage] * count, stage / "merged", stage / "upper", stage / "work")


def test_a_renamed_directory_is_copied_whole(in_child: InChild, layers: Any, stage: Path) -> None:
    """With redirect_dir=on the upper directory would hold only a reference, and a commit would lose files."""
    lower = layers(1)
    (lower[0] / "directory").mkdir()
    (lower[0] / "directory/file").write_text("kept")

    def rename(merged: Path) -> str:
        try:
            os.rename(merged / "directory", merged / "renamed")
        except OSError as error:  # EXDEV: programs such as mv then copy
            return os.strerror(error.errno or 0)
        return ""

    assert in_child(mounted, stage, lower, rename) == "Invalid cross-device link"


def test_it_is_one_recorded_step_of_lesson_4(in_child: InChild, layers: Any, stage: Path) -> None:
    def look(lower: list[Path]) -> list[trace.Step]:
        with trace.recording(trace.Recorder()) as recorder:
            overlay.mount_overlay(lower, stage / "merged", stage / "upper", stage / "work")
        return recorder.steps

    (step,) = in_child(look, layers(2))
    assert (step.operation, step.lesson, step.mechanism) == ("mount", 4, "overlay.mount_overlay")
    assert "redirect_dir=off,metacopy=off" in step.arguments["data"]


def test_a_missing_layer_is_named(in_child: InChild, layers: Any, stage: Path) -> None:
    def look() -> str:
        with pytest.raises(KernelError) as caught:
            overlay.mount_overlay([*layers(2), stage / "nowhere"], stage / "merged")
        return str(caught.value)

    assert f"ENOENT: the directory {stage}/nowhere does not exist" in in_child(look)


# --- what changed --------------------------------------------------------------------------------


def work_in(stage: Path, lower: list[Path]) -> None:
    """Do one of everything in a container's filesystem."""
    overlay.mount_overlay(lower, stage / "merged", stage / "upper", stage / "work")
    merged = stage / "merged"
    (merged / "etc/passwd").write_text("changed")
    (merged / "etc/new").write_text("x")
    (merged / "etc/gone").unlink()
    shutil.rmtree(merged / "var")  # deleted, a layer below had it
    shutil.rmtree(merged / "opt")  # deleted and made again: opaque
    (merged / "opt").mkdir()
    (merged / "opt/fresh").write_text("x")
    (merged / "file-to-directory").unlink()
    (merged / "file-to-directory").mkdir()
    shutil.rmtree(merged / "directory-to-file")
    (merged / "directory-to-file").write_text("x")
    (merged / "deep/er/new").write_text("x")
    os.chmod(merged / "etc/mode", 0o600)
    os.close(os.open(merged / "etc/untouched", os.O_RDWR))
    (merged / "etc/read-only").read_text()  # reading copies nothing


@pytest.fixture
def image(overlay_dir: Path) -> list[Path]:
    """Two layers, top first, with something to change in each."""
    top, bottom = overlay_dir / "top", overlay_dir / "bottom"
    for directory in ("etc", "var/lib", "opt", "deep/er", "directory-to-file/x"):
        (bottom / directory).mkdir(parents=True)
    for file in ("etc/passwd", "etc/gone", "etc/mode", "etc/untouched", "etc/read-only", "etc/hidden"):
        (bottom / file).write_text("original")
    (bottom / "var/lib/data").write_text("x")
    (bottom / "opt/old").write_text("x")
    (bottom / "file-to-directory").write_text("x")
    (top / "opt").mkdir(parents=True)
    (top / "opt/older").write_text("x")
    (top / "etc").mkdir()
    overlay.make_whiteout(top / "etc/hidden")
    return [top, bottom]


EXPECTED = """\
C /deep
C /deep/er
A /deep/er/new
C /directory-to-file
C /etc
D /etc/gone
C /etc/mode
A /etc/new
C /etc/passwd
C /etc/untouched
C /file-to-directory
C /opt
A /opt/fresh
D /opt/old
D /opt/older
D /var"""


def test_diff_tells_what_a_container_changed(in_child: InChild, image: list[Path], stage: Path) -> None:
    in_child(work_in, stage, image)
    assert "\n".join(map(str, overlay.diff(stage / "upper", image))) == EXPECTED


def test_diff_against_the_mounted_view_is_the_same(in_child: InChild, image: list[Path], stage: Path) -> None:
    in_child(work_in, stage, image)

    def look() -> list[str]:
        overlay.mount_overlay(image, stage / "merged")
        return [str(change) for change in overlay.diff(stage / "upper", [stage / "merged"])]

    assert in_child(look) == EXPECTED.splitlines()


def test_a_file_hidden_by_a_lower_whiteout_counts_as_added(image: list[Path], stage: Path) -> None:
    (stage / "upper/etc").mkdir()
    (stage / "upper/etc/hidden").write_text("again")
    assert overlay.Change("A", "/etc/hidden") in overlay.diff(stage / "upper", image)


def test_a_whiteout_for_nothing_is_no_change(image: list[Path], stage: Path) -> None:
    overlay.make_whiteout(stage / "upper/never-was")
    assert overlay.diff(stage / "upper", image) == []


def test_copy_ups_say_which_file_from_which_layer_and_why(
    in_child: InChild, image: list[Path], stage: Path
) -> None:
    in_child(work_in, stage, image)
    found = {each.path: each for each in overlay.copy_ups(stage / "upper", image)}
    assert {path: each.changed for path, each in found.items()} == {
        "/etc/passwd": "content",
        "/etc/mode": "metadata",
        "/etc/untouched": "nothing",
    }
    assert found["/etc/passwd"].layer == image[1] / "etc"
    assert found["/etc/passwd"].size == len("original")


def test_whiteouts_and_opaque_directories_are_what_the_kernel_makes(
    in_child: InChild, image: list[Path], stage: Path
) -> None:
    in_child(work_in, stage, image)
    upper = stage / "upper"
    assert overlay.is_whiteout(upper / "etc/gone")
    assert overlay.is_opaque(upper / "opt")
    assert not overlay.is_whiteout(upper / "etc/new")
    assert not overlay.is_whiteout(upper / "etc/never-was")
    assert not overlay.is_opaque(upper / "etc")


def test_ours_hide_as_the_kernels_do(in_child: InChild, image: list[Path], stage: Path) -> None:
    middle = stage / "middle"
    (middle / "opt").mkdir(parents=True)
    overlay.make_opaque(middle / "opt")
    overlay.make_whiteout(middle / "var")

    def look(merged: Path) -> tuple[list[str], bool]:
        return os.listdir(merged / "opt"), (merged / "var").exists()

    assert in_child(mounted, stage, [middle, *image], look) == ([], False)


def test_the_options_reach_the_kernel(in_child: InChild, layers: Any, stage: Path) -> None:
    def look(merged: Path) -> tuple[str, ...]:
        return next(each.super_options for each in mountinfo() if each.path == str(merged))

    options = in_child(mounted, stage, layers(2), look)
    assert not {"redirect_dir=on", "metacopy=on"} & set(options)
