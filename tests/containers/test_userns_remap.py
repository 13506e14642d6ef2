"""userns-remap in daemon.json: the users of containers are the subordinate ids of a user of the machine."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import Cli

PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n"
GROUP = "root:x:0:\nalice:x:1000:\n"
SUBUID = "other:100000:65536\nalice:200000:1000\n1000:300000:64536\n"
SUBGID = "alice:400000:65536\n"
MAPS = "cat /proc/self/uid_map /proc/self/gid_map"


@pytest.fixture(autouse=True)
def cleared(busybox: Path, minidock: Cli) -> Iterator[None]:
    yield
    minidock("reset", "--yes", env={"MINIDOCK_CONFIG": ""})


@pytest.fixture
def remapped(minidock: Cli, daemon_json: Path, tmp_path: Path, in_child: Callable[..., Any]) -> Any:
    """remapped("alice", "run", …): exit code, output and errors on a machine that knows alice."""

    def on_this_machine(words: tuple[str, ...], etc: dict[str, str]) -> tuple[int, str, str]:
        layer = tmp_path / "etc"
        layer.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "etc", layer], check=True)
        for part in ("upper", "work"):
            (layer / part).mkdir()
        options = f"lowerdir=/etc,upperdir={layer}/upper,workdir={layer}/work"
        subprocess.run(["mount", "-t", "overlay", "etc", "-o", options, "/etc"], check=True)
        for name, text in etc.items():
            Path(f"/etc/{name}").write_text(text)
        done = minidock(*words, check=False)
        return done.returncode, done.stdout, done.stderr

    def run(remap: str, *words: str, **etc: str) -> tuple[int, str, str]:
        daemon_json.write_text(json.dumps({"userns-remap": remap}))
        files = {"passwd": PASSWD, "group": GROUP, "subuid": SUBUID, "subgid": SUBGID} | etc
        answer: tuple[int, str, str] = in_child(on_this_machine, words, files)
        return answer

    return run


def test_all_ranges_of_the_user_in_their_order(remapped: Any) -> None:
    users = ["0", "200000", "1000", "1000", "300000", "64536"]
    for remap in ("alice", "1000", "alice:alice", "1000:1000"):
        code, out, err = remapped(remap, "run", "--rm", "busybox", "sh", "-c", MAPS)
        assert (code, out.split(), err) == (0, [*users, "0", "400000", "65536"], "")


def test_files_are_the_containers_and_nobodys_outside(remapped: Any, minidock: Cli, root: Path) -> None:
    script = "touch /new; chown 1500:7 /new; stat -c '%u %g' /bin/busybox /new"
    assert remapped("alice", "run", "--name", "web", "busybox", "sh", "-c", script)[1] == "0 0\n1500 7\n"
    upper = next((root / "containers").glob("?*/upper/new"))
    assert (upper.stat().st_uid, upper.stat().st_gid) == (300500, 400007)
    # What it was made with stays, whatever daemon.json says later.
    assert minidock("start", "-a", "web").stdout == "0 0\n1500 7\n"
    minidock("cp", "-a", "web:/new", str(root / "copy"))
    assert (root / "copy").stat().st_uid == 1500
    assert minidock("inspect", "--format", "{{.HostConfig.UsernsMode}}", "web").stdout == "private\n"


@pytest.mark.parametrize("remap", ["", "alice"])
def test_a_commit_has_the_numbers_that_the_container_saw(
    remapped: Any, minidock: Cli, daemon_json: Path, tmp_path: Path, remap: str
) -> None:
    options = [] if remap else ["--userns", "private"]
    script = "touch /new; chown 5:6 /new; rm /etc/group; mkdir /made"
    assert remapped(remap, "run", *options, "--name", "web", "busybox", "sh", "-c", script)[0] == 0
    daemon_json.write_text("{}")
    minidock("commit", "web", "kept")
    for more in ([], ["--userns", "private"]):
        done = minidock(
            "run", "--rm", *more, "kept", "stat", "-c", "%u %g", "/new", "/made", "/", check=False
        )
        assert done.stdout == "5 6\n0 0\n0 0\n", done
    minidock("export", "-o", str(tmp_path / "tree.tar"), "web")
    with tarfile.open(tmp_path / "tree.tar") as archive:
        assert {(each.uid, each.gid) for each in archive} == {(0, 0), (5, 6)}


def test_host_gives_none(remapped: Any) -> None:
    code, out, _ = remapped("alice", "run", "--rm", "--userns", "host", "busybox", "sh", "-c", MAPS)
    assert code == 0 and out.split()[:3] == ["0", "0", "4294967295"]
    for flag in ("--privileged", "--network=host", "--pid=host"):
        code, _, err = remapped("alice", "run", "--rm", flag, "busybox", "true")
        assert code == 125 and "user namespaces" in err and "--userns host" in err
        done = remapped("alice", "run", "--rm", "--userns=host", flag, "busybox", "true")
        assert done[0] == 0, done


def test_default_is_dockers_user_or_a_range_of_nobodys(remapped: Any) -> None:
    _, out, _ = remapped("default", "run", "--rm", "busybox", "sh", "-c", MAPS)
    assert out.split() == ["0", "1879048192", "65536"] * 2
    known = {"passwd": PASSWD + "dockremap:x:999:999::/:/bin/false\n"}
    ranges = {"subuid": "dockremap:500000:65536\n", "subgid": "dockremap:600000:65536\n"}
    _, out, _ = remapped("default", "run", "--rm", "busybox", "sh", "-c", MAPS, **known, **ranges)
    assert out.split() == ["0", "500000", "65536", "0", "600000", "65536"]
    code, _, err = remapped("default", "run", "--rm", "busybox", "true", **known)
    assert code == 125 and "/etc/subuid has no range for the user dockremap" in err


@pytest.mark.parametrize(
    ("remap", "etc", "said"),
    [
        ("carol", {}, "userns-remap: no user carol on this machine"),
        ("4711", {}, "userns-remap: no user 4711 on this machine"),
        ("alice:staff", {}, "userns-remap: no group staff on this machine"),
        ("a:b:c", {}, "userns-remap: invalid value 'a:b:c'"),
        ("alice:", {}, "userns-remap: invalid value 'alice:'"),
        ("root", {}, "userns-remap: root cannot be remapped with itself"),
        ("bob", {}, "/etc/subuid has no range for the user bob"),
        ("alice", {"subgid": ""}, "/etc/subgid has no range for the user alice"),
        ("alice", {"subuid": "alice:many:1\n"}, "/etc/subuid, line 1: 'alice:many:1' is no range"),
        ("alice", {"subuid": "x:1:1\nalice:4294967295:2\n"}, "/etc/subuid, line 2:"),
    ],
)
def test_what_cannot_be(remapped: Any, minidock: Cli, remap: str, etc: dict[str, str], said: str) -> None:
    code, out, err = remapped(remap, "run", "busybox", "true", **etc)
    assert (code, out) == (125, "") and said in err and len(err.splitlines()) <= 2
    assert remapped(remap, "run", "--rm", "--userns", "host", "busybox", "true", **etc)[0] == 0
    assert remapped("alice", "ps", "-aq")[1] == ""


BUILD = """\
FROM busybox AS first
RUN cat /proc/self/uid_map; mkdir /made; echo 1 > /made/file; chown -R 1500:7 /made; chmod 4755 /made/file
FROM busybox
COPY --chown=1500:7 --from=first /made /copied
COPY --from=first /made /made
RUN rm /etc/group; ln /made/file /made/link; stat -c '%u %g %a' /made/file /copied/file /bin > /seen
RUN --mount=type=cache,target=/cache --mount=type=secret,id=key,target=/key \\
    cat /key && echo more >> /cache/log && cp /cache/log /log && stat -c '%u' /cache /key /cache/log
RUN <<EOF
#!/bin/sh
id -u
EOF
USER 1500
RUN echo mine > /tmp/mine
"""
SHOW = "cat /seen /log /tmp/mine; ls /etc/group; stat -c '%n %u %g %a' /made/file /made/link /tmp /tmp/mine"


def test_run_of_a_build_is_remapped(remapped: Any, minidock: Cli, daemon_json: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(BUILD)
    (context / "key").write_text("secret\n")
    build = ("build", "--no-cache", "-t", "built", "--secret", f"id=key,src={context}/key", str(context))
    for number in (1, 2):
        code, out, err = remapped("alice", *build)
        assert code == 0, err
        assert ["0", "200000", "1000"] in [line.split() for line in out.splitlines()]  # nobody's
        assert "secret\n0\n0\n0\n" in out  # cache, secret and new files are the container's root's
        daemon_json.write_text("{}")  # on disk the image has the numbers that RUN saw
        done = minidock("run", "--rm", "--user", "0", "built", "sh", "-c", SHOW, check=False)
        seen = "1500 7 4755\n1500 7 4755\n0 0 755\n" + "more\n" * number + "mine\n"
        assert done.stdout == seen + (
            "/made/file 1500 7 4755\n/made/link 1500 7 4755\n/tmp 0 0 1777\n/tmp/mine 1500 0 644\n"
        )
        assert "/etc/group" in done.stderr


def test_run_on_the_hosts_network_cannot_be_remapped(remapped: Any, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN --network=host true\n")
    code, _, err = remapped("alice", "build", str(context))
    assert code == 1 and "cannot share the host's network namespace when user namespaces are enabled" in err


def test_a_files_capabilities_lose_the_number_of_the_containers_root(
    remapped: Any, minidock: Cli, root: Path
) -> None:
    """The kernel notes whose capabilities they are; on another machine that number is somebody else."""
    assert remapped("alice", "run", "--name", "web", "busybox", "touch", "/ping")[0] == 0
    upper = next((root / "containers").glob("?*/upper/ping"))
    header, bits = 0x02000001, (1 << 13, 1 << 13, 0, 0)  # version 2, effective; NET_RAW
    os.setxattr(upper, "security.capability", struct.pack("<6I", header + (1 << 24), *bits, 200000))
    minidock("commit", "web", "kept")
    layer = next((root / "layers").glob("*/ping"))
    assert os.getxattr(layer, "security.capability") == struct.pack("<5I", header, *bits)


def test_info_says_so(remapped: Any) -> None:
    assert "userns" in remapped("alice", "info", "--format", "{{.SecurityOptions}}")[1]
