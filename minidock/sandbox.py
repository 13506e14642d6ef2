"""A throwaway world for code that may do anything, as root: the student's.

Students are root, and their first tries unmount the wrong thing, fork without end or loop for ever.
:func:`run` gives a command mount, pid, net, ipc, uts and cgroup namespaces of its own, a read-only view of
the machine with one writable directory, and a cgroup with limits. What looks like the top of the cgroups
in there is this cgroup: whatever is made, frozen or killed below it is the command's own, and under its
limits. When it ends, or its time is up, everything is gone: the kernel ends every process of a pid
namespace with its first, and frees the mounts.

Run as a program (``python -IS sandbox.py``), this file is the single-threaded process that does so: the
caller may be a Jupyter kernel, whose threads forbid it.
"""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # started by path, with an empty environment: the library stands beside us
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.kernel.cgroup_tree import Places


SCRATCH = "lab-"  # how the name of a sandbox's directory begins, in the state root's tmp


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. *seconds* of wall time, *memory* bytes, *processes* at once; *writable* directories stay
    as they are on the machine, everything else is read-only, and *scratch* is a fresh empty tmpfs. Its cgroup
    stands among those of the containers of the state *root*."""

    root: str
    arguments: list[str]
    environment: dict[str, str]
    scratch: str
    writable: list[str] = field(default_factory=list)
    seconds: float = 120.0
    memory: int = 1 << 30
    processes: int = 256
    network: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: *exit_code* as a shell shows it (128+n after signal n), *out_of_time*, *output*."""

    exit_code: int
    out_of_time: bool
    output: str


def run(job: Job) -> Outcome:
    """Run *job* in a world of its own and wait for its end. Raises MinidockError when it cannot start."""
    import subprocess

    program = [sys.executable, "-IS", str(Path(__file__).resolve())]
    with subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Jupyter's interrupt goes to the kernel's whole process group
    ) as helper:
        try:
            output, _ = helper.communicate(json.dumps(asdict(job)).encode())
        except BaseException:
            helper.terminate()  # the helper ends its world on SIGTERM, see main()
            raise
    text, _, report = output.decode(errors="replace").rstrip().rpartition("\n")
    try:
        ending = json.loads(report)
        return Outcome(ending["exit_code"], ending["out_of_time"], text)
    except (ValueError, TypeError, KeyError):
        raise MinidockError(f"the sandbox did not start: {output.decode(errors='replace').strip()}") from None


def main() -> None:
    """The helper: read a job, run it, end with one JSON line that says how it went."""
    import signal
    import types

    from minidock.kernel import cgroups, syscalls
    from minidock.kernel.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS

    def end(number: int, frame: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    job = Job(**json.load(sys.stdin))
    group = cgroups.Cgroup.create(f"lab-{os.getpid()}", cgroups.parent_for(Path(job.root)))
    child, out_of_time, status = 0, False, 0
    try:
        group.apply(memory=job.memory, pids=job.processes)
        spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
        ready, go = os.pipe()
        child = syscalls.clone(spaces if job.network else spaces | CLONE_NEWNET)
        if child == 0:
            try:
                os.close(go)
                syscalls.set_parent_death_signal(9)
                # Until the cgroup holds us. A helper that died before the line above sends us no signal.
                if os.read(ready, 1) and not _hung_up(ready):
                    _become(job, group.places)
            except BaseException as error:
                print(f"sandbox: {error}", flush=True)
            os._exit(125)
        group.attach(child)
        os.write(go, b".")
        out_of_time = not _wait(os.pidfd_open(child), job.seconds)
    finally:
        group.kill()
        if child:
            _, status = os.waitpid(child, 0)
        group.remove()
    exit_code = os.waitstatus_to_exitcode(status)
    ending = {"exit_code": exit_code if exit_code >= 0 else 128 - exit_code, "out_of_time": out_of_time}
    print("\n" + json.dumps(ending), flush=True)


def _wait(ended: int, seconds: float) -> bool:
    """Until the descriptor *ended* says so, or who reads our report was killed; False when time is up."""
    watch = select.poll()
    watch.register(ended, select.POLLIN)
    watch.register(1, 0)  # an error, when nobody has the other end any more
    return bool(watch.poll(seconds * 1000))


def _hung_up(pipe: int) -> bool:
    """Whether nobody has the other end of *pipe* any more."""
    watch = select.poll()
    watch.register(pipe, 0)
    return bool(watch.poll(0))


def _become(job: Job, cgroup: Places) -> None:
    """In the new namespaces: make the machine read-only, then exec the job."""
    from minidock.kernel import cgroup_tree, cgroups, net, syscalls
    from minidock.kernel.syscalls import (
        AT_FDCWD,
        AT_RECURSIVE,
        CLONE_NEWCGROUP,
        MOUNT_ATTR_RDONLY,
        MS_BIND,
        MS_NODEV,
        MS_NOEXEC,
        MS_NOSUID,
        MS_PRIVATE,
        MS_REC,
    )

    syscalls.mount(None, "/", flags=MS_REC | MS_PRIVATE)  # nothing that happens here reaches the machine
    tops = cgroup_tree.hierarchies()[1]
    for directory, top in dict.fromkeys((cgroup[name], tops[name]) for name in cgroup):
        syscalls.mount(directory, top, flags=MS_BIND)
    syscalls.unshare(CLONE_NEWCGROUP)
    # v2 lets a cgroup hold processes or hand limits down: we move into a leaf, beside what the job makes.
    cgroups.enter(cgroups.create("job", "main"))
    for directory in job.writable:
        syscalls.mount(directory, directory, flags=MS_BIND | MS_REC)
    syscalls.mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, attributes=MOUNT_ATTR_RDONLY)
    for directory in [*job.writable, *dict.fromkeys(tops[controller] for controller in cgroup)]:
        syscalls.mount_setattr(AT_FDCWD, directory, AT_RECURSIVE, clear=MOUNT_ATTR_RDONLY)
    syscalls.mount("scratch", job.scratch, "tmpfs", MS_NOSUID, "size=512m,mode=755")
    # A pid namespace needs a /proc of its own, or process ids there mean other processes.
    syscalls.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if not job.network:
        net.loopback_up()
    os.chdir(job.scratch)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(1, 2)
    environment = [f"{name}={value}" for name, value in job.environment.items()]
    syscalls.execve(job.arguments[0], job.arguments, environment)


def become_machine(scratch: Path) -> None:
    """Make this (single-threaded) process a small machine of its own, for one check of a lab.

    Its mounts are cut off from the real machine, and shared among its own children, as they are where
    systemd booted: a child that forgets MS_PRIVATE shows its mounts here. Children get a new pid
    namespace; *scratch* becomes an empty tmpfs.
    """
    from minidock.kernel import syscalls
    from minidock.kernel.syscalls import CLONE_NEWNS, CLONE_NEWPID, MS_PRIVATE, MS_REC, MS_SHARED

    syscalls.unshare(CLONE_NEWNS | CLONE_NEWPID)
    syscalls.mount(None, "/", flags=MS_REC | MS_PRIVATE)
    syscalls.mount(None, "/", flags=MS_REC | MS_SHARED)
    syscalls.mount("machine", scratch, "tmpfs", data="size=256m")  # its pages count as our memory


def prepare_worlds() -> None:
    """Import what :func:`become_machine` and its like need: once here, and not again in each fork."""
    import minidock.kernel.cgroups
    import minidock.kernel.net  # noqa: F401


def own_network() -> None:
    """Give this (single-threaded) process an empty network with a loopback."""
    from minidock.kernel import net, syscalls

    syscalls.unshare(syscalls.CLONE_NEWNET)
    net.loopback_up()


def leave_only(file: Path, scratch: Path) -> None:
    """From here on *file*'s directory shows a copy of it, kept in the new *scratch*, and nothing else."""
    import shutil

    from minidock.kernel import syscalls

    scratch.mkdir()
    if file.is_file():
        shutil.copy2(file, scratch)
    syscalls.mount(scratch, file.parent, flags=syscalls.MS_BIND)


def end_all_others() -> None:
    """As the sandbox's first process: end whatever else runs in it, and bury it."""
    if os.getpid() != 1:  # there, -1 would mean the whole machine
        raise MinidockError("only the first process of a sandbox may end all others")
    with suppress(ProcessLookupError):
        os.kill(-1, 9)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def offer_to_oom_killer() -> None:
    """When the cgroup's memory is used up, the kernel shall end this process, and not who watches it."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def end_cgroups(parent: str) -> None:
    """Kill and remove what is left below the cgroup *parent*, also when it is frozen."""
    from minidock.kernel import cgroups

    for name in cgroups.leftovers(parent):
        group = cgroups.Cgroup.open(name, parent)
        group.kill()
        group.remove()
    cgroups.remove_parent(parent)


def unshare_mounts() -> None:
    """What a container runtime does first: a copy of the mounts, still tied to the original."""
    from minidock.kernel import syscalls

    syscalls.unshare(syscalls.CLONE_NEWNS)


if __name__ == "__main__":
    main()
