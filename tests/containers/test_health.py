"""Health checks: starting, healthy, unhealthy, and what a check that hangs or cannot run means."""

from __future__ import annotations

import json

import pytest

from minidock.containers import lifecycle

TENTH = 100_000_000  # nanoseconds


def check(script: str, **more) -> dict:
    return {"Test": ["CMD-SHELL", script], "Interval": TENTH, "Retries": 2, **more}


def health(container) -> dict:
    return container.state().health


def until(wait_for, container, status: str) -> dict:
    wait_for(lambda: health(container).get("Status") == status, seconds=20, what=status)
    return health(container)


def test_it_follows_what_the_command_says(box, wait_for):
    container = box.start("sleep", "1000", health_check=check("test -f /ok"))
    assert health(container)["Status"] == "starting"
    found = until(wait_for, container, "unhealthy")
    assert found["FailingStreak"] >= 2
    assert {record["ExitCode"] for record in found["Log"]} == {1}
    lifecycle.exec(container, ["touch", "/ok"])
    assert until(wait_for, container, "healthy")["FailingStreak"] == 0
    assert len(health(container)["Log"]) <= 5


def test_the_exec_form_and_what_the_check_prints(box, wait_for):
    container = box.start("sleep", "1000", health_check=check("") | {"Test": ["CMD", "echo", "fine"]})
    assert until(wait_for, container, "healthy")["Log"][0]["Output"] == "fine\n"


def test_a_check_that_prints_without_end_is_cut_and_hurts_nobody(box, wait_for):
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo"
    container = box.start("sleep", "1000", health_check=check(script))
    assert len(until(wait_for, container, "healthy")["Log"][0]["Output"]) == 4096


def test_a_check_that_hangs_is_killed_and_counts_as_failed(box, wait_for):
    container = box.start("sleep", "1000", health_check=check("sleep 999", Timeout=TENTH, Retries=1))
    found = until(wait_for, container, "unhealthy")
    assert found["Log"][0]["ExitCode"] == -1
    assert "exceeded timeout" in found["Log"][0]["Output"]
    lifecycle.kill(container)


def test_a_check_that_cannot_run_counts_as_failed(box, wait_for):
    container = box.start("sleep", "1000", health_check={**check(""), "Test": ["CMD", "/nowhere"]})
    found = until(wait_for, container, "unhealthy")
    assert "no such file" in found["Log"][0]["Output"]


def test_failures_in_the_start_period_do_not_count(box, wait_for):
    slow = check("false", StartPeriod=3600 * 10 * TENTH, StartInterval=TENTH, Retries=1)
    container = box.start("sleep", "1000", health_check=slow)
    wait_for(lambda: len(health(container)["Log"]) >= 3, what="three checks")
    assert (health(container)["Status"], health(container)["FailingStreak"]) == ("starting", 0)


def test_the_container_ends_while_its_check_hangs(box, wait_for):
    container = box.start("sh", "-c", "sleep 0.5; exit 3", health_check=check("sleep 999"))
    assert lifecycle.wait(container) == 3
    wait_for(lambda: not container.alive(), what="the shim's end")


def test_none_asks_for_nothing(box):
    container = box.start("sleep", "1000", health_check={"Test": ["NONE"]})
    assert health(container) == {}


def test_through_the_command(busybox, minidock, wait_for):
    minidock(
        *("run", "-d", "--name", "web", "--health-cmd", "test -f /ok", "--health-interval", "100ms"),
        *("--health-retries", "1", "busybox", "sleep", "1000"),
    )
    shown = json.loads(minidock("inspect", "web").stdout)[0]
    assert shown["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "test -f /ok"],
        "Interval": TENTH,
        "Retries": 1,
    }
    wait_for(lambda: "(unhealthy)" in minidock("ps").stdout, what="unhealthy in ps")
    minidock("exec", "web", "touch", "/ok")
    wait_for(lambda: "(healthy)" in minidock("ps").stdout, what="healthy in ps")
    assert minidock("ps", "-q", "--filter", "health=healthy").stdout
    assert not minidock("ps", "-q", "--filter", "health=unhealthy").stdout
    said = minidock("events", "--since", "5m", "--until", "0s", "--filter", "event=health_status").stdout
    assert [line.split("health_status: ")[1].split()[0] for line in said.splitlines()] == [
        "unhealthy",
        "healthy",
    ]
    minidock("rm", "-f", "web")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-healthcheck", "--health-cmd", "true"], "--no-healthcheck conflicts with --health-* options"),
        (
            ["--health-cmd", "true", "--health-interval", "1us"],
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (["--health-cmd", "true", "--health-retries", "-1"], "--health-retries cannot be negative"),
        (["--health-cmd", "true", "--health-timeout", "soon"], "invalid duration"),
    ],
)
def test_wrong_checks_are_refused(busybox, minidock, flags, words):
    done = minidock("run", "-d", *flags, "busybox", "true", check=False)
    assert done.returncode == 125
    assert words in done.stderr
