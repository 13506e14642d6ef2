"""`minidock build`, instruction by instruction: what is in the image, and what the command says."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from minidock.build import events
from minidock.config import Config
from minidock.engine import Engine


def test_every_instruction_leaves_its_mark(project):
    project.write("file.txt", "content")
    project.build(
        "FROM busybox\n"
        "ENV GREETING=hello NAME='a b'\n"
        "WORKDIR /srv/app\n"
        "COPY file.txt ./\n"
        "RUN echo $GREETING > greeting\n"
        "EXPOSE 80 53/udp\n"
        'LABEL one=1 two="x y"\n'
        "STOPSIGNAL SIGQUIT\n"
        "VOLUME /data\n"
        "HEALTHCHECK --interval=5s --retries=2 CMD true\n"
        'SHELL ["/bin/sh", "-ec"]\n'
        "USER nobody\n"
        "CMD cat greeting file.txt\n"
    )
    assert project.run() == "hello\ncontent"
    config = project.config()
    assert config["Env"][1:] == ["GREETING=hello", "NAME=a b"]
    assert config["WorkingDir"] == "/srv/app"
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert config["Labels"] == {"one": "1", "two": "x y"}
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Volumes"] == {"/data": {}}
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2}
    assert config["Shell"] == ["/bin/sh", "-ec"]
    assert config["User"] == "nobody"
    assert config["Cmd"] == ["/bin/sh", "-ec", "cat greeting file.txt"]
    assert project.history()[0] == "/bin/sh -c #(nop) ENV GREETING=hello NAME=a b"
    assert project.history()[3] == "/bin/sh -c echo $GREETING > greeting"


def test_only_some_steps_make_layers(project):
    project.build("FROM busybox\nENV A=1\nRUN true\nRUN echo x > /x\nCMD sh\n")
    assert len(project.inspect()["RootFS"]["Layers"]) == 2


def test_what_run_deletes_is_gone(project):
    project.build("FROM busybox\nRUN mkdir /d && touch /d/a /d/b && rm /bin/ls\nRUN rm -r /d/a /etc/group\n")
    assert project.sh("echo /d/*; test ! -e /bin/ls && test ! -e /etc/group && echo gone") == "/d/b\ngone\n"


def test_a_removed_directory_made_anew_is_empty(project):
    project.build(
        "FROM busybox\nRUN mkdir -p /d/sub && touch /d/old\nRUN rm -r /d && mkdir /d && touch /d/new\n"
    )
    assert project.sh("ls /d") == "new\n"


def test_the_same_isolation_as_run(project):
    done = project.build(
        "FROM busybox\nRUN mount -t tmpfs x /mnt; hostname x; grep Seccomp: /proc/1/status; echo $$\n"
    )
    assert "Seccomp:\t2\n1\n" in done.stdout
    assert done.stdout.count("ermitted") + done.stdout.count("not permitted") >= 2


def test_workdir_makes_directories_of_root(project):
    project.build("FROM busybox\nUSER nobody\nWORKDIR /a\nWORKDIR b/c\nRUN pwd; id -un\nCMD pwd\n")
    assert project.run() == "/a/b/c\n"
    assert project.sh("stat -c '%U %a' /a /a/b /a/b/c") == "root 755\n" * 3


def test_workdir_on_a_file_is_refused(project):
    assert "WORKDIR /etc/passwd" in project.refused("FROM busybox\nWORKDIR /etc/passwd\n")


def test_maintainer_is_warned_about_once_and_kept(project):
    done = project.build("FROM busybox\nMAINTAINER nobody\nMAINTAINER somebody\nRUN echo x > /x\n")
    assert done.stderr.count("deprecated") == 1
    assert project.inspect()["Author"] == "somebody"


def test_what_run_writes_to_a_volume_is_thrown_away(project):
    """As in Docker's classic builder: the container of a RUN has a volume there."""
    project.write("seed", "seed")
    project.build(
        "FROM busybox\nRUN mkdir /data && echo kept > /data/before\nVOLUME /data /fresh\n"
        "RUN echo lost > /data/after; echo lost > /fresh/x; echo ok > /elsewhere\nCOPY seed /data/\n"
    )
    assert project.sh("ls /data; ls -A /fresh; cat /elsewhere") == "before\nseed\nok\n"


# ── names, flags, contexts ───────────────────────────────────────────────────────────────────────────


def test_several_tags_and_an_id_file(project, tmp_path):
    done = project.build("FROM busybox\nRUN echo x > /x\n", "-t", "other:2", "--iidfile", tmp_path / "id")
    assert done.stdout.endswith("Successfully tagged app:latest\nSuccessfully tagged other:2\n")
    assert (tmp_path / "id").read_text() == project.inspect("other:2")["Id"] == project.inspect()["Id"]


def test_quiet_prints_the_id_alone(project):
    assert project.build("FROM busybox\nRUN echo x > /x\n", "-q").stdout == project.inspect()["Id"] + "\n"
    done = project.build("FROM busybox\nRUN echo said; exit 4\n", "-q", check=False)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "said\n" in done.stderr


def test_a_dockerfile_of_from_alone_is_its_base(project):
    project.build("FROM busybox\n")
    assert project.inspect()["Id"] == project.inspect("busybox")["Id"]


def test_from_scratch(project):
    project.write("hello", "hi")
    project.build('FROM scratch\nCOPY hello /\nCMD ["/hello"]\n')
    assert len(project.inspect()["RootFS"]["Layers"]) == 1
    assert project.config()["Cmd"] == ["/hello"]


def test_the_dockerfile_from_standard_input(project, minidock):
    project.write("file", "from the context")
    minidock("build", "-t", "app", "-f", "-", project.directory, input="FROM busybox\nCOPY file /\n")
    assert project.run("cat", "/file") == "from the context"
    minidock("build", "-t", "alone", "-", input="FROM busybox\nRUN echo alone > /a\n")
    assert project.run("cat", "/a", image="alone") == "alone\n"


def test_a_context_from_an_archive(project, minidock):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in (("Dockerfile", "FROM busybox\nCOPY a /a\n"), ("a", "packed")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    minidock("build", "-t", "app", "-", input=archive.getvalue(), text=False)
    assert project.run("cat", "/a") == "packed"


def test_labels_of_the_command_come_last(project):
    done = project.build("FROM busybox\nLABEL a=file\n", "--label", "a=flag", "--label", "b=x y")
    assert "Step 3/3 : LABEL" in done.stdout
    assert project.config()["Labels"] == {"a": "flag", "b": "x y"}


def test_limits_and_ulimits_reach_the_containers(project):
    script = "RUN ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'\n"
    done = project.build(
        f"FROM busybox\n{script}", "--ulimit", "nofile=77:88", "--shm-size", "8m", "-m", "64m"
    )
    assert "77\n8192\n" in done.stdout


def test_networks(project):
    """RUN is where a container of `run` is; what it says itself counts more than --network."""
    project.minidock("network", "create", "--subnet", "10.9.0.0/24", "app")
    look = "ip -4 -o addr show | cut -d' ' -f7"
    for flags, instruction, wanted in (
        ([], "RUN", "127.0.0.1/8 172.17.0.2/16"),
        (["--network", "default"], "RUN", "127.0.0.1/8 172.17.0.2/16"),
        (["--network", "app"], "RUN", "127.0.0.1/8 10.9.0.2/24"),
        (["--network", "none"], "RUN", "127.0.0.1/8"),
        (["--network", "app"], "RUN --network=none", "127.0.0.1/8"),
        (["--network", "none"], "RUN --network=default", "127.0.0.1/8"),
    ):
        project.build(f"FROM busybox\n{instruction} {look} > /addresses\n", "--no-cache", *flags)
        assert project.sh("cat /addresses").split() == wanted.split(), (flags, instruction)
    dockerfile = "FROM busybox\nRUN --network=host ls /sys/class/net > /x; cat /etc/hosts > /y\n"
    project.build(dockerfile, "--network", "none", "--add-host", "db:10.9.0.5", "--add-host", "six=[fd00::1]")
    assert "md" in project.sh("cat /x")  # the host's bridges
    assert "10.9.0.5\tdb\nfd00::1\tsix\n" in project.sh("cat /y")
    assert "network nosuch not found" in project.refused("FROM busybox\nRUN true\n", "--network", "nosuch")


def test_squash_makes_one_layer_of_all(project):
    dockerfile = (
        "FROM busybox\nRUN mkdir /d && echo big > /d/big && echo 1 > /one\n"
        "RUN rm /d/big /bin/ls && echo 2 > /two\n"
        "RUN rm -r /d && mkdir /d && echo in > /d/in && rm -r /root && mkdir /root\nCMD cat /one /two\n"
    )
    project.build(dockerfile)
    script = (
        "find / -xdev ! -path '/proc*' ! -path '/dev*' ! -path '/sys*' | sort | xargs stat -c '%n %a %U %F'"
    )
    wanted = project.sh(script)
    project.build(dockerfile, "--squash")
    assert len(project.inspect()["RootFS"]["Layers"]) == 2
    assert project.sh(script) == wanted
    assert project.run() == "1\n2\n"
    assert project.history()[-1] == ""
    assert "merge sha256:" in project.inspect()["Comment"]


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────


MANY_STAGES = (
    "FROM busybox AS Build\nRUN echo built > /out\n"
    "FROM busybox AS unused\nRUN exit 1\n"
    "FROM build AS more\nRUN echo more >> /out\n"
    "FROM busybox\nCOPY --from=build /out /first\nCOPY --from=2 /out /second\n"
    "COPY --from=busybox /etc/group /third\n"
)


def test_stages_and_where_copies_come_from(project):
    done = project.build(MANY_STAGES)
    assert "exit 1" not in done.stdout
    assert "Step 8/8" in done.stdout
    assert project.sh("cat /first /second; head -1 /third") == "built\nbuilt\nmore\nroot:x:0:\n"
    assert len(project.inspect()["RootFS"]["Layers"]) == 4


@pytest.mark.parametrize("target", ["more", "MORE", "2"])
def test_a_target(project, target):
    project.build(MANY_STAGES, "--target", target)
    assert project.run("cat", "/out") == "built\nmore\n"


def test_an_unknown_target_names_the_stages(project):
    said = project.refused(MANY_STAGES, "--target", "mroe")
    assert "failed to reach build target mroe" in said
    assert "did you mean more?" in said
    assert "Stages: build, unused, more." in said


def test_stages_in_a_circle(project):
    said = project.refused(
        "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\nFROM b\n"
    )
    assert "circular dependency detected on stage" in said
    assert "b → a → b" in said


def test_a_stage_number_that_is_not_there(project):
    assert "invalid stage index 3" in project.refused("FROM busybox\nCOPY --from=3 /x /\n")


def test_independent_stages_run_at_the_same_time(project):
    """Each of two stages waits for the other: one after the other, neither would end."""
    meet = "touch /c/{me}; for i in $(seq 300); do test -e /c/{other} && exit 0; sleep 0.1; done; exit 1"
    mount = "--mount=type=cache,target=/c"
    project.build(
        f"FROM busybox AS a\nRUN {mount} {meet.format(me='a', other='b')}\n"
        f"FROM busybox AS b\nRUN {mount} {meet.format(me='b', other='a')}\nRUN echo b > /b\n"
        "FROM a\nCOPY --from=b /b /b\n"
    )
    assert project.run("cat", "/b") == "b\n"


def test_one_of_several_stages_fails(project):
    """The others are stopped, also one that would go on for ever; what is said is why it failed."""
    said = project.refused(
        "FROM busybox AS endless\nRUN sleep 1000\nFROM busybox AS bad\nRUN exit 7\n"
        "FROM busybox\nCOPY --from=endless /etc /a\nCOPY --from=bad /etc /b\n",
        code=7,
    )
    assert said.startswith("minidock: The command '/bin/sh -c exit 7' returned a non-zero code: 7\n")


# ── variables ────────────────────────────────────────────────────────────────────────────────────────


def test_arguments_and_their_scope(project):
    dockerfile = (
        "ARG TAG=latest\nARG OUTER=outer\nFROM busybox:${TAG}\nARG OUTER\nARG OWN=own\nARG NOTHING\n"
        "RUN echo [$TAG][$OUTER][$OWN][$NOTHING][$HTTP_PROXY] > /said\nENV OWN=env\nRUN echo $OWN >> /said\n"
    )
    project.build(dockerfile)
    assert project.run("cat", "/said") == "[][outer][own][][]\nenv\n"
    assert "|2 OUTER=outer OWN=own /bin/sh -c echo" in project.history()[3]
    done = project.build(
        dockerfile,
        *("--build-arg", "OWN=flag", "--build-arg", "NOTHING=x", "--build-arg", "HTTP_PROXY=p"),
        *("--build-arg", "STRAY=1"),
    )
    assert project.run("cat", "/said") == "[][outer][flag][x][p]\nenv\n"
    assert "[STRAY] were not consumed" in done.stderr
    assert not any("HTTP_PROXY=p" in entry for entry in [*project.history()[:4], *project.config()["Env"]])


def test_an_argument_from_our_own_environment(project):
    project.build("FROM busybox\nARG A\nRUN echo $A > /a\n", "--build-arg", "A", env={"A": "inherited"})
    assert project.run("cat", "/a") == "inherited\n"


def test_platform_arguments(project):
    project.build(
        "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETOS\nARG TARGETPLATFORM\n"
        "RUN echo $TARGETOS $TARGETPLATFORM > /p\n"
    )
    assert project.run("cat", "/p").startswith("linux linux/")


def test_an_arg_is_known_in_the_stages_made_from_its_own(project):
    """As in BuildKit; the older builder forgot it."""
    project.build(
        "ARG OUTSIDE=outside\nFROM busybox AS one\nARG A=a\nARG OUTSIDE\nFROM one AS two\nARG A=$A-b\n"
        "RUN echo $A > /two\nFROM two\nARG A\nRUN echo $A $OUTSIDE > /three\n"
        "FROM busybox\nCOPY --from=2 /two /three /\nRUN echo .$A. > /four\n"
    )
    assert project.sh("cat /two /three /four") == "a-b\na-b outside\n..\n"


# ── triggers ─────────────────────────────────────────────────────────────────────────────────────────


def test_onbuild(project, minidock):
    project.write("source", "mine")
    project.build("FROM busybox\nONBUILD COPY source /src/\nONBUILD RUN cat /src/source > /built\n")
    assert project.config()["OnBuild"] == ["COPY source /src/", "RUN cat /src/source > /built"]
    minidock("tag", "app", "base")
    done = project.build("FROM base\nRUN cat /built\n")
    assert "# Executing 2 build triggers\n" in done.stdout
    assert "Step 2/2 : RUN cat /built" in done.stdout
    assert project.run("cat", "/built") == "mine"
    assert not project.config()["OnBuild"]
    minidock("tag", "app", "child")
    assert "triggers" not in project.build("FROM child\nRUN true\n").stdout


def test_onbuild_of_a_stage(project):
    done = project.build("FROM busybox AS a\nONBUILD RUN echo pulled > /t\nFROM a\nRUN cat /t\n")
    assert "# Executing 1 build trigger\n" in done.stdout
    assert project.run("cat", "/t") == "pulled\n"


# ── the engine ───────────────────────────────────────────────────────────────────────────────────────


def test_events_tell_the_story(project, busybox):
    project.write("Dockerfile", "FROM busybox\nRUN echo hi; echo x > /x\nCMD sh\n")
    engine = Engine(config=Config(root=busybox))
    told: list[events.Event] = []
    built = engine.build(project.directory, tags=["app"], on_event=told.append, explain=True)
    assert built.image.names == ["docker.io/library/app:latest"]
    begun = [event for event in told if isinstance(event, events.StepBegun)]
    assert [(each.number, each.total, each.text) for each in begun] == [
        (1, 3, "FROM busybox"),
        (2, 3, "RUN echo hi; echo x > /x"),
        (3, 3, "CMD sh"),
    ]
    assert b"".join(event.data for event in told if isinstance(event, events.Output)) == b"hi\n"
    (made,) = (event for event in told if isinstance(event, events.LayerMade))
    assert [str(change) for change in made.changes] == ["A /x"]
    (ended,) = (event for event in told if isinstance(event, events.ContainerEnded))
    assert {"clone", "pivot_root", "execve"} <= {request.operation for request in ended.requests}
    assert told[-1] == events.ImageWritten(built.id, ("app:latest",))
    assert {step.operation for step in built.trace} >= {"pack layer"}
    json.dumps([repr(event) for event in told])


def test_two_builds_in_a_process_with_threads(busybox):
    """As in a notebook: the containers are started by the warm helper, never by a fork of this process."""
    engine = Engine(config=Config(root=busybox))
    made: dict[int, str] = {}

    def build(number: int) -> None:
        text = f"FROM busybox\nRUN echo {number} > /n\nCMD cat /n\n"
        made[number] = engine.build("-", stdin=io.BytesIO(text.encode())).id

    threads = [threading.Thread(target=build, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [engine.run(made[number], rm=True).output for number in range(3)] == ["0\n", "1\n", "2\n"]
    assert engine.containers() == []


def test_events_of_the_engine(project, minidock):
    project.build("FROM busybox\nRUN echo x > /x\n")
    minidock("create", "--name", "work", "app")
    minidock("commit", "-m", "by hand", "work", "made")
    form = "{{.Type}} {{.Action}}"
    told = minidock("events", "--since", "1h", "--until", "0s", "--format", form).stdout.splitlines()
    assert told[-10:] == [
        *("container create", "network connect", "container start", "container die"),
        *("network disconnect", "container destroy", "image tag"),
        *("container create", "container commit", "image tag"),
    ]


def test_explain_shows_container_change_and_commit(project):
    done = project.build("FROM busybox\nRUN rm /bin/ls; echo x > /x\n", "--explain")
    for line in (
        "container  made from",
        "container  ended with 0",
        "change     D /bin/ls",
        "change     A /x",
    ):
        assert line in done.stdout
    assert "commit     layer" in done.stdout


# ── reproducible ─────────────────────────────────────────────────────────────────────────────────────


def test_source_date_epoch_gives_the_same_digests_twice(project):
    project.write("tree/file", "x")
    dockerfile = (
        "FROM busybox\nWORKDIR /w\nCOPY tree /tree\n"
        "RUN date > /dev/null; mkdir -p /a/b; echo x > /a/b/c; rm /bin/ls\nCMD sh\n"
    )
    ids = []
    for _ in range(2):
        project.build(dockerfile, "--no-cache", env={"SOURCE_DATE_EPOCH": "1700000000"})
        ids.append(project.inspect()["Id"])
        subprocess.run(["touch", project.directory / "tree/file", project.directory / "tree"], check=True)
    assert ids[0] == ids[1]
    assert project.inspect()["Created"].startswith("2023-11-14T22:13:20")
    project.build(dockerfile, "--build-arg", "SOURCE_DATE_EPOCH=1700000001")
    assert project.inspect()["Created"].startswith("2023-11-14T22:13:21")
    assert "is no number" in project.refused("FROM busybox\n", "--build-arg", "SOURCE_DATE_EPOCH=x")


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FORM busybox\n", "Dockerfile:1: unknown instruction: FORM (did you mean FROM?)"),
        ("FROM busybox\nRUN true\nCOPYY a b\n", "Dockerfile:3: unknown instruction: COPYY"),
        ("RUN true\n", "Dockerfile:1: no build stage in current context"),
        ("FROM busybox\nCOPY nosuch /\n", "Dockerfile:2: COPY failed: file not found in build context"),
        ("FROM busybox\nCOPY ../secret /\n", "forbidden path outside the build context"),
        ('FROM busybox\nRUN ["/nosuch"]\n', 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("FROM busybox\nUSER ghost\nRUN true\n", "unable to find user ghost"),
        ("FROM busybox\nENV A=${B:?missing}\n", "Dockerfile:2: failed to process"),
        ("FROM 127.0.0.1:1/nosuch\n", "127.0.0.1:1"),
        ("FROM Nosuch\n", "must be lowercase"),
        ("", "file with no instructions"),
        ("FROM scratch\n", "No image was generated. Is your Dockerfile empty?"),
        ("FROM busybox\n" + "COPY x /x\nCOPY y /x\n" * 65, "max depth exceeded: an image has at most 127"),
    ],
)
def test_bad_input_is_one_clear_line(project, dockerfile, said):
    project.write("x", "x")
    project.write("y", "y")
    assert said in project.refused(dockerfile).splitlines()[0]


def test_a_failing_run_keeps_the_image_before_it(project, minidock):
    said = project.refused("FROM busybox\nRUN echo good > /good\nRUN echo oops >&2; exit 42\n", code=42)
    first, hint = said.splitlines()
    assert first == "minidock: The command '/bin/sh -c echo oops >&2; exit 42' returned a non-zero code: 42"
    command = hint.partition("minidock ")[2].split()
    assert command[:3] == ["run", "-it", "--rm"]
    assert minidock("run", "--rm", command[3], "cat", "/good").stdout == "good\n"
    assert minidock("images", "-q", "app").stdout == ""


def test_bad_flags(project):
    assert "invalid progress mode" in project.refused("FROM busybox\n", "--progress", "loud", code=125)
    assert "invalid reference format" in project.refused("FROM busybox\n", "-t", "Bad Name")
    assert "is missing" in project.refused("FROM busybox\n", "--secret", "env=X")
    assert "invalid IP address in add-host" in project.refused("FROM busybox\n", "--add-host", "a:1x")


def test_a_missing_context(minidock, busybox, tmp_path):
    done = minidock("build", tmp_path / "nosuch", check=False)
    assert done.returncode == 1
    assert "not found" in done.stderr


@pytest.mark.peer
def test_the_oci_layout_stays_one_that_others_read(project, busybox):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    project.build("FROM busybox\nRUN echo x > /x\nLABEL a=b\n")
    layout = f"oci:{busybox / 'images'}:docker.io/library/app:latest"
    told = subprocess.run(["skopeo", "inspect", layout], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["Labels"] == {"a": "b"}
    copied = Path(project.directory, "copied")
    subprocess.run(["skopeo", "copy", "-q", layout, f"dir:{copied}"], check=True, capture_output=True)


def test_a_layer_that_comes_twice_is_mounted_once(project):
    """overlayfs refuses the same directory twice; images with a layer twice are common (an empty one)."""
    project.write("file", "text\n")
    twice = "FROM busybox\nCOPY file /file\nRUN rm /file\nCOPY file /file\nRUN cat /file > /copy\n"
    project.build(twice, env={"SOURCE_DATE_EPOCH": "1"})
    layers = project.inspect()["RootFS"]["Layers"]
    assert len(layers) == len(set(layers)) + 1
    assert project.sh("cat /file /copy") == "text\ntext\n"
    project.minidock("run", "--name", "one", "app", "touch", "/more")
    assert "A /more" in project.minidock("diff", "one").stdout
