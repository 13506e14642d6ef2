"""The engine as notebooks use it: one object, values in, values out, also among threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidock.config import Config
from minidock.engine import Engine
from minidock.errors import Conflict, InvalidInput, NotFound


@pytest.fixture
def engine(busybox: Path) -> Engine:
    return Engine(config=Config(root=busybox))


def test_run_returns_what_was_written(engine: Engine) -> None:
    result = engine.run("busybox", ["echo", "hi"], rm=True)
    assert (str(result), result.stdout, result.exit_code) == ("hi\n", b"hi\n", 0)
    result = engine.run("busybox", "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    assert repr(result).endswith("(exit code 3)")
    assert engine.containers()[0].id == result.container.id


def test_input_and_show(engine: Engine) -> None:
    shown: list[str] = []
    result = engine.run("busybox", ["wc", "-c"], input=b"x" * 100_000, show=shown.append, rm=True)
    assert result.output.strip() == "100000"
    assert "".join(shown) == result.output


def test_options_are_docker_s_flags(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host")
    tmp_path.chmod(0o755)
    result = engine.run(
        "busybox",
        "cat /data/file; echo $A; id -u",
        memory="64m",
        env={"A": "1"},
        volume=[f"{tmp_path}:/data:ro"],
        user="65534",
        label={"x": "y"},
    )
    assert result.output == "host1\n65534\n"
    shown = engine.inspect(result.container.id)
    assert shown["HostConfig"]["Memory"] == 64 << 20
    assert shown["Config"]["Labels"] == {"x": "y"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memroy": "64m"}, "unknown option 'memroy'"),
        ({"memory": "much"}, "invalid size"),
        ({"network": "nosuch"}, "network nosuch not found"),
        ({"tmpfs": ["relative"]}, "must be absolute"),
        ({"tmpfs": ["/a"], "volume": ["/b:/a"]}, "Duplicate mount point"),
    ],
)
def test_bad_options_name_themselves(engine: Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=message):
        engine.create("busybox", ["true"], **options)
    assert engine.containers() == []


def test_a_life_in_the_background(engine: Engine) -> None:
    container = engine.run_detached("busybox", "trap 'exit 4' TERM; while :; do sleep 0.05; done", name="web")
    assert [each.name for each in engine.containers(all=False)] == ["web"]
    assert engine.exec("web", ["hostname"]).output == f"{container.id[:12]}\n"
    with pytest.raises(Conflict):
        engine.rm("web")
    engine.stop("web")
    assert engine.wait("web") == 4
    assert engine.ps(all=True)[0]["Status"].startswith("Exited (4)")
    engine.rm("web")
    with pytest.raises(NotFound):
        engine.container("web")


def test_explain_names_lessons(engine: Engine) -> None:
    result = engine.run("busybox", ["true"])
    steps = engine.explain(result.container.id)
    assert {step.operation for step in steps} >= {"clone", "pivot_root", "execve"}
    assert {step.lesson for step in steps} >= {1, 3, 4, 11}


def test_from_several_threads_at_once(engine: Engine) -> None:
    """A process with threads must not fork a container itself: the warm helper does."""
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = engine.run("busybox", ["echo", str(number)], rm=True).output

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(6)}
    assert engine.containers() == []


def test_export_to_any_file(engine: Engine, tmp_path: Path) -> None:
    import io
    import tarfile

    engine.run("busybox", "echo x > /mine", name="web")
    file = io.BytesIO()
    engine.export("web", file)
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        assert "mine" in archive.getnames()


def test_two_roots_never_see_each_other(engine: Engine, make_root: Callable[[], Path]) -> None:
    engine.create("busybox", ["true"], name="web")
    other = Engine(config=Config(root=make_root()))
    assert other.containers() == []
    assert other.images() == []
