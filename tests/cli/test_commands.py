"""The command, from outside: what it prints, where, and which exit code it gives."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import REPOSITORY

Cli = Callable[..., subprocess.CompletedProcess[Any]]
pytestmark = pytest.mark.usefixtures("busybox")


def ids(minidock: Cli, *arguments: str) -> list[str]:
    return list(minidock("ps", "-aq", *arguments).stdout.split())


# ---- run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["/no/such/program"], 127),
    ],
)
def test_the_exit_code_of_run_is_the_containers(minidock: Cli, command: list[str], code: int) -> None:
    assert minidock("run", "--rm", "busybox", *command, check=False).returncode == code


def test_run_keeps_output_and_errors_apart_and_every_byte(minidock: Cli) -> None:
    script = "printf 'a\\377\\000b'; printf 'error' >&2"
    done = minidock("run", "--rm", "busybox", "sh", "-c", script, text=False)
    assert (done.stdout, done.stderr) == (b"a\xff\x00b", b"error")


def test_run_reads_its_input_when_interactive(minidock: Cli) -> None:
    data = os.urandom(300_000)
    assert minidock("run", "-i", "--rm", "busybox", "cat", input=data, text=False).stdout == data
    assert minidock("run", "--rm", "busybox", "cat", input=data, text=False).stdout == b""


def test_run_with_terminal_needs_one(minidock: Cli) -> None:
    done = minidock("run", "-it", "--rm", "busybox", "true", check=False)
    assert done.returncode == 1
    assert "the input device is not a TTY" in done.stderr


def test_words_after_the_image_belong_to_the_command(minidock: Cli) -> None:
    assert minidock("run", "--rm", "busybox", "echo", "--rm", "-x", "--name").stdout == "--rm -x --name\n"


def test_run_detached_prints_the_long_id(minidock: Cli) -> None:
    found = minidock("run", "-d", "--name", "sleeper", "busybox", "sleep", "100").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", found)
    assert minidock("inspect", "-f", "{{.State.Status}} {{.Id}}", "sleeper").stdout == f"running {found}\n"


def test_a_missing_image_is_pulled_with_docker_s_words_on_stderr(minidock: Cli, registry: str) -> None:
    done = minidock("run", "--rm", "hello-world")
    assert done.stderr.startswith("Unable to find image 'hello-world:latest' locally\n")
    assert "Status: Downloaded newer image for hello-world:latest" in done.stderr
    assert "Hello" in done.stdout


def test_pull_never(minidock: Cli) -> None:
    done = minidock("run", "--pull", "never", "--rm", "nothere", check=False)
    assert done.returncode == 125
    assert "No such image: nothere:latest" in done.stderr
    assert "Unable to find" not in done.stderr


def test_environment_labels_and_directory_reach_the_container(minidock: Cli, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FROM_FILE=1\n")
    options = ["-e", "A=b c", "--env-file", str(file), "-w", "/tmp", "-u", "nobody", "-h", "box", "-l", "x=y"]
    script = 'echo "$A $FROM_FILE $PWD $(id -un) $(hostname)"'
    done = minidock("run", "--name", "n1", *options, "busybox", "sh", "-c", script)
    assert done.stdout == "b c 1 /tmp nobody box\n"
    assert minidock("inspect", "-f", '{{index .Config.Labels "x"}}', "n1").stdout == "y\n"


def test_cidfile(minidock: Cli, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    minidock("run", "--cidfile", file, "--name", "n1", "busybox", "true")
    assert file.read_text() == minidock("inspect", "-f", "{{.Id}}", "n1").stdout.strip()
    again = minidock("run", "--cidfile", file, "busybox", "true", check=False)
    assert again.returncode == 125
    assert "container ID file found" in again.stderr


def test_bind_mounts_and_tmpfs(minidock: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    script = "cat /a/file; echo x > /a/new || echo refused; df /t | tail -1 | cut -d' ' -f1"
    options = ["-v", f"{tmp_path}:/a:ro", "--tmpfs", "/t:size=1m"]
    done = minidock("run", "--rm", *options, "busybox", "sh", "-c", script)
    assert done.stdout == "host\nrefused\ntmpfs\n"
    missing = minidock("run", "--mount", "type=bind,src=/no/such,dst=/a", "busybox", "true", check=False)
    assert missing.returncode == 125
    assert "bind source path does not exist: /no/such" in missing.stderr


def test_a_taken_name_is_a_conflict(minidock: Cli) -> None:
    minidock("create", "--name", "web", "busybox", "true")
    done = minidock("run", "--name", "web", "busybox", "true", check=False)
    assert done.returncode == 125
    assert 'The container name "/web" is already in use by container' in done.stderr


def test_with_rm_nothing_stays_even_when_it_never_started(minidock: Cli) -> None:
    minidock("run", "--rm", "busybox", "true")
    minidock("run", "--rm", "busybox", "no-such-program", check=False)
    assert ids(minidock) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--nmae", "x", "busybox"], 125, "unknown flag: --nmae"),
        (["run"], 1, "'minidock run' requires at least 1 argument"),
        (["run", "-p", "80:eighty", "busybox"], 125, "invalid containerPort: eighty"),
        (["run", "--ip", "10.0.0.9", "busybox"], 125, "supported on user defined networks only"),
        (["run", "--network", "mynet", "busybox"], 125, "network mynet not found"),
        (["run", "UPPER"], 125, "must be lowercase"),
        (["run", "-m", "1m", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
        (["run", "--cpus", "100000", "busybox"], 125, "range of CPUs is from 0.01"),
        (["run", "-w", "relative", "busybox"], 125, "needs to be an absolute path"),
        (["run", "-v", "a b:/x", "busybox"], 125, "invalid characters for a local volume name"),
        (["run", "--volumes-from", "nope", "busybox"], 125, "No such container: nope"),
        (["run", "--pid", "container:nope", "busybox"], 125, "No such container: nope"),
        (["create", "-d", "busybox"], 125, "unknown shorthand flag: 'd' in -d"),
        (["ps", "--foo"], 125, "unknown flag: --foo"),
        (["ps", "-f", "colour=red"], 1, "invalid filter 'colour'"),
        (["ps", "word"], 1, "'minidock ps' accepts no arguments"),
        (["rm"], 1, "'minidock rm' requires at least 1 argument"),
        (["tag", "a"], 1, "'minidock tag' requires 2 arguments"),
        (["start", "nope"], 1, "No such container: nope"),
        (["logs", "nope"], 1, "No such container: nope"),
        (["exec", "nope", "ls"], 1, "No such container: nope"),
        (["exec", "nope"], 1, "'minidock exec' requires at least 2 arguments"),
        (["wait", "nope"], 1, "No such container: nope"),
        (["inspect", "nope"], 1, "No such object: nope"),
        (["image", "inspect", "nope"], 1, "No such image: nope"),
        (["rmi", "nope"], 1, "No such image: nope"),
        (["history", "nope"], 1, "No such image: nope"),
        (["frobnicate"], 1, "'frobnicate' is not a minidock command"),
        (["container", "frob"], 1, "'container frob' is not a minidock command"),
        (["network", "inspect", "nope"], 1, "network nope not found"),
        (["network", "rm", "bridge"], 1, "bridge is a pre-defined network and cannot be removed"),
        (["network", "create", "host"], 1, "operation is not permitted on predefined host network"),
        (["port", "nope"], 1, "No such container: nope"),
        (["build"], 1, "'minidock build' requires 1 argument"),
        (["--nosuch"], 1, "unknown flag: --nosuch"),
    ],
)
def test_mistakes_get_one_clear_line(minidock: Cli, arguments: list[str], code: int, message: str) -> None:
    done = minidock(*arguments, check=False)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    assert done.stdout in ("", "[]\n")
    assert done.returncode == (125 if arguments == ["--nosuch"] else code)


def test_a_missing_root_directory_means_no_containers(minidock: Cli, tmp_path: Path) -> None:
    assert minidock("--root", tmp_path / "fresh", "ps", "-aq").stdout == ""
    assert minidock("--root", tmp_path / "fresh", "images", "-q").stdout == ""


def test_a_configuration_that_was_asked_for_must_be_there(minidock: Cli, tmp_path: Path) -> None:
    done = minidock("--config", tmp_path / "nope.json", "ps", check=False)
    assert done.returncode == 1
    assert "no such file" in done.stderr
    (tmp_path / "bad.json").write_text('{"registry-mirror": []}')
    done = minidock("--config", tmp_path / "bad.json", "ps", check=False)
    assert "unknown key 'registry-mirror'" in done.stderr


def test_whoever_is_not_root_is_told(minidock: Cli, root: Path) -> None:
    if not all(place.stat().st_mode & 0o001 for place in REPOSITORY.parents):
        pytest.skip(f"{REPOSITORY}: nobody but root reaches the command here")
    root.chmod(0o700)
    done = minidock("ps", check=False, user=65534)
    assert done.returncode == 1
    assert "minidock needs root: put sudo before the command." in done.stderr


# ---- ps ---------------------------------------------------------------------------------------------


def test_ps_has_docker_s_columns(minidock: Cli) -> None:
    minidock("run", "--name", "done", "busybox", "sh", "-c", "exit 3", check=False)
    found = minidock("run", "-d", "--name", "up", "busybox", "sleep", "100").stdout.strip()
    head, line = minidock("ps").stdout.splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert re.split(r"\s{2,}", head) == [
        *("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
    ]
    assert line.startswith(f'{found[:12]}   busybox   "sleep 100"   ')
    assert line[head.index("NAMES") :] == "up"
    everything = minidock("ps", "-a", "--no-trunc").stdout
    assert found in everything
    assert "\"sh -c 'exit 3'\"" in everything
    assert "Exited (3)" in everything


def test_ps_filters(minidock: Cli) -> None:
    minidock("create", "--name", "made", "-l", "tier=web", "busybox", "true")
    minidock("run", "--name", "over", "-l", "tier=db", "busybox", "sh", "-c", "exit 3", check=False)
    minidock("run", "-d", "--name", "up", "busybox", "sleep", "100")

    def names(*filters: str) -> set[str]:
        words = [word for each in filters for word in ("-f", each)]
        return set(minidock("ps", "-a", "--format", "{{.Names}}", *words).stdout.split())

    assert names() == {"made", "over", "up"}
    assert names("status=exited") == {"over"}
    assert names("status=exited", "status=created") == {"over", "made"}
    assert names("exited=3") == {"over"}
    assert names("exited=0") == set()
    assert names("name=^o") == {"over"}
    assert names("label=tier") == {"made", "over"}
    assert names("label=tier=web") == {"made"}
    assert names("ancestor=busybox") == {"made", "over", "up"}
    assert names("ancestor=other") == set()
    assert names("before=over") == {"made"}
    assert names("since=over") == {"up"}
    assert names("network=bridge", "status=running") == {"up"}
    assert minidock("ps", "-q", "-f", "status=exited").stdout.strip()  # without -a, too
    assert len(ids(minidock, "-n", "2")) == 2
    assert minidock("ps", "-l", "--format", "{{.Names}}").stdout == "up\n"


def test_ps_formats(minidock: Cli) -> None:
    minidock("create", "--name", "made", "-l", "a.b-c=1", "busybox", "echo", "hi")
    assert minidock("ps", "-a", "--format", "{{.Names}}|{{.Command}}|{{.State}}").stdout == (
        'made|"echo hi"|created\n'
    )
    row = json.loads(minidock("ps", "-a", "--format", "json").stdout)
    assert (row["Names"], row["Image"], row["Labels"]) == ("made", "busybox", "a.b-c=1")
    shown = minidock("ps", "-a", "--format", 'table {{.Names}}\\t{{.Status}}\\t{{.Label "a.b-c"}}').stdout
    assert shown == "NAMES     STATUS    b c\nmade      Created   1\n"
    broken = minidock("ps", "-a", "--format", "{{.Nmaes}}", check=False)
    assert broken.returncode == 1
    assert "Nmaes" in broken.stderr
    assert "Fields: .Command" in broken.stderr
    assert minidock("ps", "-a", "-s", "--format", "{{.Size}}").stdout.startswith("0B (virtual ")


# ---- a life -----------------------------------------------------------------------------------------


def test_create_start_attached_restart_and_remove(minidock: Cli) -> None:
    made = minidock("create", "--name", "n1", "-i", "busybox", "sh", "-c", "read x; echo got $x; exit 5")
    assert re.fullmatch("[0-9a-f]{64}\n", made.stdout)
    done = minidock("start", "-ai", "n1", input="line\n", check=False)
    assert (done.stdout, done.returncode) == ("got line\n", 5)
    assert minidock("logs", "n1").stdout == "got line\n"
    again = minidock("start", "-ai", "n1", input="more\n", check=False)
    assert again.stdout == "got more\n"
    assert minidock("rm", "n1").stdout == "n1\n"
    assert ids(minidock) == []


def test_stop_kill_pause_wait_and_rename(minidock: Cli) -> None:
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "100")
    assert minidock("pause", "web").stdout == "web\n"
    assert "(Paused)" in minidock("ps").stdout
    assert minidock("unpause", "web").stdout == "web\n"
    minidock("rename", "web", "db")
    refused = minidock("rm", "db", check=False)
    assert refused.returncode == 1
    assert "stop the container before removing or force remove" in refused.stderr
    assert minidock("stop", "-t", "0", "db").stdout == "db\n"
    assert minidock("wait", "db").stdout == "137\n"
    minidock("restart", "-t", "0", "db")
    assert minidock("kill", "-s", "KILL", "db").stdout == "db\n"
    assert "is not running" in minidock("kill", "db", check=False).stderr
    assert minidock("rm", "-f", "db", "nope", check=False).returncode == 0


def test_several_names_go_on_after_a_failure(minidock: Cli) -> None:
    minidock("create", "--name", "web", "busybox", "true")
    minidock("create", "--name", "db", "busybox", "true")
    done = minidock("rm", "web", "nope", "db", check=False)
    assert (done.stdout, done.returncode) == ("web\ndb\n", 1)
    assert done.stderr == "minidock: No such container: nope\n"


def test_ids_may_be_shortened(minidock: Cli) -> None:
    found = minidock("create", "--name", "web", "busybox", "true").stdout.strip()
    for form in (found, found[:12], found[:5], "web"):
        assert minidock("inspect", "-f", "{{.Name}}", form).stdout == "/web\n"


def test_exec(minidock: Cli) -> None:
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "100")
    script = "echo $X $PWD; cat; exit 7"
    done = minidock(
        "exec", "-i", "-e", "X=1", "-w", "/tmp", "web", "sh", "-c", script, input="in\n", check=False
    )
    assert (done.stdout, done.returncode) == ("1 /tmp\nin\n", 7)
    assert minidock("exec", "web", "no-such-program", check=False).returncode == 127
    assert minidock("exec", "-d", "web", "touch", "/made").stdout == ""
    minidock("kill", "web")
    stopped = minidock("exec", "web", "true", check=False)
    assert stopped.returncode == 1
    assert "is not running" in stopped.stderr


def test_logs(minidock: Cli) -> None:
    script = "echo one; echo two >&2; echo three"
    minidock("run", "--name", "web", "busybox", "sh", "-c", script)
    done = minidock("logs", "web")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    minidock("run", "--name", "lines", "busybox", "seq", "5")
    assert minidock("logs", "-n", "2", "lines").stdout == "4\n5\n"
    stamped = minidock("logs", "-t", "web").stdout
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z one\n", stamped)
    assert minidock("logs", "--since", "1h", "web").stdout == "one\nthree\n"
    assert minidock("logs", "--until", "1h", "web").stdout == ""
    assert minidock("logs", "-f", "web").stdout == "one\nthree\n"


def test_top_stats_and_diff(minidock: Cli) -> None:
    minidock(
        "run", "-d", "--name", "web", "busybox", "sh", "-c", "touch /new; rm /etc/group; sleep 100 & wait"
    )
    minidock("exec", "web", "sh", "-c", "until [ -e /new ]; do :; done")
    head, *rows = minidock("top", "web").stdout.splitlines()
    assert head.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any(row.endswith("sleep 100") for row in rows)
    form = "{{.Name}} {{.PIDs}} {{.MemUsage}}"
    assert re.match(
        r"web 2 [\d.]+[KM]iB / [\d.]+GiB", minidock("stats", "--no-stream", "--format", form).stdout
    )
    assert minidock("diff", "web").stdout.splitlines() == ["C /etc", "D /etc/group", "A /new"]


# ---- images -----------------------------------------------------------------------------------------


def test_images_tag_rmi(minidock: Cli) -> None:
    head, line = minidock("images").stdout.splitlines()
    assert re.split(r"\s{2,}", head) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    assert re.match(r"busybox      latest    [0-9a-f]{12}   ", line)
    minidock("tag", "busybox", "local/other:1")
    assert minidock("images", "-q", "--no-trunc").stdout.count("\n") == 1
    shown = minidock("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert sorted(shown) == ["busybox:latest", "local/other:1"]
    assert minidock("images", "-q", "other").stdout == ""
    both = minidock("images", "--format", "{{.Tag}}", "local/*").stdout.split()
    assert sorted(both) == ["1"]
    assert minidock("rmi", "local/other:1").stdout == "Untagged: local/other:1\n"
    removed = minidock("rmi", "busybox").stdout
    assert removed.startswith("Untagged: busybox:latest\n")
    assert "Deleted: sha256:" in removed
    assert minidock("image", "ls", "-q").stdout == ""


def test_an_image_in_use_stays(minidock: Cli) -> None:
    minidock("create", "--name", "web", "busybox", "true")
    done = minidock("rmi", "busybox", check=False)
    assert done.returncode == 1
    assert "conflict: unable to remove repository reference" in done.stderr


def test_inspect_finds_out_what_it_is(minidock: Cli) -> None:
    minidock("create", "--name", "web", "-m", "64m", "busybox", "true")
    container, image = json.loads(minidock("inspect", "web", "busybox").stdout)
    assert (container["Name"], container["HostConfig"]["Memory"]) == ("/web", 64 << 20)
    assert image["RepoTags"] == ["busybox:latest"]
    assert container["Image"] == image["Id"]
    assert minidock("inspect", "--type", "image", "web", check=False).returncode == 1
    assert json.loads(minidock("inspect", "-s", "web").stdout)[0]["SizeRootFs"] > 0
    partly = minidock("inspect", "-f", "{{.Id}}", "web", "nope", check=False)
    assert partly.stdout.strip() == container["Id"]
    assert "No such object: nope" in partly.stderr
    missing = minidock("inspect", "-f", "{{.Nope}}", "web", check=False)
    assert missing.returncode == 1
    assert 'map has no entry for key "Nope"' in missing.stderr


def test_history(minidock: Cli) -> None:
    head, *rows = minidock("history", "busybox").stdout.splitlines()
    assert re.split(r"\s{2,}", head) == ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    assert rows


def test_save_and_load(minidock: Cli, tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    minidock("save", "-o", file, "busybox")
    before = minidock("images", "-q").stdout
    minidock("rmi", "busybox")
    assert minidock("load", "-i", file).stdout == "Loaded image: busybox:latest\n"
    assert minidock("images", "-q").stdout == before
    assert minidock("save", "-o", tmp_path / "nope.tar", "nope", check=False).returncode == 1
    assert not (tmp_path / "nope.tar").exists()
    assert minidock("run", "--rm", "busybox", "echo", "ok").stdout == "ok\n"


def test_save_never_replaces_what_is_no_file(minidock: Cli, tmp_path: Path) -> None:
    """Moved over /dev/null, a finished archive would take the device away from the whole machine."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file.tar"
    os.mkfifo(pipe)
    link.symlink_to(file)
    with (tmp_path / "copy").open("w+b") as copy, subprocess.Popen(["cat", pipe], stdout=copy) as reader:
        minidock("save", "-o", pipe, "busybox")
        reader.wait(30)
        copy.seek(0)
        shown = copy.read()
    assert pipe.is_fifo() and tarfile.open(fileobj=io.BytesIO(shown)).getnames()
    minidock("save", "-o", link, "busybox")
    assert link.is_symlink() and file.read_bytes() == shown


@pytest.mark.parametrize("running", [True, False])
def test_export_and_import(minidock: Cli, tmp_path: Path, running: bool) -> None:
    script = f"echo mine > /mine; rm /etc/group; {'sleep 100' if running else ''}"
    minidock("run", *(["-d"] if running else []), "--name", "web", "busybox", "sh", "-c", script)
    if running:
        minidock("exec", "web", "sh", "-c", "while [ -e /etc/group ]; do :; done")
    data = minidock("export", "web", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        assert archive.extractfile("mine").read() == b"mine\n"  # type: ignore[union-attr]
    assert "etc/group" not in names
    image = minidock("import", "-c", 'CMD ["cat", "/mine"]', "-", "flat", input=data, text=False).stdout
    assert re.fullmatch(b"sha256:[0-9a-f]{64}\n", image)
    assert minidock("run", "--rm", "flat").stdout == "mine\n"


def test_pull_prints_what_docker_prints(minidock: Cli, registry: str) -> None:
    lines = minidock("pull", "hello-world").stdout.splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from library/hello-world"]
    assert re.fullmatch("[0-9a-f]{12}: Pulling fs layer", lines[2])
    assert re.fullmatch("Digest: sha256:[0-9a-f]{64}", lines[-3])
    assert lines[-2:] == [
        "Status: Downloaded newer image for hello-world:latest",
        "docker.io/library/hello-world:latest",
    ]
    again = minidock("pull", "hello-world:latest").stdout.splitlines()
    assert again[-2] == "Status: Image is up to date for hello-world:latest"
    assert minidock("pull", "-q", "hello-world").stdout == "docker.io/library/hello-world:latest\n"


def test_push_and_login(minidock: Cli, writable_registry: str) -> None:
    minidock("tag", "busybox", f"{writable_registry}/mine:1")
    shown = minidock("push", f"{writable_registry}/mine:1").stdout
    assert shown.startswith(f"The push refers to repository [{writable_registry}/mine]\n")
    assert shown.count("The push refers") == 1
    assert re.search(r"1: digest: sha256:[0-9a-f]{64} size: \d+\n$", shown)
    assert f"{writable_registry}/mine" in minidock("search", f"{writable_registry}/mine").stdout
    asked = minidock("login", writable_registry, check=False)
    assert asked.returncode == 1
    assert "not a terminal" in asked.stderr
    done = minidock("login", "-u", "me", "--password-stdin", writable_registry, input="secret")
    assert done.stdout == "Login Succeeded\n"
    assert "secret" not in done.stderr
    assert minidock("logout", writable_registry).stdout.startswith("Removing login credentials")


# ---- the whole --------------------------------------------------------------------------------------


def test_prune_asks_first(minidock: Cli) -> None:
    minidock("run", "--name", "web", "busybox", "touch", "/x")
    assert "Are you sure" in minidock("container", "prune", input="n\n").stdout
    found = ids(minidock, "--no-trunc")
    done = minidock("container", "prune", "-f").stdout
    assert done.splitlines()[:2] == ["Deleted Containers:", found[0]]
    assert "Total reclaimed space: " in done
    assert minidock("image", "prune", "-f").stdout.startswith("Total reclaimed space: 0B")
    assert "Deleted Images:" in minidock("system", "prune", "-af").stdout
    assert minidock("images", "-q").stdout == ""


def test_system_df_info_version(minidock: Cli, root: Path) -> None:
    minidock("create", "busybox", "true")
    head, images, containers, volumes, builds = minidock("system", "df").stdout.splitlines()
    assert builds.split() == ["Build", "Cache", "0", "0", "0B", "0B"]
    assert head.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert images.split()[:3] == ["Images", "1", "1"]
    assert containers.split()[:3] == ["Containers", "1", "0"]
    assert volumes.split()[:4] == ["Local", "Volumes", "0", "0"]
    assert minidock("info", "-f", "{{.DockerRootDir}} {{.Images}}").stdout == f"{root} 1\n"
    assert minidock("--version").stdout.startswith("minidock version ")
    assert minidock("version", "-f", "{{.Os}}").stdout == "linux\n"


def test_explain_a_page_and_its_numbers(minidock: Cli) -> None:
    done = minidock("run", "--explain", "--name", "web", "busybox", "echo", "hi")
    assert done.stdout == "hi\n"
    page = minidock("explain", "web").stdout
    assert page == done.stderr
    assert page.startswith("How web (")
    assert "rootfs.pivot_into  lesson 01" in page
    assert re.search(r"\d+ [µm]s  pivot_root\(", page)  # a loaded machine takes milliseconds
    assert "Where the time went" in page
    assert "\x1b" not in page
    steps = [json.loads(line) for line in minidock("explain", "--format", "json", "web").stdout.splitlines()]
    assert {"operation", "why", "lesson", "microseconds"} <= steps[0].keys()
    assert steps[-1]["operation"] == "execve"


def test_explain_works_with_rm_and_hides_secrets(minidock: Cli) -> None:
    done = minidock("run", "--rm", "--explain", "-e", "TOKEN=s3cret", "busybox", "true")
    assert "execve" in done.stderr
    assert "s3cret" not in done.stderr


def test_doctor_names_what_a_killed_shim_left(minidock: Cli, wait_for: Callable[..., Any]) -> None:
    clean = minidock("doctor", check=False)
    assert "overlay" in clean.stdout
    assert clean.stdout.rstrip().endswith("nothing")
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "100")
    pid = int(minidock("inspect", "-f", "{{.State.Pid}}", "web").stdout)
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(shim, 9)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    left = minidock("doctor", check=False).stdout
    assert "its shim was killed" in left
    assert "cgroup without a living container" in left
    assert minidock("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").stdout == "exited 137\n"
    assert minidock("doctor", check=False).stdout.rstrip().endswith("nothing")


def test_reset_removes_all_but_what_is_not_ours(minidock: Cli, root: Path) -> None:
    minidock("run", "-d", "--name", "web", "busybox", "sleep", "100")
    pid = int(minidock("inspect", "-f", "{{.State.Pid}}", "web").stdout)
    (root / "mine.txt").write_text("keep me")
    refused = minidock("reset", input="n\n", check=False)
    assert refused.returncode == 1
    assert Path(f"/proc/{pid}").exists()
    kept = minidock("reset", "--yes", "--keep-images").stdout
    assert "removed 1 container" in kept
    assert not Path(f"/proc/{pid}").exists()
    assert minidock("images", "-q").stdout
    minidock("reset", "--yes")
    assert [path.name for path in root.iterdir()] == ["mine.txt"]


def test_a_reader_that_leaves_early_is_no_error(minidock: Cli, root: Path) -> None:
    from worlds import cli_command

    read, write = os.pipe()
    os.close(read)
    command = [*cli_command(), "--root", str(root), "images"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [
        ("<&-", "out\n", "err\n"),
        (">&-", "", "err\n"),
        ("2>&-", "in\nout\n", ""),
        ("<&- >&- 2>&-", "", ""),
    ],
)
def test_who_closes_its_standard_streams_still_gets_a_container(
    minidock: Cli, root: Path, tmp_path: Path, closed: str, out: str, err: str
) -> None:
    """As supervisors do. The next file opened would get the number, and be read or written instead."""
    from worlds import cli_command

    command = [*cli_command(), "--root", str(root), "run", "-i", "--rm", "--network", "none"]
    command += ["-v", f"{tmp_path}:/said", "busybox"]
    command += ["sh", "-c", "cat; echo out; echo err >&2; echo done > /said/it"]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(shell, input="in\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, err)
    assert (tmp_path / "it").read_text() == "done\n"


def test_help_says_what_there_is(minidock: Cli) -> None:
    everything = minidock("--help").stdout
    for verb in ("run", "explain", "doctor", "images", "lab"):
        assert re.search(rf"^  {verb} +\w", everything, re.MULTILINE)
    assert minidock().stdout == everything
    page = minidock("run", "--help").stdout
    assert page.startswith("Usage:  minidock run [OPTIONS] IMAGE [COMMAND] [ARG...]\n")
    assert re.search(r"^  -m, --memory bytes +Memory limit$", page, re.MULTILINE)
    assert minidock("help", "run").stdout == page
    assert "  prune" in minidock("image").stdout
    assert minidock("image", "ls", "--help").stdout.startswith("Usage:  minidock image ls [OPTIONS]")


def test_debug_shows_the_traceback_and_nothing_else_does(minidock: Cli) -> None:
    done = minidock("--debug", "inspect", "-f", "{{", "x", check=False)
    assert "Traceback" in done.stderr


# ---- wrong usage: one clear line, the exit code of Docker ---------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("ps -f bogus", 125, '"bogus" for "-f, --filter" flag: bad format of filter (expected name=value)'),
        ("images -f bogus", 125, "bad format of filter (expected name=value)"),
        ("container prune -f --filter bogus", 125, "bad format of filter (expected name=value)"),
        ("ps -f bogus=1", 1, "invalid filter 'bogus'"),
        ("ps --format {{.ID", 1, "unclosed action"),
        ("images --format {{end}}", 1, "unexpected {{end}}"),
        ("inspect --format {{.ID busybox", 64, "unclosed action"),
        ("inspect --type bogus busybox", 1, 'unknown type: "bogus"'),
        ("run --cpuset-cpus a busybox true", 125, "Invalid value a for cpuset cpus: invalid format: a"),
        ("run --cpuset-cpus 1-0 busybox true", 125, "Invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
        ("run --cpuset-cpus 0-4095 busybox true", 125, "Requested CPUs are not available - requested 0-4095"),
        (
            "run --cpuset-mems 999 busybox true",
            125,
            "Requested memory nodes are not available - requested 999",
        ),
        (
            "run --pull never --platform linux/arm/v6 busybox true",
            125,
            "does not match the specified platform: wanted linux/arm/v6, actual: linux/",
        ),
        ("run --platform bogus/x busybox true", 125, "'bogus/x': unknown operating system or architecture"),
    ],
)
def test_wrong_usage(minidock: Cli, arguments: str, code: int, said: str) -> None:
    done = minidock(*arguments.split(), check=False)
    assert (done.returncode, done.stdout.strip()) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert minidock("ps", "-aq").stdout == ""  # nothing half-made stays


def test_a_cpuset_that_there_is(minidock: Cli) -> None:
    script = "grep Cpus_allowed_list /proc/self/status"
    done = minidock(
        "run", "--rm", "--cpuset-cpus", "0,0-0", "--cpuset-mems", "0", "busybox", "sh", "-c", script
    )
    assert done.stdout.split() == ["Cpus_allowed_list:", "0"]
