"""The checks of lab 02. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from minidock.errors import InvalidInput, NotFound
from minidock.kernel import namespaces, syscalls
from minidock.kernel.namespaces import IdRange
from minidock.kernel.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUSER, CLONE_NEWUTS
from minidock.lab.checks import World, expect, task

FLAGS = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}  # from linux/sched.h, not from the student's table
SECONDS = 3  # that a program of a check waits for something before it gives up


def _own_proc():
    """A /proc that counts processes as this story does. The story is process 1 of its pid namespace."""
    syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc")


def _look(pid="self"):
    """The namespaces of a process, read without the student's code."""
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in FLAGS}


def _neighbour(spaces, name="neighbour"):
    """A process in new namespaces (*spaces*) with the host name *name*; it ends with the story."""
    reading, writing = os.pipe()
    pid = syscalls.clone(spaces)
    if pid == 0:
        if spaces & CLONE_NEWUTS:
            syscalls.sethostname(name)
        os.write(writing, b"ready")
        signal.pause()
        os._exit(0)
    os.close(writing)
    os.read(reading, 5)
    os.close(reading)
    return pid


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_each_kind_has_its_flag(world: World):
    def story():
        return {kind: namespaces.flags([kind]) for kind in FLAGS}

    told = world.tell(story, call="flags([kind]) for every kind")
    wrong = {kind: told.value[kind] for kind in FLAGS if told.value[kind] != FLAGS[kind]}
    first = next(iter(wrong), "mnt")
    expect(
        not wrong,
        call=f'flags(["{first}"])',
        result=hex(told.value[first]) if isinstance(told.value[first], int) else told.value[first],
        expected=hex(FLAGS[first]),
        next_step="Start with 0 and add the flag KINDS[kind] of every kind.",
    )


@task(1, needs=("test_each_kind_has_its_flag",))
def test_flags_are_put_together(world: World):
    def story():
        return [namespaces.flags(["mnt", "pid", "pid"]), namespaces.flags([])]

    told = world.tell(story, call='flags(["mnt", "pid", "pid"])')
    expect(
        told.value == [FLAGS["mnt"] | FLAGS["pid"], 0],
        call='flags(["mnt", "pid", "pid"]) and flags([])',
        result=f"{told.value[0]:#x} and {told.value[1]:#x}",
        expected=f"{FLAGS['mnt'] | FLAGS['pid']:#x} (the bits of CLONE_NEWNS and CLONE_NEWPID) and 0x0",
        next_step="Put bits together with |. With + a bit that comes twice turns into another one.",
    )


@task(1, needs=("test_each_kind_has_its_flag",))
def test_an_unknown_kind_is_refused(world: World):
    def story():
        try:
            return f"the number {namespaces.flags(['uts', 'nonsense']):#x}"
        except InvalidInput:
            return "refused"
        except KeyError:
            return "KeyError, which tells a user nothing"

    told = world.tell(story, call='flags(["uts", "nonsense"])')
    expect(
        told.value == "refused",
        call='flags(["uts", "nonsense"])',
        result=told.value,
        expected="InvalidInput",
        next_step="A forgotten namespace would be a hole: raise InvalidInput for a kind not in KINDS.",
    )


@task(1, needs=("test_flags_are_put_together",))
def test_create_gives_what_was_asked_for(world: World):
    def story():
        before = _look()
        namespaces.create({"uts", "ipc"})
        after = _look()
        return sorted(kind for kind in FLAGS if before[kind] != after[kind])

    told = world.tell(story, call='create({"uts", "ipc"})')
    expect(
        told.value == ["ipc", "uts"],
        call='create({"uts", "ipc"})',
        result=f"new are: {', '.join(told.value) or 'none'}",
        expected="new are: ipc, uts",
        next_step="unshare(2) with exactly the flags of these kinds.",
    )


@task(1, needs=("test_create_gives_what_was_asked_for",))
def test_a_name_of_its_own(world: World):
    def story():
        namespaces.create({"uts"})
        domain = Path("/proc/sys/kernel/domainname")
        before = domain.read_text()
        namespaces.set_hostname("box")
        alone = [os.uname().nodename, domain.read_text() == before]
        namespaces.set_hostname("box", "example.org")
        return [*alone, domain.read_text().strip()]

    told = world.tell(story, call='set_hostname("box")')
    expect(
        told.value == ["box", True, "example.org"],
        call='set_hostname("box"), then set_hostname("box", "example.org")',
        result=f"host name {told.value[0]}, domain name "
        f"{'kept' if told.value[1] else 'changed'}, then {told.value[2]}",
        expected="host name box, domain name kept, then example.org",
        next_step="syscalls.sethostname always, syscalls.setdomainname only when domain is not empty.",
    )


# --- task 2 --------------------------------------------------------------------------------------


@task(2)
def test_the_numbers_of_a_process(world: World):
    def story():
        _own_proc()
        return [namespaces.identify(), _look()]

    told = world.tell(story, call="identify()")
    expect(
        told.value[0] == told.value[1],
        call="identify()",
        result=told.value[0],
        expected=told.value[1],
        next_step="The number of a namespace is os.stat(f'/proc/{pid}/ns/{kind}').st_ino.",
    )


@task(2, needs=("test_the_numbers_of_a_process",))
def test_another_process_has_other_numbers(world: World):
    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUTS | CLONE_NEWNET)
        own, theirs = namespaces.identify("self"), namespaces.identify(pid)
        return sorted(kind for kind in FLAGS if own[kind] != theirs[kind])

    told = world.tell(story, call="identify(pid)")
    expect(
        told.value == ["net", "uts"],
        call="identify(pid) of a process in a new uts and a new net namespace",
        result=f"different from ours: {', '.join(told.value) or 'nothing'}",
        expected="different from ours: net, uts",
        next_step="Use the argument: look into /proc/{pid}/ns.",
    )


@task(2, needs=("test_the_numbers_of_a_process",))
def test_nobody_is_not_found(world: World):
    def story():
        _own_proc()
        try:
            return str(namespaces.identify(99999))
        except NotFound:
            return "NotFound"

    told = world.tell(story, call="identify(99999)")
    expect(
        told.value == "NotFound",
        call="identify(99999), where no such process exists",
        result=told.value,
        expected="NotFound",
        next_step="When no file was found at all, raise NotFound.",
    )


# --- task 3 --------------------------------------------------------------------------------------

TASK_2 = ("test_another_process_has_other_numbers", "test_flags_are_put_together")


@task(3, needs=TASK_2)
def test_enter_the_namespaces_of_a_process(world: World):
    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC)
        namespaces.join(pid, {"uts", "net"})
        own, theirs = _look(), _look(pid)
        return [os.uname().nodename, sorted(kind for kind in FLAGS if own[kind] != theirs[kind])]

    told = world.tell(story, call='join(pid, {"uts", "net"})')
    expect(
        told.value == ["neighbour", ["ipc"]],
        call='join(pid, {"uts", "net"}) of a process with its own uts, net and ipc namespace',
        result=f"host name {told.value[0]}; still different: {', '.join(told.value[1]) or 'nothing'}",
        expected="host name neighbour; still different: ipc",
        next_step="setns(2) on syscalls.pidfd_open(pid), with the flags of the kinds that were asked for.",
    )


@task(3, needs=TASK_2)
def test_enter_by_a_file(world: World):
    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUTS)
        namespaces.join(Path(f"/proc/{pid}/ns/uts"), {"uts"})
        return os.uname().nodename

    told = world.tell(story, call='join(Path("/proc/PID/ns/uts"), {"uts"})')
    expect(
        told.value == "neighbour",
        call='join(Path("/proc/PID/ns/uts"), {"uts"})',
        result=f"host name {told.value}",
        expected="host name neighbour",
        next_step="For a Path, open the file and give the descriptor to setns.",
    )


@task(3, needs=("test_enter_the_namespaces_of_a_process",))
def test_what_is_shared_is_left_out(world: World):
    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUTS)
        namespaces.join(pid, {"uts", "user"})
        namespaces.join(pid, {"uts", "user"})  # nothing is left to do
        return os.uname().nodename

    told = world.listen(story)
    expect(
        told.value == "neighbour",
        call='join(pid, {"uts", "user"}) of a process in our own user namespace, twice',
        result=told.error or told.ended or f"host name {told.value}",
        expected="no error: the kernel refuses one's own user namespace, so it is not asked for",
        next_step="Ask only for the kinds in which identify() and identify(pid) differ.",
    )


@task(3, needs=("test_enter_the_namespaces_of_a_process",))
def test_no_descriptor_stays_open(world: World):
    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUTS)
        before = len(os.listdir("/proc/self/fd"))
        namespaces.join(Path(f"/proc/{pid}/ns/uts"), {"uts"})
        namespaces.join(pid, {"uts"})
        with contextlib.suppress(InvalidInput):
            namespaces.join(pid, {"nonsense"})
        return len(os.listdir("/proc/self/fd")) - before

    told = world.tell(story, call="join(…) three times, the last with an unknown kind")
    expect(
        told.value == 0,
        call="join(…) three times, the last with an unknown kind",
        result=f"{told.value} more open descriptors than before",
        expected="none: a container that inherits one has a door to the host",
        next_step="os.close(descriptor) in a finally block.",
    )


# --- task 4 --------------------------------------------------------------------------------------


def _mapped(uids, gids, **options):
    """A story: a process in a new user namespace, its maps written by the student; what its files say."""

    def story():
        _own_proc()
        pid = _neighbour(CLONE_NEWUSER)
        namespaces.write_id_map(pid, uids, gids, **options)
        answer = [Path(f"/proc/{pid}/{name}").read_text().split() for name in ("uid_map", "gid_map")]
        return [*answer, Path(f"/proc/{pid}/setgroups").read_text().strip()]

    return story


@task(4)
def test_root_inside_is_another_user_outside(world: World):
    call = "write_id_map(pid, [IdRange(0, 100000, 50)], [IdRange(0, 100000, 50)])"
    told = world.tell(_mapped([IdRange(0, 100000, 50)], [IdRange(0, 100000, 50)]), call=call)
    expect(
        told.value[0] == ["0", "100000", "50"],
        call=call,
        result=f"uid_map: {' '.join(told.value[0]) or 'empty'}",
        expected="uid_map: 0 100000 50 (root inside is user 100000 outside)",
        next_step="A line is: first id inside, first id outside, how many. str(range) is that line.",
    )


@task(4, needs=("test_root_inside_is_another_user_outside",))
def test_groups_have_their_own_map(world: World):
    call = "write_id_map(pid, [IdRange(0, 100000, 50)], [IdRange(0, 200000, 60)])"
    told = world.tell(_mapped([IdRange(0, 100000, 50)], [IdRange(0, 200000, 60)]), call=call)
    expect(
        told.value[1] == ["0", "200000", "60"],
        call=call,
        result=f"gid_map: {' '.join(told.value[1]) or 'empty'}",
        expected="gid_map: 0 200000 60",
        next_step="Write gid_map into /proc/PID/gid_map.",
    )


@task(4, needs=("test_root_inside_is_another_user_outside",))
def test_a_map_is_written_at_once(world: World):
    ranges = [IdRange(0, 0), IdRange(1, 100000, 50)]
    told = world.listen(_mapped(ranges, [IdRange(0, 0)]))
    expect(
        told.value is not None and told.value[0] == ["0", "0", "1", "1", "100000", "50"],
        call="write_id_map(pid, [IdRange(0, 0), IdRange(1, 100000, 50)], …)",
        result=told.error or told.ended or f"uid_map: {' '.join(told.value[0])}",
        expected="both lines: 0 0 1 and 1 100000 50",
        next_step="The kernel takes one write per map. Join the lines with a newline, then write.",
    )


@task(4, needs=("test_root_inside_is_another_user_outside",))
def test_setgroups_is_denied_when_asked_for(world: World):
    told = world.listen(_mapped([IdRange(0, 0)], [IdRange(0, 0)], deny_setgroups=True))
    expect(
        told.value is not None and told.value[2] == "deny",
        call="write_id_map(pid, …, deny_setgroups=True)",
        result=told.error or told.ended or f"/proc/PID/setgroups says {told.value[2]}",
        expected="/proc/PID/setgroups says deny",
        next_step='Write "deny" there, and do it before the gid_map: afterwards the kernel refuses it.',
    )


@task(4, needs=("test_root_inside_is_another_user_outside",))
def test_root_keeps_setgroups(world: World):
    told = world.tell(_mapped([IdRange(0, 0)], [IdRange(0, 0)]), call="write_id_map(pid, …) as root")
    expect(
        told.value[2] == "allow",
        call="write_id_map(pid, …) as root, deny_setgroups not given",
        result=f"/proc/PID/setgroups says {told.value[2]}",
        expected="allow: programs in the container change their groups, for example sudo and sshd",
        next_step="None means: deny only when os.geteuid() is not 0.",
    )


# --- task 5 --------------------------------------------------------------------------------------


def _start(program):
    """Fork *program*; its return value is the exit code."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(8)  # however this goes, it ends
        code = 99
        try:
            code = program() or 0
        finally:
            os._exit(code)
    return pid


def _make_orphan(code):
    """A process whose parent ends at once: process 1 inherits it. It ends with *code*."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.write(writing, str(_start(lambda: code)).encode())
        os._exit(0)
    os.waitpid(parent, 0)
    return int(os.read(reading, 20))


def _state(pid):
    """The letter that /proc shows for a process: Z is a zombie; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _has_handler(pid, number):
    """Whether the process catches the signal: SigCgt of proc_pid_status(5)."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def _wait(happened):
    """Whether it happens before patience ends."""
    end = time.monotonic() + SECONDS
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@task(5)
def test_the_exit_code_of_the_program(world: World):
    told = world.tell(lambda: namespaces.supervise(_start(lambda: 7)), call="supervise(main)")
    expect(
        told.value == 7,
        call="supervise(main), where main ends with exit code 7",
        result=f"it returned {told.value}",
        expected="7",
        next_step="os.waitstatus_to_exitcode(status) is the exit code.",
    )


@task(5, needs=("test_the_exit_code_of_the_program",))
def test_a_killed_program_is_128_and_the_signal(world: World):
    def story():
        return namespaces.supervise(_start(lambda: os.kill(os.getpid(), signal.SIGKILL)))

    told = world.tell(story, call="supervise(main)")
    expect(
        told.value == 137,
        call="supervise(main), where main is killed by signal 9",
        result=f"it returned {told.value}",
        expected="137, which is 128 + 9",
        next_step="os.waitstatus_to_exitcode gives -9 here: return 128 - code when code is negative.",
    )


@task(5, needs=("test_the_exit_code_of_the_program",))
def test_the_end_of_an_orphan_is_not_the_end(world: World):
    def story():
        _own_proc()

        def program():
            orphan = _make_orphan(3)
            _wait(lambda: not _state(orphan))  # buried: who returns then, returns too early
            return 7

        return namespaces.supervise(_start(program))

    told = world.tell(story, call="supervise(main)")
    expect(
        told.value == 7,
        call="supervise(main), where an orphan ends with 3 and later main with 7",
        result=f"it returned {told.value}",
        expected="7",
        next_step="os.wait() returns for any child. Go on waiting until the pid is main's.",
    )


@task(5, needs=("test_the_end_of_an_orphan_is_not_the_end",))
def test_orphans_are_buried(world: World):
    def story():
        _own_proc()

        def program():
            orphan = _make_orphan(3)
            return 0 if _wait(lambda: not _state(orphan)) else 1

        return namespaces.supervise(_start(program))

    told = world.tell(story, call="supervise(main)")
    expect(
        told.value == 0,
        call="supervise(main), where main leaves an orphan that ends",
        result="the orphan stays a zombie" if told.value == 1 else f"it returned {told.value}",
        expected="the orphan disappears while main still runs",
        next_step="Wait for every child (os.wait()), not only for main.",
    )


@task(5, needs=("test_the_exit_code_of_the_program",))
def test_signals_are_passed_on(world: World):
    names = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    numbers = [getattr(signal, name) for name in names]

    def story():
        _own_proc()

        def program():
            heard = []
            for number in numbers:
                signal.signal(number, lambda received, frame: heard.append(received))
            _wait(lambda: all(_has_handler(1, number) for number in numbers))
            for place, number in enumerate(numbers):
                os.kill(1, number)
                if not _wait(lambda number=number: number in heard):
                    return 20 + place
            return 0

        return namespaces.supervise(_start(program))

    told = world.listen(story)
    lost = names[told.value - 20] if told.value in range(20, 26) else ""
    expect(
        told.value == 0,
        call="supervise(main), then process 1 gets each of the six signals",
        result=f"{lost} did not reach main"
        if lost
        else told.error or told.ended or f"it returned {told.value}",
        expected="each signal reaches main: `docker stop` is SIGTERM to process 1",
        next_step="Before the loop: signal.signal(number, lambda received, frame: os.kill(main, received)).",
    )


# --- task 6 --------------------------------------------------------------------------------------


@task(
    6,
    needs=(
        "test_an_unknown_kind_is_refused",
        "test_a_name_of_its_own",
        "test_nobody_is_not_found",
        "test_enter_by_a_file",
        "test_what_is_shared_is_left_out",
        "test_no_descriptor_stays_open",
        "test_groups_have_their_own_map",
        "test_a_map_is_written_at_once",
        "test_setgroups_is_denied_when_asked_for",
        "test_root_keeps_setgroups",
        "test_a_killed_program_is_128_and_the_signal",
        "test_orphans_are_buried",
        "test_signals_are_passed_on",
    ),
)
def test_a_real_image_runs_on_your_layer(tmp_path):
    minidock = [Path(sys.executable).with_name("minidock"), "--root", tmp_path / "state"]
    layers = Path(os.environ["MINIDOCK_LAYERS"])

    def run(*arguments):
        done = subprocess.run([*minidock, *arguments], capture_output=True, text=True, timeout=60)
        expect(
            done.returncode == 0,
            call=f"minidock {' '.join(str(each) for each in arguments)}",
            result=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}",
            expected="exit code 0",
            next_step="Try it by hand with --layers ~/mydock and --explain.",
        )
        return done.stdout

    run("load", "--input", os.environ["MINIDOCK_LAB_IMAGE"])
    yours = ("--layers", layers, "run", "--name")
    waiting = "trap 'exit 5' TERM; while :; do sleep 1 & wait $!; done"
    run(*yours, "yours", "-d", "--init", "--hostname", "mine", "busybox", "sh", "-c", waiting)
    said = run("exec", "yours", "hostname")
    run(*yours, "beside", "--network", "container:yours", "busybox", "true")
    run("stop", "yours")
    ended = run("inspect", "--format", "{{.State.ExitCode}}", "yours").strip()
    steps = []
    for trace in (tmp_path / "state/containers").glob("*/trace.jsonl"):
        steps += [json.loads(line) for line in trace.read_text().splitlines()]
    yours_did = {step["operation"] for step in steps if step["source"] == str(layers / "namespaces.py")}
    run("rm", "yours", "beside")
    expect(
        said == "mine\n" and ended == "5",
        call="minidock --layers … run --init --hostname mine busybox …, exec hostname, stop",
        result=f"host name {said.strip()!r}, exit code {ended}",
        expected="host name 'mine', exit code 5: SIGTERM reached the program",
        next_step="Try it by hand with --layers ~/mydock.",
    )
    expect(
        {"sethostname", "setns"} <= yours_did,
        call="minidock --layers … run busybox",
        result=f"its record says that your file did: {', '.join(sorted(yours_did)) or 'nothing'}",
        expected="sethostname and setns among them",
        next_step="Use `syscalls` for every step: only then the record names your file.",
    )
