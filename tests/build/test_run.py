"""RUN: its forms, its mounts, and what of them may not show in the image."""

from __future__ import annotations

import pytest

SEVEN = "echo 7 > /seven"


def layers(project) -> int:
    return len(project.inspect()["RootFS"]["Layers"]) - 1


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "run",
    [
        f"RUN {SEVEN}",
        'RUN ["sh", "-c", "echo 7 > /seven"]',
        f"RUN <<EOF\n{SEVEN}\nEOF",
        "RUN <<'EOF'\nx=7\necho $x > /seven\nEOF",
        "RUN <<-EOF\n\techo 7 > /seven\n\tEOF",
        'RUN <<EOF\n#!/usr/bin/awk -f\nBEGIN { print 7 > "/seven" }\nEOF',
        "RUN cat <<EOF > /seven\n7\nEOF",
        "RUN cat <<A <<B > /dev/null && echo 7 > /seven\n1\nA\n2\nB",
        "RUN sh <<'EOF'\necho 7 > /seven\nEOF",
        'SHELL ["/bin/sh", "-xc"]\nRUN echo 7 > /seven',
    ],
)
def test_every_form_of_run(project, run):
    project.build(f"FROM busybox\n{run}\n")
    assert project.run("cat", "/seven") == "7\n"
    assert layers(project) == 1


def test_a_script_of_its_own_leaves_no_trace(project):
    project.build('FROM busybox\nRUN <<EOF\n#!/bin/sh\necho "$0"\nEOF\nRUN ls /dev/pipes 2>&1; true\n')
    assert layers(project) == 0


def test_no_build_gives_its_containers_the_host(project):
    said = project.refused("FROM busybox\nRUN --security=insecure true\n")
    assert "Dockerfile:2: RUN --security=insecure is not allowed" in said


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────────


def test_bind_from_the_context(project):
    project.write("src/file", "from the context")
    project.write("secret.txt", "ignored")
    project.write(".dockerignore", "secret.txt\n")
    done = project.build(
        "FROM busybox\nRUN --mount=type=bind,target=/mnt/c "
        "cat /mnt/c/src/file; ls /mnt/c; touch /mnt/c/x || echo refused\n"
        "RUN --mount=type=bind,source=src/file,target=/root/f cat /root/f\n"
        "RUN --mount=type=bind,target=/c,rw echo changed > /c/src/file && cat /c/src/file\n"
    )
    assert "from the context" in done.stdout
    assert "secret.txt" not in done.stdout
    assert "refused" in done.stdout
    assert "changed" in done.stdout
    assert (project.directory / "src/file").read_text() == "from the context"
    assert layers(project) == 0  # also the mount points are gone


def test_bind_from_a_stage_and_an_image(project):
    done = project.build(
        "FROM busybox AS made\nRUN mkdir /out && echo made > /out/it\n"
        "FROM busybox\nRUN --mount=from=made,source=/out,target=/m cat /m/it\n"
        "RUN --mount=from=busybox,source=/etc/group,target=/m/group head -1 /m/group\n"
    )
    assert "made\n" in done.stdout
    assert "root:x:0:" in done.stdout
    assert layers(project) == 0


def test_a_cache_is_kept_between_builds(project):
    run = (
        "WORKDIR /root/.cache/x\n"
        "RUN --mount=type=cache,target=/root/.cache/x,id=mine,mode=0700 "
        "echo {} >> log; cat log; stat -c %a .\n"
    )
    project.build(f"FROM busybox\n{run.format(1)}")
    done = project.build(f"FROM busybox\n{run.format(2)}")
    assert "1\n2\n700\n" in done.stdout
    assert layers(project) == 1  # WORKDIR's
    done = project.build(
        "FROM busybox\nRUN --mount=type=cache,target=/other,id=mine,sharing=locked cat /other/log\n"
    )
    assert "1\n2\n" in done.stdout


def test_a_cache_begins_with_what_it_is_given(project):
    project.write("seed/a", "seed")
    dockerfile = (
        "FROM busybox AS s\nCOPY seed /seed\n"
        "FROM busybox\nRUN --mount=type=cache,from=s,source=/seed,target=/c cat /c/a\n"
    )
    assert "seed" in project.build(dockerfile).stdout


def test_tmpfs(project):
    done = project.build(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x && df -k /t | tail -1\n"
    )
    assert "1024" in done.stdout
    assert layers(project) == 0


def test_secrets(project, minidock, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    dockerfile = (
        "FROM busybox\nWORKDIR /run/secrets\n"
        "RUN --mount=type=secret,id=token cat token > /dev/null && stat -c '%a %u' token\n"
        "RUN --mount=type=secret,id=token,target=/t,mode=0444,uid=65534 \\\n"
        " --mount=type=secret,id=word,env=WORD stat -c '%a %u' /t; echo ${#WORD}\n"
        "RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n"
    )
    done = project.build(
        dockerfile,
        "--secret",
        f"id=token,src={tmp_path / 'token'}",
        "--secret",
        "id=word,env=W",
        env={"W": "12345"},
    )
    assert "400 0\n" in done.stdout
    assert "444 65534\n5\n" in done.stdout
    assert layers(project) == 1  # WORKDIR's
    saved = minidock("save", "app", text=False).stdout
    assert b"s3cret" not in saved
    assert b"12345" not in saved
    assert "---> Using cache" in project.build(dockerfile).stdout  # a secret is in no key of the cache


def test_a_required_secret(project):
    said = project.refused("FROM busybox\nRUN --mount=type=secret,id=token,required true\n")
    assert "secret token was not given" in said
    assert "--secret id=token" in said


def test_a_missing_source_of_a_mount(project):
    said = project.refused("FROM busybox\nRUN --mount=source=nosuch,target=/x true\n")
    assert "nosuch" in said


def test_mount_points_that_the_image_has_stay(project):
    project.build(
        "FROM busybox\nRUN mkdir -p /a/b && echo mine > /a/b/c\n"
        "RUN --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/new/deep echo x > /x\n"
    )
    assert project.sh("cat /a/b/c; ls -d /new 2>&1; cat /x").splitlines() == [
        "mine",
        "ls: /new: No such file or directory",
        "x",
    ]


# ── its surroundings ─────────────────────────────────────────────────────────────────────────────────


def test_user_directory_and_environment(project):
    done = project.build(
        "FROM busybox\nENV A=1\nUSER nobody\nWORKDIR /tmp\nRUN id -un; pwd; echo $A $HOME; cat; echo end\n"
    )
    assert "nobody\n/tmp\n1 /home\nend\n" in done.stdout


def test_what_a_run_leaves_behind_dies_with_it(project):
    project.build("FROM busybox\nRUN sleep 1000 & echo x > /x\nRUN ! pgrep sleep\n")


def test_hard_links_devices_and_attributes(project):
    project.build(
        "FROM busybox\n"
        "RUN echo x > /a && ln /a /b && mkfifo /f && mknod /n c 1 3 && ln -s a /l && chmod 4755 /a\n"
    )
    shown = project.sh("stat -c '%n %h %a %F' /a /b /f /n /l")
    assert shown == (
        "/a 2 4755 regular file\n/b 2 4755 regular file\n/f 1 644 fifo\n/n 1 644 character special file\n"
        "/l 1 777 symbolic link\n"
    )
