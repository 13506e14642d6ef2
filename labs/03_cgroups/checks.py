"""The checks of lab 03. Each tries the student's functions in a world of its own (minidock.lab.checks).

The world has cgroups of its own, too: what looks like the top of the trees is the checker's own cgroup.
"""

import _thread
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from minidock.errors import KernelError
from minidock.kernel import cgroups
from minidock.kernel.cgroup_tree import CONTROLLERS, hierarchies, keyed, processes
from minidock.lab.checks import CGROUP, World, expect, task

MIB = 1 << 20
SECONDS = 3  # that a check waits for something before it gives up


@contextmanager
def _cgroup():
    """The places of a cgroup that the library's own code made; what is in it is woken at the end."""
    driver = cgroups.driver()
    places = driver.create(hierarchies()[1], CGROUP, "one")
    try:
        yield places
    finally:
        with suppress(KernelError):  # removed
            driver.thaw(places)


def _start(program, places):
    """A process of *places* that runs *program*; it enters by itself, without the student's code."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # however this goes, it ends
        try:
            for directory in set(places.values()):
                _write(f"{directory}/cgroup.procs", "0")
            program()
        finally:
            os._exit(0)
    return pid


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)


def _sleep():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(20)


def _wait(happened, seconds=SECONDS):
    """Whether it happens before patience ends."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def _several(number, places, program=_sleep):
    """Start *number* processes, and wait until all are inside."""
    for _ in range(number):
        _start(program, places)
    assert _wait(lambda: len(processes(places["freezer"])) >= number), "the processes did not start"


def _in(seconds):
    return time.monotonic() + seconds


# How long the kernel takes to stop or to end a process is chance, and often too short to be noticed. What
# a debugger holds stays until the debugger is gone. So whoever does not wait is found out every time.

PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40  # linux/ptrace.h


@contextmanager
def _held(threads, asked=lambda: True):
    """While the block runs, a debugger holds each of *threads* that wants to end.

    It goes before, and they end, when *asked* says yes and the student's code then waits as it should: it
    reads again and again. Whoever waits without reading gets a little patience. Yields a pipe, with a byte
    in it when the first is held.
    """
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes, ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    student = os.readlink("/proc/self")
    reading, writing = os.pipe()
    debugger = os.fork()
    if debugger == 0:
        for each in threads:
            ptrace(PTRACE_SEIZE, each, 0, PTRACE_O_TRACEEXIT)
        os.write(writing, b".")
        os.wait()  # a debugger hears of it like a parent
        os.write(writing, b".")
        _wait(asked)
        enough = _reads(student) + 40
        _wait(lambda: _reads(student) > enough, SECONDS - 1)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    try:
        yield reading
    finally:
        os.kill(debugger, signal.SIGKILL)


def _reads(process):
    """How often a process has called read(2)."""
    with suppress(OSError):
        return keyed(Path(f"/proc/{process}/io").read_text().replace(":", ""))["syscr"]
    return 0


@contextmanager
def _changing(places):
    """A process in the middle of an execve: the kernel first waits for the end of its other thread.

    That one is held. So this process cannot stop until a moment after somebody asks it to.
    """
    told, telling = os.pipe()
    allowed, allowing = os.pipe()

    def other():
        os.write(telling, b"%d" % threading.get_native_id())
        time.sleep(20)

    def program():
        _thread.start_new_thread(other, ())
        os.read(allowed, 1)
        os.execv("/bin/sleep", ["sleep", "20"])

    _start(program, places)
    thread = int(os.read(told, 16))
    if hierarchies()[0] == "v1":  # frozen it could not end, even when it is let go
        _write(f"{hierarchies()[1]['freezer']}/tasks", str(thread))
    with _held([thread], lambda: _freezing(places["freezer"])) as held:
        os.write(allowing, b".")
        os.read(held, 1)
        yield


def _freezing(directory):
    """Whether somebody asked the cgroup to freeze, read without the student's code."""
    if hierarchies()[0] == "v1":
        return Path(directory, "freezer.state").read_text() != "THAWED\n"
    return Path(directory, "cgroup.freeze").read_text() == "1\n"


@contextmanager
def _others_first(places):
    """When the first process is killed, all others that can fork do so before the caller goes on.

    On a busy machine that happens by itself.
    """
    kill = os.kill

    def and_wait(pid, number):
        kill(pid, number)
        if not waited:
            waited.append(pid)
            before = set(processes(places["freezer"]))
            _wait(lambda: _stands(places) or not before & set(processes(places["freezer"])))

    waited: list[int] = []
    with mock.patch("os.kill", and_wait):
        yield


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_a_directory_in_every_tree(world: World):
    def story():
        places = cgroups.create(CGROUP, "one")
        _, tops = hierarchies()
        needed = [name for name in ("cpu", "memory", "pids", "freezer") if name in tops]
        wrong = [name for name in needed if places.get(name) != f"{tops[name]}/{CGROUP}/one"]
        missing = [name for name in needed if name not in wrong and not os.path.isdir(places[name])]
        return [{name: str(places.get(name)) for name in wrong}, missing]

    told = world.tell(story, call=f'create("{CGROUP}", "one")')
    wrong, missing = told.value
    expect(
        not wrong and not missing,
        call=f'create("{CGROUP}", "one")',
        result=f"places: {wrong}" if wrong else f"no directory for {', '.join(missing)}",
        expected=f"for every controller its top directory, then /{CGROUP}/one",
        next_step="Walk down from the top of each tree, and make the directories that are missing.",
    )


@task(1, needs=("test_a_directory_in_every_tree",))
def test_the_cgroup_can_be_used(world: World):
    memory = "memory.limit_in_bytes" if hierarchies()[0] == "v1" else "memory.max"

    def story():
        places = cgroups.create(CGROUP, "one")
        files = [("pids", "pids.max"), ("memory", memory)]
        missing = [file for name, file in files if not os.path.exists(f"{places[name]}/{file}")]
        pid = _start(_sleep, places)
        inside = _wait(lambda: pid in processes(places["pids"]))
        return [missing, inside]

    told = world.tell(story, call=f'create("{CGROUP}", "one")')
    missing, inside = told.value
    expect(
        not missing and inside,
        call=f'create("{CGROUP}", "one"), then a process enters',
        result=f"the files {', '.join(missing)} are missing" if missing else "it cannot enter",
        expected=f"pids.max and {memory} are there, and a process can enter all places",
        next_step="v2: hand the controllers down at every level above. v1: leave cpuset out.",
    )


@task(1, needs=("test_a_directory_in_every_tree",))
def test_an_existing_cgroup_is_taken_over(world: World):
    def story():
        return cgroups.create(CGROUP, "one") == cgroups.create(CGROUP, "one")

    told = world.listen(story)
    expect(
        told.value is True,
        call=f'create("{CGROUP}", "one") twice',
        result=told.error or told.ended or "two different answers",
        expected="the same places both times: after a crash, a start finds the old cgroup",
        next_step="Call mkdir only when the directory is not there.",
    )


@task(1)
def test_remove_waits_for_the_last_process(world: World):
    def story():
        with _cgroup() as places:
            pid = _start(lambda: time.sleep(0.3), places)
            _wait(lambda: pid in processes(places["pids"]))
            cgroups.remove(places, _in(SECONDS))
            return [directory for directory in places.values() if os.path.isdir(directory)]

    told = world.listen(story)
    expect(
        told.value == [],
        call="remove(places, deadline) while a process inside is about to end",
        result=told.error or told.ended or f"still there: {told.value}",
        expected="it waits for the process, then the directories are gone",
        next_step="EBUSY means: not yet. Try again until the deadline.",
    )


@task(1, needs=("test_remove_waits_for_the_last_process",))
def test_remove_tells_when_it_cannot(world: World):
    def story():
        with _cgroup() as places:
            pid = _start(_sleep, places)
            _wait(lambda: pid in processes(places["pids"]))
            try:
                cgroups.remove(places, _in(0.1))
            except KernelError as error:
                return error.errno_name
            return "no error"

    told = world.tell(story, call="remove(places, deadline)")
    expect(
        told.value == "EBUSY",
        call="remove(places, deadline) of a cgroup whose process stays",
        result=told.value,
        expected="KernelError EBUSY after the deadline: nobody must believe that it is gone",
        next_step="After the deadline, let the error out: raise.",
    )


@task(1, needs=("test_remove_waits_for_the_last_process",))
def test_gone_already_is_fine(world: World):
    def story():
        with _cgroup() as places:
            gone = {name: f"{directory}/gone/too" for name, directory in places.items()}
            cgroups.remove(gone, _in(0.5))

    told = world.listen(story)
    expect(
        not told.error and not told.ended,
        call="remove(places, deadline), where the directories do not exist",
        result=told.error or told.ended,
        expected="nothing happens: somebody else may have removed them",
        next_step="Look first whether the directory is there.",
    )


# --- task 2 --------------------------------------------------------------------------------------


@task(2)
def test_every_limit_is_written(world: World):
    memory = "memory.limit_in_bytes" if hierarchies()[0] == "v1" else "memory.max"
    settings = [("pids", "pids.max", "17"), ("memory", memory, str(32 * MIB))]

    def story():
        with _cgroup() as places:
            cgroups.limit(places, settings)
            return [Path(places[name], file).read_text().strip() for name, file, _ in settings]

    told = world.tell(story, call=f"limit(places, {settings})")
    expect(
        told.value == ["17", str(32 * MIB)],
        call=f"limit(places, {settings})",
        result=f"the files say {' and '.join(told.value)}",
        expected=f"17 and {32 * MIB}",
        next_step="Write each text into its file, in the directory of its controller.",
    )


@task(2)
def test_a_process_moves_in(world: World):
    def story():
        with _cgroup() as places:
            pid = os.fork()
            if pid == 0:
                _sleep()
                os._exit(0)
            cgroups.attach(places, pid)
            return [name for name, place in places.items() if pid not in processes(place)]

    told = world.tell(story, call="attach(places, pid)")
    expect(
        told.value == [],
        call="attach(places, pid)",
        result=f"the process is not in the cgroup of {', '.join(told.value)}",
        expected="it is in every place",
        next_step="Write str(pid) into cgroup.procs of every directory in places.",
    )


@task(2)
def test_enter_moves_ourselves(world: World):
    def story():
        with _cgroup() as places:
            cgroups.enter(places)
            return [name for name, place in places.items() if os.getpid() not in processes(place)]

    told = world.tell(story, call="enter(places)", next_step="Write 0 into cgroup.procs of each place.")
    expect(
        told.value == [],
        call="enter(places)",
        result=f"the caller is not in the cgroup of {', '.join(told.value)}",
        expected="it is in every place",
        next_step="Write 0, which means whoever writes, into cgroup.procs of every directory in places.",
    )


# --- task 3 --------------------------------------------------------------------------------------


def _stands(places):
    """Whether all stand, read without the student's code."""
    return cgroups.driver().frozen(places)


@task(3)
def test_all_stand_when_freeze_returns(world: World):
    def story():
        with _cgroup() as places:
            _several(3, places)
            with _changing(places):
                cgroups.freeze(places, _in(SECONDS))
                return _stands(places)

    told = world.tell(story, call="freeze(places, deadline)")
    expect(
        told.value,
        call="freeze(places, deadline) of 4 processes; one is in the middle of an execve",
        result="when it returned, some still ran",
        expected="all stand: who takes a snapshot of the files next must be sure",
        next_step="Read the state in a loop, and return only when the file says that all are frozen.",
    )


@task(3, needs=("test_all_stand_when_freeze_returns",))
def test_they_run_on_after_the_thaw(world: World):
    def story():
        reading, writing = os.pipe()

        def work():
            while True:
                os.write(writing, b".")
                time.sleep(0.001)

        with _cgroup() as places:
            _several(1, places, work)
            cgroups.freeze(places, _in(SECONDS))
            os.set_blocking(reading, False)
            while _read(reading):  # what was written before the freeze
                continue
            stood = not _wait(lambda: _read(reading), 0.1)
            cgroups.thaw(places)
            return [stood, _wait(lambda: _read(reading))]

    told = world.tell(story, call="freeze(places, deadline), then thaw(places)")
    expect(
        told.value == [True, True],
        call="freeze(places, deadline), then thaw(places), of a process that writes all the time",
        result="it wrote while it was frozen" if not told.value[0] else "it never wrote again",
        expected="silence while frozen, then it goes on where it was",
        next_step="Look at the word that thaw writes, and at the file.",
    )


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


# --- task 4 --------------------------------------------------------------------------------------


@task(4, needs=("test_they_run_on_after_the_thaw",))
def test_all_are_killed(world: World):
    def story():
        with _cgroup() as places:
            _several(5, places)
            cgroups.driver().freeze(places, _in(SECONDS))
            cgroups.kill_all(places, _in(SECONDS))
            return _wait(lambda: not processes(places["freezer"]))

    told = world.listen(story)
    expect(
        told.value is True,
        call="kill_all(places, deadline) of 5 frozen processes that ignore SIGTERM",
        result=told.error or told.ended or "some still live",
        expected="none is left",
        next_step="SIGKILL cannot be ignored. What is frozen must be thawed before it can die.",
    )


@task(4, needs=("test_all_are_killed",))
def test_a_fork_bomb_ends(world: World):
    def hop():
        """Live for a moment only: a child goes on. Whoever kills by an old list kills the dead."""
        while True:
            with suppress(OSError):  # at the limit: try again, or the bomb would end by itself
                if os.fork():
                    os._exit(0)

    def story():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # process 1 buries nobody by hand
        with _cgroup() as places:
            _write(f"{places['pids']}/pids.max", "40")
            for _ in range(8):
                _start(hop, places)
            _wait(lambda: len(processes(places["freezer"])) >= 4)
            with _others_first(places):
                cgroups.kill_all(places, _in(2 * SECONDS))
            return _wait(lambda: not processes(places["freezer"]), 5 * SECONDS)  # the killed need time, too

    told = world.listen(story)
    expect(
        told.value is True,
        call="kill_all(places, deadline) of processes that fork all the time",
        result=told.error or told.ended or "some got away",
        expected="none is left",
        next_step="Freeze before you read the list: what stands still cannot fork.",
    )


@task(4, needs=("test_a_fork_bomb_ends",))
def test_nobody_is_left_when_it_returns(world: World):
    def story():
        with _cgroup() as places:
            _several(20, places)
            with _held(processes(places["freezer"])):
                cgroups.kill_all(places, _in(2 * SECONDS))
                return len(processes(places["freezer"]))

    told = world.tell(story, call="kill_all(places, deadline)")
    expect(
        told.value == 0,
        call="kill_all(places, deadline) of 20 processes, of which a debugger holds each a moment longer",
        result=f"when it returned, {told.value} were still there",
        expected="none: the next step removes the cgroup",
        next_step="A kill takes a moment. Look again until the list is empty.",
    )


# --- task 5 --------------------------------------------------------------------------------------


def _planted(world, usage, idle):
    """Places whose files say what the check wants: memory in use, and how much of it is idle cache."""
    directory = world.scratch / "planted"
    directory.mkdir()
    (directory / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (directory / "memory.current").write_text(f"{usage}\n")
    here = 1 if hierarchies()[0] == "v1" else idle  # v1: without the cgroups below
    (directory / "memory.stat").write_text(
        f"inactive_file {here}\nactive_file 2\ntotal_inactive_file {idle}\n"
    )
    return dict.fromkeys(CONTROLLERS, str(directory))


@task(5)
def test_idle_cache_does_not_count(world: World):
    told = world.tell(
        lambda: cgroups.memory_in_use(_planted(world, 50 * MIB, 20 * MIB)), call="memory_in_use(places)"
    )
    expect(
        told.value == 30 * MIB,
        call=f"memory_in_use(places) with a usage of {50 * MIB}, of which {20 * MIB} are inactive_file",
        result=told.value,
        expected=30 * MIB,
        next_step="Subtract inactive_file (v1: total_inactive_file) from the usage.",
    )


@task(5, needs=("test_idle_cache_does_not_count",))
def test_never_less_than_nothing(world: World):
    told = world.tell(lambda: cgroups.memory_in_use(_planted(world, 5, 20)), call="memory_in_use(places)")
    expect(
        told.value == 0,
        call="memory_in_use(places) with a usage of 5, and 20 inactive: read a moment later",
        result=told.value,
        expected="0",
        next_step="max(…, 0)",
    )


@task(5, needs=("test_idle_cache_does_not_count",))
def test_without_a_memory_controller(world: World):
    told = world.listen(lambda: [cgroups.memory_in_use({}), cgroups.oom_kills({})])
    expect(
        told.value == [None, 0],
        call="memory_in_use({}) and oom_kills({})",
        result=told.error or told.ended or told.value,
        expected="None and 0: not every machine counts memory",
        next_step='Look first whether "memory" is in places.',
    )


@task(5)
def test_an_oom_kill_is_counted(world: World):
    v1 = hierarchies()[0] == "v1"
    limits = {"memory.limit_in_bytes": 16 * MIB, "memory.memsw.limit_in_bytes": 16 * MIB}
    if not v1:
        limits = {"memory.max": 16 * MIB, "memory.swap.max": 0}

    def story():
        with _cgroup() as places:
            for file, number in limits.items():
                if os.path.exists(f"{places['memory']}/{file}"):
                    _write(f"{places['memory']}/{file}", str(number))
            before = cgroups.oom_kills(places)
            pid = _start(lambda: bytearray(os.urandom(64 * MIB)), places)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return [before, cgroups.oom_kills(places), status]

    told = world.tell(story, call="oom_kills(places)")
    expect(
        told.value[:2] == [0, 1],
        call="oom_kills(places) before and after the kernel killed one process that took 64 MiB of 16",
        result=f"{told.value[0]} and {told.value[1]}; the process ended with {told.value[2]}",
        expected="0 and 1",
        next_step="The line oom_kill in memory.oom_control (v1) or memory.events (v2).",
    )


# --- task 6 --------------------------------------------------------------------------------------


@task(
    6,
    needs=(
        "test_the_cgroup_can_be_used",
        "test_an_existing_cgroup_is_taken_over",
        "test_remove_tells_when_it_cannot",
        "test_gone_already_is_fine",
        "test_every_limit_is_written",
        "test_a_process_moves_in",
        "test_enter_moves_ourselves",
        "test_nobody_is_left_when_it_returns",
        "test_never_less_than_nothing",
        "test_without_a_memory_controller",
        "test_an_oom_kill_is_counted",
    ),
)
def test_a_real_image_runs_on_your_layer(tmp_path):
    layers = Path(os.environ["MINIDOCK_LAYERS"])
    minidock = [Path(sys.executable).with_name("minidock"), "--root", tmp_path / "state", "--layers", layers]

    def run(*arguments, code=0):
        done = subprocess.run([*minidock, *arguments], capture_output=True, text=True, timeout=60)
        expect(
            done.returncode == code,
            call=f"minidock {' '.join(str(each) for each in arguments)}",
            result=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}",
            expected=f"exit code {code}",
            next_step="Try it by hand with --layers ~/mydock and --explain.",
        )
        return done.stdout

    run("load", "--input", os.environ["MINIDOCK_LAB_IMAGE"])
    hog = ("dd", "if=/dev/zero", "of=/dev/null", "bs=64M")
    run("run", "--name", "hog", "--memory", "16m", "busybox", *hog, code=137)
    killed = run("inspect", "--format", "{{.State.OOMKilled}}", "hog").strip()
    run("run", "-d", "--name", "yours", "--pids-limit", "20", "busybox", "sleep", "1000")
    run("pause", "yours")
    paused = run("inspect", "--format", "{{.State.Status}}", "yours").strip()
    run("unpause", "yours")
    (trace,) = (tmp_path / "state/containers").glob(f"{run('ps', '-q').strip()}*/trace.jsonl")
    sources = {json.loads(line)["source"] for line in trace.read_text().splitlines()}
    run("rm", "-f", "yours", "hog")
    expect(
        killed == "true" and paused == "paused",
        call="minidock --layers … run --memory 16m busybox dd …; run -d busybox sleep; pause",
        result=f"OOMKilled is {killed}, the second is {paused}",
        expected="OOMKilled is true, the second is paused",
        next_step="Try it by hand with --layers ~/mydock.",
    )
    expect(
        str(layers / "cgroups.py") in sources,
        call="minidock --layers … run busybox",
        result=f"its record names {sources}",
        expected=f"steps taken by {layers / 'cgroups.py'}",
        next_step="Use `syscalls` for every step: only then the record names your file.",
    )
