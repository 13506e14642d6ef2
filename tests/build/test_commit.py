"""`commit`: an image from a container, and what of the container goes into it."""

from __future__ import annotations

import json

import pytest


def config(minidock, image: str = "made"):
    return json.loads(minidock("image", "inspect", image).stdout)[0]["Config"]


def test_the_changes_of_a_container_become_an_image(busybox, minidock):
    minidock("run", "--name", "work", "busybox", "sh", "-c", "echo new > /new; rm /bin/ls; mkdir /d")
    identifier = minidock(
        "commit", "-m", "by hand", "-a", "Ada <ada@example.org>", "work", "made"
    ).stdout.strip()
    assert minidock(
        "run", "--rm", "made", "sh", "-c", "cat /new; test -e /bin/ls || echo gone; echo /d*"
    ).stdout.splitlines() == [
        "new",
        "gone",
        "/d /dev",
    ]
    shown = json.loads(minidock("image", "inspect", "made").stdout)[0]
    assert (shown["Id"], shown["Author"], shown["Comment"]) == (
        identifier,
        "Ada <ada@example.org>",
        "by hand",
    )
    assert len(shown["RootFS"]["Layers"]) == 2
    (newest, *_) = minidock(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made"
    ).stdout.splitlines()
    assert newest == "sh -c echo new > /new; rm /bin/ls; mkdir /d|by hand"


def test_what_it_was_started_with_is_kept(busybox, minidock):
    minidock(
        "create",
        "--name",
        "work",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "-l",
        "x=y",
        "--expose",
        "80",
        "--entrypoint",
        "echo",
        "busybox",
        "said",
    )
    minidock("commit", "work", "made")
    found = config(minidock)
    assert (found["Entrypoint"], found["Cmd"], found["User"]) == (["echo"], ["said"], "nobody")
    assert (found["WorkingDir"], found["Labels"], found["ExposedPorts"]) == (
        "/tmp",
        {"x": "y"},
        {"80/tcp": {}},
    )
    assert "A=1" in found["Env"]
    assert minidock("run", "--rm", "made").stdout == "said\n"


def test_changes_are_dockerfile_instructions(busybox, minidock):
    minidock("create", "--name", "work", "busybox")
    minidock(
        "commit",
        "-c",
        'CMD ["echo", "hi"]',
        "-c",
        "ENV A=1 B='x y'",
        "-c",
        "WORKDIR /a",
        "-c",
        "WORKDIR b",
        "--change",
        "LABEL k=$A",
        "work",
        "made",
    )
    found = config(minidock)
    assert found["Cmd"] == ["echo", "hi"]
    assert found["Env"][-2:] == ["A=1", "B=x y"]
    assert found["WorkingDir"] == "/a/b"
    assert found["Labels"] == {"k": "1"}
    assert minidock("run", "--rm", "made").stdout == "hi\n"


@pytest.mark.parametrize("change", ["RUN x", "FROM x", "COPY a b", "NOSUCH", "", "EXPOSE x", "ENV"])
def test_a_change_that_is_none(busybox, minidock, change):
    minidock("create", "--name", "work", "busybox")
    done = minidock("commit", "-c", change, "work", "made", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"minidock: --change {change!r}: ")
    assert minidock("images", "-q", "made").stdout == ""


def test_a_running_container_is_paused_and_goes_on(busybox, minidock):
    minidock("run", "-d", "--name", "work", "busybox", "sh", "-c", "echo x > /x; exec sleep 1000")
    minidock("commit", "work", "made")
    minidock("commit", "--pause=false", "work", "other")
    assert json.loads(minidock("inspect", "work").stdout)[0]["State"]["Status"] == "running"
    assert minidock("run", "--rm", "made", "cat", "/x").stdout == "x\n"
    minidock("pause", "work")
    minidock("commit", "work", "third")
    assert json.loads(minidock("inspect", "work").stdout)[0]["State"]["Status"] == "paused"
    minidock("rm", "-f", "work")


def test_the_health_check_and_the_shell_are_kept(busybox, minidock):
    text = 'FROM busybox\nSHELL ["/bin/sh", "-ec"]\nHEALTHCHECK CMD true\n'
    minidock("build", "-q", "-t", "checked", "-", input=text)
    minidock("create", "--name", "work", "checked")
    minidock("commit", "work", "made")
    assert config(minidock)["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}
    assert config(minidock)["Shell"] == ["/bin/sh", "-ec"]
    minidock("rm", "work")
    minidock("create", "--name", "work", "--health-cmd", "false", "checked")
    minidock("commit", "work", "made")
    assert config(minidock)["Healthcheck"]["Test"] == ["CMD-SHELL", "false"]


def test_nothing_changed_adds_no_layer(busybox, minidock):
    minidock("create", "--name", "work", "busybox")
    minidock("commit", "work")
    assert minidock("images", "--filter", "dangling=true", "-q").stdout != ""
    minidock("commit", "work", "made")
    assert len(json.loads(minidock("image", "inspect", "made").stdout)[0]["RootFS"]["Layers"]) == 1


def test_what_cannot_be_committed(busybox, minidock):
    done = minidock("commit", "nosuch", check=False)
    assert (done.returncode, done.stderr) == (1, "minidock: No such container: nosuch\n")
    minidock("create", "--name", "work", "busybox")
    done = minidock("commit", "work", "Bad Name", check=False)
    assert done.returncode == 1
    assert "invalid reference format" in done.stderr


def test_import_takes_the_same_changes(busybox, minidock):
    minidock("create", "--name", "work", "busybox")
    archive = minidock("export", "work", text=False).stdout
    minidock(
        "import", "-c", "CMD echo $HOME", "-c", "HEALTHCHECK NONE", "-", "made", input=archive, text=False
    )
    found = config(minidock)
    assert found["Cmd"] == ["/bin/sh", "-c", "echo $HOME"]
    assert found["Healthcheck"] == {"Test": ["NONE"]}
    assert minidock("run", "--rm", "made").stdout == "/root\n"


def test_the_image_that_an_image_goes_on_from(busybox, minidock):
    def parent(name: str) -> str:
        return json.loads(minidock("image", "inspect", name).stdout)[0]["Parent"]

    base = json.loads(minidock("image", "inspect", "busybox").stdout)[0]["Id"]
    minidock("run", "--name", "work", "busybox", "touch", "/one")
    one = minidock("commit", "work", "one").stdout.strip()
    minidock("run", "--name", "more", "one", "touch", "/two")
    two = minidock("commit", "more", "two").stdout.strip()
    assert (parent("busybox"), parent("one"), parent("two")) == ("", base, one)
    (busybox / "images/blobs/sha256" / two.removeprefix("sha256:")).unlink()
    assert parent("one") == base
