"""A container's life: create, start, stop, kill, pause, rename, remove, and what the files say."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import select
import signal

import pytest

from minidock import files, trace
from minidock.containers import lifecycle, state
from minidock.containers.streams import Streams
from minidock.errors import Conflict, InvalidInput, MinidockError, NotFound

pytestmark = pytest.mark.vm
NOTHING = Streams(None, None, None, forward_signals=False)


def test_runs_and_gives_the_exit_code(box):
    ran = box.sh("echo out; echo err >&2; exit 3")
    assert (ran.code, ran.out, ran.err) == (3, b"out\n", b"err\n")
    found = ran.container.state()
    assert (found.status, found.exit_code, found.pid, found.oom_killed) == ("exited", 3, 0, False)
    assert found.started_at < found.finished_at


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 127, 'exec: "nope": executable file not found in $PATH'),
        (["/nope"], 127, 'exec: "/nope": stat /nope: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": is a directory'),
        ([""], 127, 'exec: "": executable file not found in $PATH'),
    ],
)
def test_what_cannot_be_run_has_dockers_exit_code(box, arguments, code, message):
    container = box.create(*arguments)
    with pytest.raises(MinidockError) as error:
        lifecycle.start(container)
    assert error.value.exit_code == code
    assert message in error.value.message
    assert container.status() == "created"
    assert (container.state().exit_code, message in container.state().error) == (code, True)


def test_a_missing_interpreter_is_named(box):
    container = box.create("/script")
    (container.directory / "upper" / "script").write_text("#!/opt/python\n")
    (container.directory / "upper" / "script").chmod(0o755)
    with pytest.raises(MinidockError) as error:
        lifecycle.start(container)
    assert error.value.exit_code == 127
    assert "/opt/python is missing" in (error.value.hint or "")


def test_a_file_that_is_no_program(box):
    container = box.create("/text")
    (container.directory / "upper" / "text").write_text("hello\n")
    (container.directory / "upper" / "text").chmod(0o755)
    with pytest.raises(MinidockError, match="exec /text: exec format error") as error:
        lifecycle.start(container)
    assert error.value.exit_code == 126


def test_death_by_signal_is_128_and_the_signal(box):
    container = box.start("sleep", "100")
    lifecycle.kill(container)
    assert container.state().exit_code == 137
    ran = box.sh("sh -c 'kill -TERM $$'; exit $?")
    assert ran.code == 143


def test_stop_asks_first(box):
    container = box.start(
        "sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 1 & wait $!; done"
    )
    box.until_ready(container)
    lifecycle.stop(container)
    assert (container.status(), container.state().exit_code) == ("exited", 5)
    assert [entry[1] for entry in lifecycle.read_logs(container)] == [b"up\n", b"bye\n"]
    lifecycle.stop(container)  # nothing to do


def test_stop_kills_what_does_not_listen(box):
    container = box.start("sleep", "100")  # process 1 ignores signals that it does not handle
    lifecycle.stop(container, timeout=0)
    assert container.state().exit_code == 137


def test_stop_uses_the_stop_signal(box):
    script = "trap 'exit 7' USR1; echo up; while :; do sleep 1 & wait $!; done"
    container = box.start("sh", "-c", script, stop_signal="SIGUSR1")
    box.until_ready(container)
    lifecycle.stop(container)
    assert container.state().exit_code == 7


def test_wait(box):
    container = box.start("sh", "-c", "read line; exit 4", open_stdin=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = [pool.submit(lifecycle.wait, container) for _ in range(3)]
        out: list[bytes] = []
        streams = box.streams(b"go\n", out, [])
        assert lifecycle.attach_to(container, streams) == 4
        assert [each.result() for each in waiting] == [4, 4, 4]
    assert lifecycle.wait(container) == 4  # long ended


@pytest.mark.parametrize("verb", ["wait", "attach"])
def test_who_comes_while_it_is_ending_hears_the_code(box, verb):
    """Between the death of its process and the news of it the shim has work to do for some milliseconds."""
    for _ in range(10):
        container = box.start("sleep", "1000", auto_remove=True)
        process = os.pidfd_open(container.state().pid)
        os.kill(container.state().pid, signal.SIGKILL)
        select.select([process], [], [])
        os.close(process)
        try:
            code = lifecycle.wait(container) if verb == "wait" else lifecycle.attach_to(container, NOTHING)
        except (NotFound, Conflict):  # too late: it is gone
            assert not container.exists()
        else:
            assert code == 137


def test_wait_for_one_that_is_gone(box):
    container = box.start("true", auto_remove=True)
    with contextlib.suppress(NotFound):
        lifecycle.wait(container, "removed")
    with pytest.raises(NotFound):
        lifecycle.wait(container)


def test_start_again_keeps_the_files(box):
    container = box.create("sh", "-c", "echo x >> /data; wc -l < /data")
    assert lifecycle.start(container) is None
    lifecycle.wait(container)
    lifecycle.start(container)
    lifecycle.wait(container)
    assert [entry[1] for entry in lifecycle.read_logs(container)] == [b"1\n", b"2\n"]


def test_start_twice_does_nothing(box):
    container = box.service()
    pid = container.state().pid
    lifecycle.start(container)
    assert container.state().pid == pid


def test_pause_freezes_and_unpause_thaws(box, until):
    container = box.start("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /n; done")
    counter = container.directory / "upper" / "n"
    until(lambda: counter.exists() and counter.read_text(), "the first count")
    lifecycle.pause(container)
    assert container.status() == "paused"
    frozen = counter.read_text()
    assert counter.read_text() == frozen
    with pytest.raises(Conflict, match="already paused"):
        lifecycle.pause(container)
    with pytest.raises(Conflict, match="unpause the container before exec"):
        box.exec(container, "true")
    with pytest.raises(Conflict, match="try unpause"):
        lifecycle.start(container)
    lifecycle.unpause(container)
    assert container.status() == "running"
    until(lambda: counter.read_text() not in ("", frozen), "the count to go on")
    lifecycle.pause(container)
    lifecycle.kill(container)
    assert container.state().exit_code == 137


def test_names(box):
    container = box.create("true", name="web")
    with pytest.raises(Conflict, match=f'"/web" is already in use by container "{container.id}"'):
        box.create("true", name="web")
    assert len(state.containers(box.root)) == 1
    lifecycle.rename(container, "site")
    assert state.find(box.root, "site").id == container.id
    with pytest.raises(NotFound):
        state.find(box.root, "web")
    assert box.create("true", name="web").name == "web"
    with pytest.raises(Conflict):
        lifecycle.rename(container, "web")
    with pytest.raises(InvalidInput, match="only"):
        box.create("true", name="-no")


def test_automatic_names_differ(box):
    names = {box.create("true").name for _ in range(10)}
    assert len(names) == 10
    assert all("_" in name for name in names)


def test_find_by_id_prefix_and_name(box):
    container = box.create("true", name="one")
    for text in (container.id, container.id[:12], container.id[:1], "one", "/one"):
        assert state.find(box.root, text).id == container.id
    for text in ("", "two", "../x", "f" * 64, container.id[:5] + "x"):
        with pytest.raises(NotFound):
            state.find(box.root, text)


def test_an_ambiguous_prefix_is_refused(box):
    made = [box.create("true") for _ in range(17)]  # two of them begin with the same digit
    prefixes = [each.id[0] for each in made]
    twice = next(prefix for prefix in prefixes if prefixes.count(prefix) > 1)
    with pytest.raises(InvalidInput, match="Multiple IDs"):
        state.find(box.root, twice)


def test_remove(box):
    container = box.service(name="web")
    with pytest.raises(Conflict, match="container is running"):
        lifecycle.remove(container)
    lifecycle.remove(container, force=True)
    assert not container.directory.exists()
    assert state.containers(box.root) == []
    assert os.listdir(box.root / "names") == []


def test_auto_remove_leaves_nothing(box):
    ran = box.sh("echo gone", auto_remove=True)
    assert (ran.code, ran.out) == (0, b"gone\n")
    assert not ran.container.directory.exists()
    assert os.listdir(box.root / "names") == []


def test_auto_remove_when_it_cannot_start(box):
    container = box.create("nope", auto_remove=True)
    with pytest.raises(MinidockError):
        lifecycle.start(container)
    assert state.containers(box.root) == []


def test_no_command_is_refused(box):
    with pytest.raises(InvalidInput, match="no command specified"):
        box.create()


def test_config_survives_as_json(box):
    container = box.create("true", name="web", environment=["A=1"], ulimits={"nofile": (10, 20)})
    assert files.read_json(container.directory / "config.json")["environment"] == ["A=1"]
    assert state.find(box.root, "web").spec == container.spec


def test_twenty_at_once(box):
    def one(number: int) -> bytes:
        ran = box.sh(f"echo {number}; sleep 0.2; hostname", hostname=f"h{number}")
        assert ran.code == 0
        return ran.out

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(20)))
    assert found == [f"{number}\nh{number}\n".encode() for number in range(20)]


def test_twenty_for_one_name(box):
    def one(number: int) -> str:
        try:
            return box.create("true", name="web").id
        except Conflict:
            return ""

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        winners = [found for found in pool.map(one, range(20)) if found]
    assert len(winners) == 1
    assert [each.id for each in state.containers(box.root)] == winners


def test_trace_tells_the_birth(box):
    from minidock import trace

    ran = box.run("true", environment=["SECRET=hush"])
    steps = trace.read(ran.container.directory / "trace.jsonl")
    operations = [step.operation for step in steps]
    assert operations[-1] == "execve"
    for expected in ("clone", "mount", "pivot_root", "seccomp", "capset"):
        assert expected in operations
    assert {1, 2, 3, 4, 9, 11} <= {step.lesson for step in steps}
    text = (ran.container.directory / "trace.jsonl").read_text()
    assert "hush" not in text
    assert (ran.container.directory / "trace.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_students_layer_runs_instead_of_ours(box, overlay_dir):
    mydock = overlay_dir / "mydock"
    mydock.mkdir()
    own = (
        "from minidock.kernel import syscalls\n"
        "def set_hostname(name, domain=''):\n"
        "    syscalls.sethostname('mine-' + name)\n"
    )
    (mydock / "namespaces.py").write_text(own)
    assert box.run("hostname", hostname="x", student_layers=str(mydock)).text == "mine-x\n"
    (mydock / "namespaces.py").write_text(own.replace("mine-", "edited-"))
    ran = box.run("hostname", hostname="x", student_layers=str(mydock))
    assert ran.text == "edited-x\n"
    from minidock import trace

    steps = trace.read(ran.container.directory / "trace.jsonl")
    assert [step.source for step in steps if step.operation == "sethostname"] == [
        str(mydock / "namespaces.py")
    ]
    assert box.run("hostname", hostname="x").text == "x\n"  # the spawner itself is not changed


def test_a_students_mistake_is_named(box, overlay_dir):
    mydock = overlay_dir / "mydock"
    mydock.mkdir()
    (mydock / "rootfs.py").write_text("def pivot_into(new_root):\n    raise ValueError('my mistake')\n")
    with pytest.raises(MinidockError, match=r"rootfs\.py, line 2: ValueError: my mistake"):
        box.run("true", student_layers=str(mydock))
    (mydock / "rootfs.py").write_text("def pivot_into(new_root)\n")
    with pytest.raises(MinidockError, match="line"):
        box.run("true", student_layers=str(mydock))


def test_a_program_may_have_a_megabyte_of_arguments(box):
    words = [f"{number:08}" for number in range(100_000)]
    ran = box.run("echo", *words)
    assert ran.out.split() == [word.encode() for word in words]
    steps = trace.read(ran.container.directory / "trace.jsonl")
    assert [len(step.arguments["argv"]) for step in steps if step.operation == "execve"] == [1000]
    container = box.start("sleep", "600")
    assert box.exec(container, "echo", *words).out == ran.out


def test_who_removes_what_has_just_removed_itself_finds_nothing_to_do(box):
    container = box.create("true")
    files.remove_tree(state.vanish(container))
    state.delete(container)
    assert not (box.root / "names" / container.name).is_symlink()
