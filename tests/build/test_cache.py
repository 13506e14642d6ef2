"""The build cache: what is a hit, what is a miss and why, and how long it is remembered."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from worlds import wait_for


def outcomes(done) -> list[str]:
    """``hit``, or the reason for a miss, for each step that asked."""
    lines = (line.strip() for line in done.stdout.splitlines())
    return [
        "hit" if line == "---> Using cache" else line.removeprefix("---> Not in cache: ")
        for line in lines
        if line == "---> Using cache" or line.startswith("---> Not in cache: ")
    ]


AFTER = "the step before was not in the cache"
THREE = "FROM busybox\nCOPY a.txt b.txt /in/\nRUN cat /in/* > /out\nCMD cat /out\n"


@pytest.fixture
def three(project):
    project.write("a.txt", "a")
    project.write("b.txt", "b")
    assert len(outcomes(project.build(THREE))) == 3
    return project


def test_nothing_changed_is_all_hits_and_the_same_image(three):
    before = three.inspect()["Id"]
    assert outcomes(three.build(THREE)) == ["hit"] * 3
    assert three.inspect()["Id"] == before


def test_times_do_not_count_and_content_does(three):
    os.utime(three.directory / "a.txt", (1, 1))
    assert outcomes(three.build(THREE)) == ["hit"] * 3
    three.write("b.txt", "B")
    assert outcomes(three.build(THREE)) == ["b.txt changed", AFTER, AFTER]
    assert three.run() == "aB"


def test_modes_count(three):
    (three.directory / "a.txt").chmod(0o600)
    assert outcomes(three.build(THREE))[0] == "the copied files changed"


def test_a_file_that_is_not_copied_does_not_count(three):
    three.write("c.txt", "c")
    assert outcomes(three.build(THREE)) == ["hit"] * 3


def test_another_instruction_is_named(three):
    (first, *_) = outcomes(three.build(THREE.replace("/in/", "/other/")))
    assert first.startswith("the instruction is another one: before it was `COPY")
    changed = outcomes(three.build(THREE.replace("cat /in/*", "tac /in/*")))
    assert changed[0] == "hit"
    assert changed[1] == "the instruction is another one: before it was `cat /in/* > /out`"


def test_what_stands_before_a_change_stays_cached(three):
    assert outcomes(three.build(THREE.replace("CMD cat", "CMD tac"))) == [
        "hit",
        "hit",
        'the instruction is another one: before it was `CMD ["/bin/sh" "-c" "cat /out"]`',
    ]


def test_no_cache(three):
    assert outcomes(three.build(THREE, "--no-cache")) == ["--no-cache was given"] * 3
    assert outcomes(three.build(THREE)) == ["hit"] * 3


def test_build_arguments_count_from_run_on(project):
    dockerfile = "FROM busybox\nARG V=1\nWORKDIR /w\nRUN echo $V > v\n"
    project.build(dockerfile)
    again = outcomes(project.build(dockerfile, "--build-arg", "V=2"))
    assert again[:2] == ["hit", "hit"]
    assert again[2].startswith("the instruction is another one: before it was `|1 V=1 /bin/sh -c")
    assert project.run("cat", "/w/v") == "2\n"
    assert outcomes(project.build(dockerfile, "--build-arg", "V=1")) == ["hit"] * 3


def test_mounts_and_heredocs_count(project):
    project.write("data", "1")
    dockerfile = "FROM busybox\nRUN --mount=type=bind,target=/c cat /c/data > /out\n"
    project.build(dockerfile)
    assert outcomes(project.build(dockerfile)) == ["hit"]
    project.write("data", "2")
    assert outcomes(project.build(dockerfile)) == ["data changed"]
    assert project.run("cat", "/out") == "2"
    script = "FROM busybox\nRUN <<EOF\n#!/bin/sh\necho {} > /out\nEOF\n"
    project.build(script.format("one"))
    project.build(script.format("two"))
    assert project.run("cat", "/out") == "two\n"


def test_a_stage_that_changes_changes_what_is_copied_from_it(project):
    dockerfile = "FROM busybox AS a\nRUN echo {} > /x; echo {} > /y\nFROM busybox\nCOPY --from=a /x /x\n"
    project.build(dockerfile.format(1, 1))
    assert outcomes(project.build(dockerfile.format(1, 2)))[1] == "hit"
    assert outcomes(project.build(dockerfile.format(2, 2)))[1] == "x changed"


def test_the_cache_outlives_the_image(three, minidock):
    minidock("rmi", "app")
    minidock("image", "prune", "-f")
    assert outcomes(three.build(THREE)) == ["hit"] * 3
    assert three.run() == "ab"


def test_prune_forgets_and_frees(three, minidock, busybox):
    minidock("rmi", "app")
    layers = {name for name in os.listdir(busybox / "layers") if not name.endswith(".json")}
    assert len(layers) == 3
    assert outcomes(three.build(THREE)) == ["hit"] * 3
    minidock("rmi", "app")
    assert "Total reclaimed space" in minidock("builder", "prune", "-f").stdout
    assert len([name for name in os.listdir(busybox / "layers") if not name.endswith(".json")]) == 1
    assert outcomes(three.build(THREE))[0] == "nothing was built on this image before"


def test_system_prune_forgets_too(three, minidock):
    asked = minidock("system", "prune", input="n\n").stdout
    assert "  - all build cache\n" in asked
    minidock("system", "prune", "-f")
    assert outcomes(three.build(THREE))[0] != "hit"


def test_system_df_counts_what_only_the_cache_keeps(three, minidock):
    def row() -> list[str]:
        lines = minidock("system", "df").stdout.splitlines()
        return next(line.split() for line in lines if line.startswith("Build Cache"))[2:5]

    assert row()[::2] == ["3", "0B"]  # the image has the same layers
    minidock("rmi", "app")
    assert row()[::2] == ["3", "4B"]


def test_a_layer_that_was_removed_by_hand_is_made_again(three, busybox, minidock):
    minidock("rmi", "app")
    shutil.rmtree(busybox / "layers")
    for blob in (busybox / "images/blobs/sha256").iterdir():
        if blob.stat().st_size < 400 and blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.unlink()
    assert outcomes(three.build(THREE))[0] == "the layer that it made is gone"
    assert three.run() == "ab"


def test_a_damaged_record_is_a_miss(three, busybox):
    for record in (busybox / "cache/build").glob("*/*.json"):
        record.write_text("{")
    assert outcomes(three.build(THREE))[0] != "hit"
    assert outcomes(three.build(THREE)) == ["hit"] * 3


def test_cache_from_an_image(three, minidock):
    minidock("tag", "app", "pulled")
    minidock("builder", "prune", "-f")
    assert outcomes(three.build(THREE, "--cache-from", "pulled")) == ["hit"] * 3
    minidock("builder", "prune", "-f")
    three.write("b.txt", "other")
    assert outcomes(three.build(THREE, "--cache-from", "pulled"))[0] != "hit"
    assert "is no help" in three.build(THREE, "--cache-from", "nosuch").stderr


def test_after_a_failure_the_steps_before_are_remembered(project):
    project.refused("FROM busybox\nRUN echo 1 > /one\nRUN exit 3\n", code=3)
    assert outcomes(project.build("FROM busybox\nRUN echo 1 > /one\nRUN exit 0\n"))[0] == "hit"


def test_large_files_are_not_read_again(project, busybox):
    """Known by inode, size and times. Who sets the time of change back is found out all the same."""
    large = project.write("large", b"1" * 100_000)
    os.utime(large, (1, 1))
    dockerfile = "FROM busybox\nCOPY large /\n"
    project.build(dockerfile)
    wait_for(lambda: time.time_ns() - large.stat().st_ctime_ns > 2_000_000_000, what="the file to be old")
    project.build(dockerfile)
    (noted,) = (busybox / "cache/digests").iterdir()
    assert f":{large.stat().st_ino}" in noted.read_text()
    with open(large, "r+b") as file:
        file.write(b"2")
    os.utime(large, (1, 1))
    assert outcomes(project.build(dockerfile)) == ["large changed"]
    assert project.run("head", "-c2", "/large") == "21"
    noted.write_text("{damaged")
    assert outcomes(project.build(dockerfile)) == ["hit"]
