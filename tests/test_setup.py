"""The set-up: its images, its registry, its launcher, and that the second time changes nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from worlds import PATIENCE, accepts, wait_for

REPOSITORY = Path(__file__).resolve().parent.parent
SETUP = REPOSITORY / "setup"


def run(*command: str | Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | environment, check=False
    )
    if check:
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module setup/images.py, which stands beside oci.py and not in a package."""
    monkeypatch.syspath_prepend(str(SETUP))
    import images

    return images


# ── course images ────────────────────────────────────────────────────────────────────────────────────


def test_images_have_the_same_bytes_each_time(recipes: Any, tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        layout = recipes.Layout(tmp_path / name, recipes.EPOCH)
        layout.name(recipes.busybox(layout) | recipes.hello_world(layout))
        written.append(sorted(each.name for each in (tmp_path / name / "blobs/sha256").iterdir()))
    assert written[0] == written[1]


def test_blobs_are_what_their_names_say(recipes: Any, tmp_path: Path) -> None:
    recipes.hello_world(recipes.Layout(tmp_path, recipes.EPOCH))
    for blob in (tmp_path / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_the_smallest_program_speaks(recipes: Any, tmp_path: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    program = tmp_path / "hello"
    program.write_bytes(recipes.hello_program(machine))
    program.chmod(0o755)
    assert run(program).stdout == recipes.GREETING


def test_a_layer_by_comparison_has_changes_and_whiteouts(recipes: Any, tmp_path: Path) -> None:
    import oci

    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    for name in ("kept", "changed", "removed"):
        (tree / "etc" / name).write_text("old")
    before = oci.scan(tree, [])
    (tree / "etc/changed").write_text("newer")
    (tree / "etc/removed").unlink()
    (tree / "etc/link").symlink_to("kept")
    (tree / "cache").mkdir()
    (tree / "cache/file").touch()
    names = [header.name for header, _ in oci.difference(tree, before, oci.scan(tree, ["cache/"]))]
    assert names == ["cache", "etc", "etc/.wh.removed", "etc/changed", "etc/link"]


@pytest.mark.parametrize(
    "name", ["busybox", "debian", "debian:bookworm", "hello-world", "httpd", "httpd:2.4"]
)
def test_the_registry_serves_the_course_images(registry: str, name: str) -> None:
    asked = ["skopeo", "inspect", "--config", "--tls-verify=false", f"docker://{registry}/library/{name}"]
    config = json.loads(run(*asked).stdout)
    assert config["config"]["Cmd"]
    assert [each for each in config["history"] if not each.get("empty_layer")]


def test_hello_world_is_an_index_of_two_platforms(registry: str) -> None:
    asked = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/library/hello-world"]
    index = json.loads(run(*asked).stdout)
    assert {each["platform"]["architecture"] for each in index["manifests"]} == {"amd64", "arm64"}


# ── the registry service ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment for a registry of this test's own (in its network, so port 5000 is free)."""
    home = tmp_path / "registry"
    for directory in [tmp_path, *tmp_path.parents]:  # docker-registry runs as its own user
        if directory != Path("/") and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    environment = {"MINIDOCK_REGISTRY_HOME": str(home)}
    yield environment
    run(SETUP / "registry.sh", "stop", **environment)


def test_start_twice_is_start_once(own_registry: dict[str, str]) -> None:
    first = run(SETUP / "registry.sh", "start", **own_registry)
    pid = (Path(own_registry["MINIDOCK_REGISTRY_HOME"]) / "registry.pid").read_text()
    second = run(SETUP / "registry.sh", "start", **own_registry)
    assert "starting on 127.0.0.1:5000" in first.stdout
    assert "is running" in second.stdout
    assert (Path(own_registry["MINIDOCK_REGISTRY_HOME"]) / "registry.pid").read_text() == pid
    assert run(SETUP / "registry.sh", "status", **own_registry).returncode == 0


def test_another_port_can_be_chosen_and_is_remembered(own_registry: dict[str, str]) -> None:
    run(SETUP / "registry.sh", "start", MINIDOCK_REGISTRY_PORT="5050", **own_registry)
    assert run(SETUP / "registry.sh", "address", **own_registry).stdout == "127.0.0.1:5050\n"
    assert "is running on 127.0.0.1:5050" in run(SETUP / "registry.sh", "start", **own_registry).stdout


def test_a_taken_port_is_named_with_its_owner(own_registry: dict[str, str]) -> None:
    squatter = "import socket, threading; socket.create_server(('127.0.0.1', 5000)).detach();"
    squatter += "print(1, flush=True); threading.Event().wait()"
    with subprocess.Popen([sys.executable, "-c", squatter], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        refused = run(SETUP / "registry.sh", "start", check=False, **own_registry)
        process.kill()
    assert refused.returncode == 1
    assert 'port 5000 of 127.0.0.1 is taken (by "python' in refused.stderr
    assert "MINIDOCK_REGISTRY_PORT=" in refused.stderr


# ── the launcher ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["plain", "with space", "deep/" + "x" * 150])
def test_the_launcher_starts_wherever_the_environment_stands(tmp_path: Path, place: str) -> None:
    venv = tmp_path / place
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to("/usr/bin/python3")
    commands = tmp_path / "commands"
    commands.mkdir()
    step = [SETUP / "provision.sh", "command"]
    where = {"MINIDOCK_VENV": str(venv), "MINIDOCK_BIN": str(commands)}
    run(*step, **where)
    assert "on the PATH" in run(*step, **where).stdout
    # Not through `python -c`: the kernel itself has to read the first line.
    started = run(commands / "minidock", "--help", check=False)
    assert "inidock" in started.stdout + started.stderr
    assert "not found" not in started.stderr


def test_the_launcher_runs_isolated_and_without_site() -> None:
    first = (REPOSITORY / ".venv/bin/minidock").read_text().splitlines()[0]
    assert first.endswith("/python -IS")


# ── the rest of the house ────────────────────────────────────────────────────────────────────────────


def test_every_requirement_is_pinned() -> None:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    loose = [
        line for line in lines if line and not line.startswith("#") and not re.search(r"^[\w.-]+==\S+$", line)
    ]
    assert not loose


def test_help_names_every_target() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    named = {
        line.split()[1]
        for line in run("make", "-C", REPOSITORY, "help").stdout.splitlines()
        if line[:2] == "  "
    }
    assert named == phony


@pytest.mark.peer
def test_the_vagrantfile_is_valid() -> None:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed: the Vagrantfile was not validated")
    home = {"HOME": "/root", "VAGRANT_HOME": os.environ.get("TMPDIR", "/tmp") + "/minidock-vagrant-home"}
    try:
        validated = subprocess.run(
            ["vagrant", "validate", "--ignore-provider"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            env=os.environ | home,
            check=False,
        )
    finally:
        shutil.rmtree(home["VAGRANT_HOME"], ignore_errors=True)
    assert validated.returncode == 0, validated.stdout + validated.stderr


def test_the_course_opens_on_loopback_with_a_token(tmp_path: Path) -> None:
    squatter = socket.create_server(("127.0.0.1", 8888))  # so the next port is taken
    process = subprocess.Popen(
        [SETUP / "lab.sh"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
        start_new_session=True,
    )
    assert process.stdout
    try:
        url = next(filter(None, (re.search(r"http://\S+token=\w+", line) for line in process.stdout)))[0]
        assert url.startswith("http://127.0.0.1:8889/lab")
        wait_for(lambda: accepts(8889), what="JupyterLab")  # it says so a moment before it listens
        local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with local.open(url, timeout=30 * PATIENCE) as page:
            assert page.status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            local.open("http://127.0.0.1:8889/api/contents", timeout=30 * PATIENCE)
        listening = run("ss", "-Hltn", "sport = :8889").stdout.split()
        assert listening[3] == "127.0.0.1:8889"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        squatter.close()


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("sha256:12ab00" + "c" * 58, "sha256:c0ffee" + "1" * 58, True),
        ("b5ffb96b6a51 took 3 ms", "c29b956362b5 took 17 ms", True),
        ("+ veth9ed8259 in net:[4026532337]", "+ vetha3f01bc in net:[4026532895]", True),
        ("exit code 0, refused", "exit code 0, done", False),
        ('<svg viewBox="0 0 720 330"><rect x="7"/>', '<svg viewBox="0 0 720 330"><rect x="9"/>', True),
        ('<svg viewBox="0 0 720 330"><rect x="7"/>', '<svg viewBox="0 0 920 330"><rect x="7"/>', False),
    ],
)
def test_outputs_that_differ_only_in_numbers_and_ids_are_kept(one: str, other: str, alike: bool) -> None:
    notebooks = notebooks_script()
    assert (notebooks.masked(one) == notebooks.masked(other)) is alike


def notebooks_script() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks", SETUP / "notebooks.py")
    assert spec and spec.loader
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    return notebooks


def page(*texts: str) -> Any:
    """A notebook that was executed: a cell for each text that came out."""
    said = [nbformat.v4.new_output("stream", text=text) for text in texts]
    cells = [nbformat.v4.new_code_cell(f"cell({n})", outputs=[each]) for n, each in enumerate(said)]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("words"), *cells])


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (("id c29b956362b5", "c29b956362b5 runs"), True),
        (("id c29b956362b5", "c29b956362b5 has ended"), False),
        (("id c29b956362b5",), False),
    ],
)
def test_the_ids_of_a_page_stay_together(now: tuple[str, ...], kept: bool) -> None:
    before = ("id b5ffb96b6a51", "b5ffb96b6a51 runs")
    fresh = page(*now)
    notebooks_script().keep_what_says_the_same(fresh, page(*before))
    assert tuple(cell.outputs[0].text for cell in fresh.cells[1:]) == (before if kept else now)
