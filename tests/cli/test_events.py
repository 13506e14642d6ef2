"""`minidock events`: what happened is on record, what happens is told as it happens."""

from __future__ import annotations

import json
import os
import subprocess
import threading

import pytest
from worlds import cli_command

from minidock import events

NOW = ("--until", "0s")


def actions(text: str) -> list[str]:
    return [f"{event['Type']} {event['Action']}" for event in map(json.loads, text.splitlines())]


def test_a_life_from_create_to_destroy(busybox, minidock):
    minidock("run", "--name", "web", "--label", "tier=front", "busybox", "sh", "-c", "exit 3", check=False)
    minidock("rename", "web", "site")
    minidock("start", "site")
    minidock("wait", "site")
    minidock("rm", "site")
    found = minidock("events", "--since", "10m", *NOW, "--format", "json").stdout
    assert actions(found) == [
        f"container {action}" for action in ("create", "start", "die", "rename", "start", "die", "destroy")
    ]
    die = json.loads(found.splitlines()[2])
    assert die["Actor"]["Attributes"]["exitCode"] == "3"
    assert die["Actor"]["Attributes"]["image"] == "busybox"
    assert die["Actor"]["Attributes"]["tier"] == "front"
    assert die["scope"] == "local"
    assert die["timeNano"] // 10**9 == die["time"]


def test_images_are_on_record(busybox, minidock):
    minidock("tag", "busybox", "mine:1")
    minidock("rmi", "mine:1")
    found = minidock("events", "--since", "10m", *NOW, "--filter", "type=image", "--format", "json").stdout
    assert actions(found) == ["image tag", "image untag"]


def test_filters(busybox, minidock):
    for name in ("one", "two"):
        minidock("run", "--rm", "--name", name, "--label", f"which={name}", "busybox", "true")

    def found(*filters):
        flags = [word for each in filters for word in ("--filter", each)]
        said = minidock(
            "events", "--since", "10m", *NOW, "--format", "{{.Action}} {{.Actor.Attributes.name}}", *flags
        )
        return said.stdout.splitlines()

    assert found("container=one") == ["create one", "start one", "die one", "destroy one"]
    assert found("event=die") == ["die one", "die two"]
    assert found("event=die", "label=which=two") == ["die two"]
    assert found("event=start", "event=destroy", "container=two") == ["start two", "destroy two"]
    assert found("image=debian") == []
    wrong = minidock("events", *NOW, "--filter", "colour=red", check=False)
    assert (wrong.returncode, "invalid filter 'colour'" in wrong.stderr) == (1, True)


def test_who_listens_hears_it_at_once(busybox, minidock, daemon_json):
    process = subprocess.Popen(
        [*cli_command(), "--root", str(busybox), "events", "--format", "{{.Action}}"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MINIDOCK_CONFIG": str(daemon_json)},
    )
    heard: list[str] = []
    enough = threading.Event()

    def listen() -> None:
        for line in process.stdout:
            heard.append(line.strip())
            if heard[-1] == "destroy":
                enough.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        # It begins with what happens from now on: repeat until it listens.
        for _ in range(20):
            minidock("run", "--rm", "busybox", "true")
            if enough.wait(1):
                break
        assert heard[-4:] == ["create", "start", "die", "destroy"]
    finally:
        process.kill()
        process.wait()


def test_a_full_file_is_turned_over_and_nobody_misses_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LARGEST", 2000)
    seen: list[str] = []
    total = 0

    def wait() -> bool:
        nonlocal total
        if total >= 60:
            return False
        for _ in range(5):  # fewer than a file holds, as with a reader that keeps up
            events.record(tmp_path, "container", "start", str(total))
            total += 1
        return True

    seen = [event["Actor"]["ID"] for event in events.read(tmp_path, wait)]
    assert seen == [str(number) for number in range(60)]
    assert (tmp_path / f"{events.NAME}.1").exists()


def test_damage_is_left_out(tmp_path):
    events.record(tmp_path, "container", "start", "one")
    with open(tmp_path / events.NAME, "ab") as file:
        file.write(b"{half a li\n\xff\xfe\n[1]\n")
    events.record(tmp_path, "container", "start", "two")
    assert [event["Actor"]["ID"] for event in events.read(tmp_path)] == ["one", "two"]


def test_others_cannot_read_them(busybox, minidock):
    minidock("create", "busybox")
    assert os.stat(busybox / events.NAME).st_mode & 0o077 == 0


@pytest.mark.parametrize("flag", ["--since", "--until"])
def test_a_wrong_time(busybox, minidock, flag):
    done = minidock("events", flag, "yesterday", check=False)
    assert done.returncode == 1
    assert "is not a point in time" in done.stderr
