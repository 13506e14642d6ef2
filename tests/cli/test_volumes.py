"""``minidock volume`` and ``minidock cp`` from outside: what they print, where, and their exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[Any]]
pytestmark = pytest.mark.usefixtures("busybox")


@pytest.fixture
def volumes(minidock: Cli, busybox: Path) -> None:
    minidock("volume", "create", "--label", "tier=front", "--label", "b", "web")
    minidock("volume", "create", "-d", "local", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
    minidock("create", "--name", "user", "-v", "web:/d:ro", "-v", "/anon", "busybox", "true")


# ── volume ───────────────────────────────────────────────────────────────────────────────────────────


def test_create_prints_the_name_and_is_silent_about_one_that_is_there(minidock: Cli) -> None:
    assert minidock("volume", "create", "web").stdout == "web\n"
    assert minidock("volume", "create", "web").stdout == "web\n"
    assert len(minidock("volume", "create").stdout.strip()) == 64
    assert minidock("volume", "create", "--name", "old").stdout == "old\n"


@pytest.mark.usefixtures("volumes")
def test_ls(minidock: Cli) -> None:
    head, *lines = minidock("volume", "ls").stdout.splitlines()
    assert head == "DRIVER    VOLUME NAME"
    assert [line.split() for line in lines][1:] == [["local", "mem"], ["local", "web"]]
    assert minidock("volume", "ls", "-q", "-f", "name=^m").stdout == "mem\n"
    assert minidock("volume", "ls", "-qf", "dangling=true").stdout == "mem\n"
    shown = minidock(
        "volume", "ls", "-f", "label=tier", "--format", '{{.Name}} {{.Label "tier"}} {{.Labels}} {{.Scope}}'
    )
    assert shown.stdout == "web front b=,tier=front local\n"
    table = minidock("volume", "ls", "--format", "table {{.Name}}\t{{.Size}}", "-f", "name=mem").stdout
    assert table.split() == ["VOLUME", "NAME", "SIZE", "mem", "N/A"]
    found = json.loads(minidock("volume", "ls", "--format", "json", "-f", "name=mem").stdout)
    assert (found["Driver"], found["Links"]) == ("local", "N/A")


@pytest.mark.usefixtures("volumes")
def test_inspect_tells_who_uses_it(minidock: Cli, root: Path) -> None:
    (found,) = json.loads(minidock("volume", "inspect", "web").stdout)
    ((identifier, user),) = found.pop("Containers").items()
    assert user == {"Name": "user", "Destination": "/d", "RW": False}
    assert identifier == minidock("inspect", "-f", "{{.Id}}", "user").stdout.strip()
    assert found.pop("CreatedAt").endswith("Z")
    assert found == {
        "Driver": "local",
        "Labels": {"tier": "front", "b": ""},
        "Mountpoint": f"{root}/volumes/web/_data",
        "Name": "web",
        "Options": None,
        "Scope": "local",
    }
    assert minidock("inspect", "--type", "volume", "-f", "{{.Options.type}}", "mem").stdout == "tmpfs\n"
    assert minidock("inspect", "-f", "{{.Name}}", "mem").stdout == "mem\n"
    missing = minidock("volume", "inspect", "nope", check=False)
    assert (missing.returncode, missing.stdout) == (1, "[]\n")
    assert missing.stderr == "minidock: get nope: no such volume\n"


@pytest.mark.usefixtures("volumes")
def test_a_container_s_mounts_as_docker_shows_them(minidock: Cli, root: Path, tmp_path: Path) -> None:
    minidock(
        *("create", "--name", "c1", "-v", f"{tmp_path}:/b:ro,rslave,z", "-v", "web:/w", "-v", "/x"),
        *("--mount", f"type=bind,src={tmp_path},dst=/m,bind-recursive=disabled", "--tmpfs", "/t:size=1m"),
        *("--mount", "type=tmpfs,dst=/t2,tmpfs-size=1m,tmpfs-mode=700", "busybox", "true"),
        check=False,
    )
    # a source that is not shared cannot be rslave: only the start says so
    found = json.loads(minidock("inspect", "c1").stdout)[0]
    by_target = {mount["Destination"]: mount for mount in found["Mounts"]}
    anonymous = by_target["/x"]["Name"]
    assert by_target == {
        "/b": {
            "Type": "bind",
            "Source": str(tmp_path),
            "Destination": "/b",
            "Mode": "ro,rslave,z",
            "RW": False,
            "Propagation": "rslave",
        },
        "/m": {
            "Type": "bind",
            "Source": str(tmp_path),
            "Destination": "/m",
            "Mode": "",
            "RW": True,
            "Propagation": "rprivate",
        },
        "/t2": {
            "Type": "tmpfs",
            "Source": "",
            "Destination": "/t2",
            "Mode": "",
            "RW": True,
            "Propagation": "",
        },
        "/w": {
            "Type": "volume",
            "Name": "web",
            "Source": f"{root}/volumes/web/_data",
            "Destination": "/w",
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        },
        "/x": {
            "Type": "volume",
            "Name": anonymous,
            "Source": f"{root}/volumes/{anonymous}/_data",
            "Destination": "/x",
            "Driver": "local",
            "Mode": "",
            "RW": True,
            "Propagation": "",
        },
    }
    host = found["HostConfig"]
    assert host["Binds"] == [f"{tmp_path}:/b:ro,rslave,z", "web:/w"]
    assert host["Tmpfs"] == {"/t": "size=1m"}
    assert host["Mounts"] == [
        {"Type": "bind", "Source": str(tmp_path), "Target": "/m", "BindOptions": {"NonRecursive": True}},
        {"Type": "tmpfs", "Target": "/t2", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}},
    ]
    assert found["Config"]["Volumes"] == {"/x": {}}
    shown = minidock("ps", "-af", "name=c1", "--no-trunc", "--format", "{{.Mounts}} {{.LocalVolumes}}")
    assert shown.stdout.split()[1] == "2"
    assert f",web,{anonymous} " in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["volume", "rm", "nope"], 1, "get nope: no such volume"),
        (["volume", "rm"], 1, "'minidock volume rm' requires at least 1 argument"),
        (["volume", "create", "a", "b"], 1, "'minidock volume create' requires at most 1 argument"),
        (["volume", "create", "x"], 1, "create x: volume name is too short"),
        (["volume", "create", "a/b"], 1, 'create a/b: "a/b" includes invalid characters'),
        (["volume", "create", "../../etc"], 1, "includes invalid characters"),
        (["volume", "create", "-d", "nfs", "xx"], 1, 'plugin "nfs" not found'),
        (["volume", "create", "-o", "o=bind", "xx"], 1, 'missing required option: "device"'),
        (["volume", "create", "-o", "size=1m", "xx"], 1, "no quota support"),
        (["volume", "ls", "-f", "colour=red"], 1, "invalid filter 'colour'"),
        (["volume", "ls", "-f", "dangling=perhaps"], 1, "invalid filter 'dangling=[perhaps]'"),
        (["volume", "prune", "-f", "--filter", "until=1h"], 1, "invalid filter 'until'"),
        (["volume", "inspect", "../containers"], 1, "get ../containers: no such volume"),
        (["volume", "rm", ""], 1, "get : no such volume"),
        (["volume", "rm", "../containers"], 1, "get ../containers: no such volume"),
        (["volume", "rm", "-f", "."], 0, ""),
        (
            ["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
            1,
            'The "until" filter is not supported',
        ),
        (["cp", "a"], 1, "'minidock cp' requires 2 arguments"),
        (["cp", "a", "b"], 1, "must specify at least one container source"),
        (["cp", "a:/x", "b:/y"], 1, "copying between containers is not supported"),
        (["cp", "", "b:/y"], 1, "source can not be empty"),
        (["cp", "/tmp", ""], 1, "destination can not be empty"),
        (["cp", "nope:/x", "."], 1, "No such container: nope"),
        (["cp", "./nope:x", "nope:/x"], 1, "No such container: nope"),
    ],
)
def test_mistakes(minidock: Cli, arguments: list[str], code: int, message: str) -> None:
    done = minidock(*arguments, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") <= 3  # the usage of cp takes two
    assert minidock("volume", "ls", "-q").stdout == ""


@pytest.mark.usefixtures("volumes")
def test_rm_and_its_refusal(minidock: Cli) -> None:
    done = minidock("volume", "rm", "web", "mem", "nope", check=False)
    assert (done.returncode, done.stdout) == (1, "mem\n")
    assert "remove web: volume is in use - [" in done.stderr
    assert "get nope: no such volume" in done.stderr
    assert minidock("volume", "rm", "-f", "nope").stdout == "nope\n"
    minidock("rm", "-v", "user")
    assert minidock("volume", "ls", "-q").stdout == "web\n"


@pytest.mark.usefixtures("volumes")
def test_prune_asks_and_names_what_goes(minidock: Cli) -> None:
    anonymous = minidock("volume", "create").stdout
    asked = minidock("volume", "prune", input="n\n")
    assert "remove anonymous local volumes not used by at least one container" in asked.stdout
    assert minidock("volume", "prune", input="y\n").stdout.endswith(
        f"Deleted Volumes:\n{anonymous}\nTotal reclaimed space: 0B\n"
    )
    assert "mem\n" in minidock("volume", "prune", "-af").stdout
    minidock("rm", "user")
    asked = minidock("system", "prune", "--volumes", input="y\n")
    assert "all anonymous volumes not used by at least one container" in asked.stdout
    assert minidock("volume", "ls", "-q").stdout == "web\n"


@pytest.mark.usefixtures("volumes")
def test_df_info_and_reset_know_volumes(minidock: Cli, root: Path) -> None:
    (root / "volumes/web/_data/five").write_bytes(b"12345")
    line = minidock("system", "df").stdout.splitlines()[-2]
    assert line.split() == ["Local", "Volumes", "3", "2", "5B", "0B", "(0%)"]
    details = minidock("system", "df", "-v").stdout
    assert ["web", "1", "5B"] in [line.split() for line in details.splitlines()]
    assert "Volume Drivers: local" in minidock("info").stdout
    asked = minidock("reset", input="n\n", check=False)
    assert "3 volumes with all their data" in asked.stdout
    assert "removed 3 volumes" in minidock("reset", "-y").stdout
    assert not (root / "volumes").exists()


# ── cp ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def box(minidock: Cli, busybox: Path) -> None:
    minidock("run", "-d", "--name", "box", "busybox", "sleep", "1000")


@pytest.mark.usefixtures("box")
def test_cp_both_ways_and_what_it_says(minidock: Cli, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("hello\n")
    done = minidock("cp", tmp_path / "page", "box:/tmp/")
    assert (done.stdout, done.stderr) == ("", "Successfully copied 3.07kB to box:/tmp/\n")
    assert minidock("exec", "box", "cat", "/tmp/page").stdout == "hello\n"
    done = minidock("cp", "box:/tmp/page", tmp_path / "back")
    assert done.stderr == f"Successfully copied 3.07kB to {tmp_path}/back\n"
    assert (tmp_path / "back").read_text() == "hello\n"
    assert minidock("cp", "-q", "box:/tmp/page", tmp_path / "back").stderr == ""
    assert minidock("container", "cp", "box:/tmp/page", ".", cwd=tmp_path, check=False).returncode == 0


@pytest.mark.usefixtures("box")
def test_cp_of_tar_streams(minidock: Cli) -> None:
    out = minidock("cp", "box:/etc", "-", text=False)
    archive = tarfile.open(fileobj=io.BytesIO(out.stdout))
    assert {"etc", "etc/passwd"} <= set(archive.getnames())
    assert out.stderr == b""
    done = minidock("cp", "-", "box:/tmp", input=out.stdout, text=False)
    assert b"Successfully copied" in done.stderr
    assert minidock("exec", "box", "sh", "-c", "cmp /etc/passwd /tmp/etc/passwd").stdout == ""
    refused = minidock("cp", "-", "box:/etc/passwd", input=b"", text=False, check=False)
    assert refused.returncode == 1
    assert b'destination "box:/etc/passwd" must be a directory' in refused.stderr
    garbage = minidock("cp", "-", "box:/tmp", input=os.urandom(2000), text=False, check=False)
    assert garbage.returncode == 1
    assert garbage.stderr.count(b"\n") <= 2
    minidock("exec", "box", "ln", "-s", "/etc/passwd", "/l")
    followed = minidock("cp", "-L", "box:/l", "-", text=False).stdout
    assert tarfile.open(fileobj=io.BytesIO(followed)).getmembers()[0].isreg()


@pytest.mark.usefixtures("box")
def test_cp_into_itself_through_a_pipe(minidock: Cli) -> None:
    """Both ends have the container open at once; more goes through than a pipe holds."""
    minidock("exec", "box", "sh", "-c", "mkdir /a /b; head -c 1000000 /dev/urandom > /a/x")
    command = minidock("cp", "--help").args[:-2]
    first = subprocess.Popen([*command, "cp", "box:/a/.", "-"], stdout=subprocess.PIPE)
    minidock("cp", "-", "box:/b", stdin=first.stdout)
    assert first.wait() == 0
    assert minidock("exec", "box", "cmp", "/a/x", "/b/x").stdout == ""


def test_a_local_name_with_a_colon(minidock: Cli, tmp_path: Path) -> None:
    minidock("create", "--name", "box", "busybox")
    (tmp_path / "a:b").write_text("x")
    minidock("cp", "./a:b", "box:/", cwd=tmp_path)
    minidock("cp", "box:/a:b", tmp_path / "c:d")
    assert (tmp_path / "c:d").read_text() == "x"
