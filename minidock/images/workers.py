"""The processes that bring layers: at most one per core, each a fresh interpreter.

Never a fork: the caller may be a notebook or a daemon with a dozen threads, and a fork copies their
locks, held forever. A fresh ``python -I -S`` costs about 60 ms, once per worker and not per layer, while
the image's config is still on its way.

    caller ── stdin: jobs, one JSON line each ──▶ worker
    caller ◀── stdout: events, steps of the trace, results ── worker

A worker dies with its caller, by PR_SET_PDEATHSIG. Whatever it was doing, the partial files stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidock import files, trace
from minidock.errors import InvalidInput, MinidockError, NotFound
from minidock.images import auth, download, session, wire
from minidock.images.download import Job

_START = "import sys; sys.path[:] = sys.argv[1:]; from minidock.images import workers; workers.main()"
_ERRORS: dict[str, type[MinidockError]] = {
    kind.__name__: kind
    for kind in (
        InvalidInput,
        NotFound,
        auth.Denied,
        session.TooManyRequests,
        wire.Unreachable,
        wire.Interrupted,
    )
}

Report = Callable[[str, str, int, int], None]  # digest, status, bytes, of how many


class Pool:
    """Up to *size* workers. Use as a context manager: leaving it early kills them."""

    def __init__(self, size: int, report: Report) -> None:
        self._report = report
        self._selector = selectors.DefaultSelector()
        self._tails: dict[int, bytes] = {}  # by pid: the beginning of a line whose end has not come yet
        self._workers = [self._start() for _ in range(size)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()  # idle when all went well; in the middle of something after an error or Ctrl-C
        for worker in self._workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(OSError):
                    pipe and pipe.close()
        self._selector.close()

    def run(self, jobs: list[Job], finished: Callable[[Job, int], None]) -> None:
        """Do all *jobs*, the first ones first; *finished* gets each with the bytes of its files.

        Raises what the first failing job raised; the others are given up then (their partial files stay).
        """
        waiting, busy = list(jobs), dict[subprocess.Popen[bytes], Job]()
        for worker in self._workers:
            _give(worker, waiting, busy)
        while busy:
            for key, _ in self._selector.select():
                worker = key.data
                for message in self._messages(worker):
                    done = self._hear(message)
                    if done is not None:
                        finished(busy.pop(worker), done)
                        _give(worker, waiting, busy)

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [os.path.abspath(path) for path in sys.path]
        worker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches the caller alone, who then ends the workers
        )
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        self._tails[worker.pid] = b""
        return worker

    def _messages(self, worker: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        assert worker.stdout is not None
        data = os.read(worker.stdout.fileno(), 1 << 16)
        if not data:
            code = worker.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise MinidockError(f"a download process {how}", hint="What it has fetched is kept: try again.")
        *lines, self._tails[worker.pid] = (self._tails[worker.pid] + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _hear(self, message: dict[str, Any]) -> int | None:
        """Take one message of a worker; the layer's bytes when it has finished one."""
        if "event" in message:
            self._report(*message["event"])
        elif "steps" in message:
            recorder = trace.current()
            for step in message["steps"] if recorder else ():
                recorder.add(trace.Step(**step))  # type: ignore[union-attr]
        elif "failed" in message:
            if message.get("errno") in files.FULL:  # the transaction knows what to say about that
                raise OSError(message["errno"], message["message"])
            kind = _ERRORS.get(message["kind"], MinidockError)
            raise kind(message["message"], hint=message["hint"])
        else:
            return int(message["bytes"])
        return None


def _give(
    worker: subprocess.Popen[bytes], waiting: list[Job], busy: dict[subprocess.Popen[bytes], Job]
) -> None:
    if waiting:
        busy[worker] = waiting.pop(0)
        assert worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: its silence will be heard
            worker.stdin.write(json.dumps(busy[worker].to_json()).encode() + b"\n")


# ── inside the worker ────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Serve jobs until stdin ends."""
    _die_with_parent()
    output = os.dup(1)
    os.dup2(2, 1)  # a stray print must not mix with the answers
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        data = json.dumps(message, default=str).encode() + b"\n"
        with lock:
            try:
                while data:
                    data = data[os.write(output, data) :]
            except BrokenPipeError:
                os._exit(1)  # nobody listens any more

    student = os.environ.get("MINIDOCK_LAYERS")
    if student:
        from minidock import layers

        layers.load(Path(student))
    for line in sys.stdin:
        _serve(Job.from_json(json.loads(line)), say)


def _serve(job: Job, say: download.Say) -> None:
    recorder = trace.Recorder()
    answer: dict[str, Any] = {"failed": job.digest, "kind": "", "hint": None}
    try:
        with trace.recording(recorder):
            answer = {"done": job.digest, "bytes": download.bring(job, say)}
    except MinidockError as error:
        answer |= {"kind": type(error).__name__, "message": str(error), "hint": error.hint}
    except Exception as error:  # whatever it is, the caller waits for an answer
        answer |= {"message": f"layer {job.digest[:19]}: {type(error).__name__}: {error}"}
        answer |= {"errno": getattr(error, "errno", None)}
    say({"steps": [step.to_json() for step in recorder.steps]})
    say(answer)


def _die_with_parent() -> None:
    from minidock.kernel import syscalls

    parent = os.getppid()
    syscalls.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
