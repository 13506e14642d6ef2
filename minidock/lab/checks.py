"""What a lab's ``checks.py`` is written with: worlds to try the student's code in, and fair messages.

A check tells the student's functions what to do in a :class:`World`, a mount and pid namespace that
lives for one check only, and then looks at what they did. Checks are pytest functions; this module is
also the pytest plugin that runs them (``-p minidock.lab.checks``) and writes the results as JSON.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from minidock import layers, sandbox
from minidock.errors import MinidockError
from minidock.lab.workshop import Lab, find

# What one story may take; a machine in software emulation, or a very busy one, says how much more.
SECONDS = 10.0 * float(os.environ.get("MINIDOCK_PATIENCE", "1"))
MAX_ANSWER = 1 << 22  # bytes
CGROUP = "check"  # where a story's cgroups belong; what is left there is removed
UNWRITTEN = "not written yet"


class Missed(AssertionError):
    """A check that the student's code does not pass: what was called, what came, what was expected."""

    def __init__(self, *, call: str, result: str, expected: str, next_step: str) -> None:
        super().__init__(f"{call}: {result}; expected: {expected}. {next_step}")
        self.call, self.result, self.expected, self.next_step = call, result, expected, next_step


def expect(met: bool, *, call: str, result: object, expected: str, next_step: str) -> None:
    """Raise :class:`Missed` with these words unless *met*."""
    if not met:
        raise Missed(call=call, result=str(result), expected=expected, next_step=next_step)


def task(number: int, needs: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a check as part of task *number*; it is *blocked* while a check named in *needs* fails."""

    def mark(check: Callable[..., None]) -> Callable[..., None]:
        check.task, check.needs = number, needs  # type: ignore[attr-defined]
        return check

    return mark


@dataclass(slots=True)
class Told:
    """How a story went. *value* is what it returned (as JSON), *leaks* the mounts that reached outside."""

    value: Any = None
    error: str = ""
    ended: str = ""  # why there is no value: "still running after 10 s", "sys.exit()"
    leaks: list[str] = field(default_factory=list)


class World:
    """A throwaway mount and pid namespace, with a small root filesystem to work on.

    ``/`` of the world is *shared*, as it is on a machine that systemd booted: a mount made by a process
    that forgot MS_PRIVATE shows up outside, where :meth:`tell` finds it.
    """

    def __init__(self, scratch: Path, student: Path) -> None:
        self.scratch, self.student = scratch, student
        self.root = scratch / "root"

    def tell(self, story: Callable[[], Any], *, call: str, next_step: str = "") -> Told:
        """Run *story* with the student's layers in place, in a new world; raise Missed if it fails.

        *call* is how the message names what was tried.
        """
        told = self.listen(story)
        if told.error.startswith(UNWRITTEN):
            raise Missed(
                call=call,
                result=told.error,
                expected="your code",
                next_step="Write the function: its docstring says what it must do.",
            )
        if told.error or told.ended:
            raise Missed(
                call=call,
                result=told.error or told.ended,
                expected="no error",
                next_step=next_step or "Read the error: it names the line of your file.",
            )
        return told

    def listen(self, story: Callable[[], Any]) -> Told:
        """As :meth:`tell`, but an error of the story is part of the answer."""
        reader, writer = os.pipe()
        outside = os.fork()
        if outside == 0:
            os.close(reader)
            with _last_words(writer) as answer:
                answer.update(self._outside(story))
        os.close(writer)
        with open(reader, "rb") as answers:
            text = answers.read()
        os.waitpid(outside, 0)
        return Told(**json.loads(text)) if text else Told(ended="the process that watches it was killed")

    def _outside(self, story: Callable[[], Any]) -> dict[str, Any]:
        """The process that stands for the machine around a container: make the world, watch it."""
        sandbox.become_machine(self.scratch)
        _plant(self.root)
        # Opened now: the student's code may unmount /proc, here as well.
        with open("/proc/thread-self/mountinfo") as mountinfo:
            return self._watch(story, mountinfo)

    def _watch(self, story: Callable[[], Any], mountinfo: IO[str]) -> dict[str, Any]:
        before = _mounts(mountinfo)
        reader, writer = os.pipe()
        inside = os.fork()
        if inside == 0:
            os.close(reader)
            with _last_words(writer) as answer:
                sandbox.offer_to_oom_killer()
                sandbox.unshare_mounts()
                layers.load(self.student)
                answer["value"] = story()
        os.close(writer)
        told = _listen(inside, reader)
        told["leaks"] = [line for line in _mounts(mountinfo) if line not in before]
        return told


class Command:
    """The ``minidock`` command, on an empty state root, for the last task of a lab."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = Path(os.environ["MINIDOCK_LAYERS"])

    def __call__(self, *arguments: str | Path) -> str:
        """Run it; returns what it printed. Raises Missed when it fails."""
        command = [Path(sys.executable).with_name("minidock"), "--root", self.root, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        expect(
            done.returncode == 0,
            call=f"minidock {' '.join(map(str, arguments))}",
            result=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}",
            expected="exit code 0",
            next_step="Try it by hand with --layers ~/mydock and --explain.",
        )
        return done.stdout


def _listen(inside: int, reader: int) -> dict[str, Any]:
    """Read the story's answer until its end or until time is up, then end its pid namespace."""
    text, deadline = b"", time.monotonic() + SECONDS

    def comes(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0])

    watcher = os.pidfd_open(inside)
    while (ready := comes(reader)) and (part := os.read(reader, 1 << 16)) and len(text) < MAX_ANSWER:
        text += part
    # The end of the answer is not the end of the process: it may have closed all files and go on.
    in_time = ready and comes(watcher)
    os.close(watcher)
    code = os.waitstatus_to_exitcode(_bury(inside))
    if not in_time:
        return {"ended": f"still running after {SECONDS:g} s"}
    if code == -signal.SIGKILL:
        return {"ended": "the kernel killed it: it used more memory than a check may"}
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"ended": f"it ended without an answer, exit code {code}"}
    return answer


def _bury(inside: int) -> int:
    """End the story and everything that it started; returns its status.

    First its cgroups: the kernel waits for all processes of a pid namespace, and a frozen one never ends.
    """
    with suppress(ProcessLookupError):
        os.kill(inside, signal.SIGKILL)
    sandbox.end_cgroups(CGROUP)
    return os.waitpid(inside, 0)[1]


@contextmanager
def _last_words(writer: int) -> Iterator[dict[str, Any]]:
    """In a forked child: the block fills the answer, which is sent before the process ends for good."""
    answer: dict[str, Any] = {}
    author = os.getpid()
    try:
        yield answer
    except SystemExit:
        answer["ended"] = "it called sys.exit()"
    except BaseException as error:
        answer["error"] = _in_words(error)
    if os.getpid() != author:  # a process that the student's code forked: it has nothing to tell
        os._exit(0)
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError) as error:
        text = json.dumps({"error": f"the answer is no plain value: {error}"})
    os.write(writer, text.encode())
    os._exit(0)


def _in_words(error: BaseException) -> str:
    """One line: the error, and the line of the student's file that raised it."""
    if isinstance(error, NotImplementedError):
        return f"{UNWRITTEN} ({error})"
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(os.environ["MINIDOCK_LAYERS"]):
            where = f" ({Path(frame.filename).name}, line {frame.lineno})"
    kind = "" if isinstance(error, MinidockError) else f"{type(error).__name__}: "
    return f"{kind}{error}{where}"


def _mounts(mountinfo: IO[str]) -> list[str]:
    """This namespace's mounts as ``"/proc (proc)"``, read with nothing of the library that can be swapped."""
    mountinfo.seek(0)
    lines = []
    for line in mountinfo.read().splitlines():
        before, _, after = line.partition(" - ")
        lines.append(f"{before.split()[4]} ({after.split()[0]})")
    return lines


def _plant(root: Path) -> None:
    """A root filesystem small enough to make for every check: busybox, and a file to know it by."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "old"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if busybox:
        shutil.copy(busybox, root / "bin/busybox")
        for applet in ("sh", "ls", "cat", "mount"):
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/hostname").write_text("inside\n")


# --- the pytest plugin ---------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """One check's outcome: *outcome* is passed, failed or blocked; the rest is for the student."""

    name: str
    task: int
    outcome: str
    call: str = ""
    result: str = ""
    expected: str = ""
    next_step: str = ""


_results: dict[str, Result] = {}


def _lab() -> Lab:
    return find(os.environ["MINIDOCK_LAB"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world to try the student's layers in."""
    scratch = tmp_path / "world"
    scratch.mkdir()
    return World(scratch, Path(os.environ["MINIDOCK_LAYERS"]))


@pytest.fixture
def minidock(tmp_path: Path) -> Command:
    """The command, with the lab's image loaded by the library's own layers."""
    command = Command(tmp_path / "state")
    command("load", "--input", os.environ["MINIDOCK_LAB_IMAGE"])
    return command


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """When one task is asked for, run its checks, and of the others only those that they need."""
    asked = os.environ["MINIDOCK_LAB_TASK"]
    if not asked:
        return
    known = {item.name: item for item in items}
    wanted = {name for name, item in known.items() if item.function.task == int(asked)}
    new = wanted
    while new:
        new = {need for name in new for need in known[name].function.needs} - wanted
        wanted = wanted | new
    items[:] = [item for item in items if item.name in wanted]


def pytest_runtest_setup(item: Any) -> None:
    """Block a check whose base fails; fail one whose functions are not the student's own."""
    check = item.function
    blockers = [name for name in check.needs if _results[name].outcome != "passed"]
    if blockers:
        pytest.skip(f"blocked by {', '.join(blockers)}")
    lab = _lab()
    wanted = lab.task(check.task).functions
    try:
        own = layers.defined(Path(os.environ["MINIDOCK_LAYERS"]), lab.file)
    except MinidockError as error:
        raise Missed(
            call=f"import {lab.file}.py", result=str(error), expected="a file that imports", next_step=""
        ) from None
    for name in wanted:
        expect(
            name in own,
            call=f"{lab.file}.{name}",
            result="your file does not define it, the library's would run",
            expected=f"def {name}(…) in {lab.file}.py",
            next_step="An imported function does not count: write it in your file.",
        )


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the outcome of every check, by name."""
    name = report.nodeid.rpartition("::")[2]
    if report.when == "call" and report.passed:
        _results[name] = Result(name, 0, "passed")
    elif report.skipped:
        _results[name] = Result(name, 0, "blocked", result=str(report.longrepr[2]).removeprefix("Skipped: "))
    elif report.failed and (name not in _results or _results[name].outcome == "passed"):
        _results[name] = Result(
            name, 0, "failed", **getattr(report, "missed", {"result": report.longreprtext})
        )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:
    """Give the report the four fields of a Missed; for any other error, its last line."""
    outcome: Any = yield
    if call.excinfo is None:
        return
    error = call.excinfo.value
    report = outcome.get_result()
    if isinstance(error, Missed):
        report.missed = {key: getattr(error, key) for key in ("call", "result", "expected", "next_step")}
    else:
        report.missed = {"call": item.name, "result": _in_words(error), "expected": "no error"}


def pytest_sessionfinish(session: Any) -> None:
    """Write the results for the command that started us."""
    for item in session.items:
        if item.name in _results:
            _results[item.name].task = item.function.task
    asked = os.environ["MINIDOCK_LAB_TASK"]
    told = [asdict(each) for each in _results.values() if asked in ("", str(each.task))]
    Path(os.environ["MINIDOCK_LAB_RESULTS"]).write_text(json.dumps(told))
    sys.stdout.flush()
