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
    wanted = ("--filter", "type=container", "--filter", "type=network")
    found = minidock("events", "--since", "10m", *NOW, *wanted, "--format", "json").stdout
    assert actions(found) == [
        *("container create", "network connect", "container start", "container die", "network disconnect"),
        *("container rename", "network connect", "container start", "container die", "network disconnect"),
        "container destroy",
    ]
    die = json.loads(found.splitlines()[3])
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


def told(minidock, *filters: str) -> list[str]:
    """What happened so far: type, action and attributes, the names of volumes and networks first."""
    flags = [word for each in filters for word in ("--filter", each)]
    found = minidock("events", "--since", "10m", *NOW, "--format", "json", *flags).stdout
    lines = []
    for event in map(json.loads, found.splitlines()):
        about = event["Actor"]["Attributes"]
        rest = sorted(f"{key}={value}" for key, value in about.items() if key not in ("name", "container"))
        name = about.get("name", event["Actor"]["ID"])
        lines.append(" ".join([event["Type"], event["Action"], name, *rest]))
    return lines


def test_networks_are_on_record(busybox, minidock):
    minidock("network", "create", "app")
    minidock("run", "-d", "--name", "web", "--network", "app", "busybox", "sleep", "1000")
    minidock("network", "connect", "bridge", "web")
    minidock("network", "disconnect", "app", "web")
    minidock("rm", "-f", "web")
    minidock("network", "rm", "app")
    minidock("network", "prune", "-f")
    assert told(minidock, "type=network") == [
        "network create app type=bridge",
        "network connect app type=bridge",
        "network connect bridge type=bridge",
        "network disconnect app type=bridge",
        "network disconnect bridge type=bridge",
        "network destroy app type=bridge",
        "network prune  reclaimed=0",
    ]
    assert len(told(minidock, "network=app")) == 4
    web = minidock("events", "--since", "10m", *NOW, "--filter", "event=connect", "--format", "json").stdout
    create = minidock("events", "--since", "10m", *NOW, "--filter", "event=create", "--format", "json").stdout
    containers = {json.loads(line)["Actor"]["Attributes"]["container"] for line in web.splitlines()}
    assert containers == {json.loads(create.splitlines()[1])["Actor"]["ID"]}


def test_volumes_are_on_record(busybox, minidock):
    minidock("volume", "create", "data")
    minidock("volume", "create", "data")  # it is there already
    minidock("run", "--rm", "-v", "data:/data:ro", "-v", "more:/more", "busybox", "true")
    minidock("volume", "rm", "data")
    minidock("volume", "prune", "-af")
    mounted = "driver=local propagation=rprivate"
    found = [line.partition(" reclaimed")[0] for line in told(minidock, "type=volume")]
    assert found == [
        "volume create data driver=local",
        "volume create more driver=local",
        f"volume mount data destination=/data {mounted} read/write=false",
        f"volume mount more destination=/more {mounted} read/write=true",
        "volume unmount data driver=local",
        "volume unmount more driver=local",
        "volume destroy data driver=local",
        "volume destroy more driver=local",
        "volume prune ",
    ]


def test_who_looks_into_a_container_is_on_record(busybox, minidock, tmp_path):
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    minidock("top", "web")
    minidock("cp", "web:/etc/passwd", tmp_path / "passwd")
    minidock("cp", tmp_path / "passwd", "web:/tmp/passwd")
    minidock("export", "-o", tmp_path / "web.tar", "web")
    minidock("cp", "web:/nowhere", tmp_path, check=False)
    found = [line.split()[1] for line in told(minidock, "container=web")]
    assert found == ["create", "start", "top", "archive-path", "extract-to-dir", "export"]


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
    whole = ["create", "connect", "start", "die", "disconnect", "destroy"]

    def listen() -> None:
        for line in process.stdout:
            heard.append(line.strip())
            if heard[-6:] == whole:
                enough.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        # It begins with what happens from now on, which may be in the middle: repeat until it listens.
        for _ in range(20):
            minidock("run", "--rm", "busybox", "true")
            if enough.wait(1):
                break
        assert heard[-6:] == whole
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
