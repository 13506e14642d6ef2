"""Device rules: the same answers from v1's list, from the eBPF program, and by reading the rules."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock.errors import InvalidInput
from minidock.kernel import cgroups, devices, syscalls
from minidock.kernel.cgroups import Cgroup


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Cgroup]:
    parent = cgroups.parent_for(tmp_path)
    made = Cgroup.create("c1", parent)
    yield made
    made.remove(20)
    cgroups.remove_parent(parent)


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[Path]:
    """A cgroup in the v2 tree, which a hybrid machine has too."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            directory = Path(line.split()[4]) / cgroups.parent_for(tmp_path)
            directory.mkdir()
            yield directory
            directory.rmdir()
            return
    pytest.skip("no cgroup2 is mounted")


def answers(enter: Callable[[], None], scratch: Path) -> dict[str, str]:
    """What a process in the cgroup may do with some devices."""
    ours, childs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)  # the machine's own /tmp may be mounted without devices
            syscalls.mount(None, "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("nodes", scratch, "tmpfs")
            enter()
            os.write(childs, json.dumps(_attempt(scratch)).encode())
        finally:
            os._exit(0)
    os.close(childs)
    with open(ours) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    found: dict[str, str] = json.loads(text)
    return found


def _attempt(scratch: Path) -> dict[str, str]:
    # Nodes of our own, so that every machine gives the same answers: memory, null, a kernel log.
    found = {}
    for name, number in {"mem": (1, 1), "null": (1, 3), "kmsg": (1, 11), "fuse": (10, 229)}.items():
        node = scratch / f"{name}-{os.getpid()}"
        os.mknod(node, 0o20600, os.makedev(*number))
        for way, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
            try:
                os.close(os.open(node, flags | os.O_NONBLOCK))
                found[f"{name} {way}"] = "ok"
            except PermissionError:
                found[f"{name} {way}"] = "refused"
            except OSError:
                found[f"{name} {way}"] = "no such device"
        node.unlink()
    try:
        for descriptor in os.openpty():
            os.close(descriptor)
        found["terminal"] = "ok"
    except OSError:
        found["terminal"] = "refused"
    return found


EXPECTED = {
    **{"mem r": "refused", "mem w": "refused", "null r": "ok", "null w": "ok"},
    **{"kmsg r": "ok", "kmsg w": "refused", "fuse r": "refused", "fuse w": "refused", "terminal": "ok"},
}


@pytest.mark.vm
def test_only_the_listed_devices_can_be_opened(cgroup: Cgroup, tmp_path: Path) -> None:
    devices.apply(cgroup, ["/dev/kmsg:/dev/kmsg:r"])
    assert answers(lambda: cgroup.attach(os.getpid()), tmp_path) == EXPECTED


@pytest.mark.vm
def test_the_ebpf_program_gives_the_same_answers(unified: Path, tmp_path: Path) -> None:
    devices._attach(str(unified), devices.program([*devices.DEFAULT, ("c", 1, 11, "r")]))
    enter = unified / "cgroup.procs"
    assert answers(lambda: enter.write_text("0") and None, tmp_path) == EXPECTED


@pytest.mark.vm
def test_privileged_containers_open_every_device(cgroup: Cgroup, tmp_path: Path) -> None:
    devices.apply(cgroup, privileged=True)
    found = answers(lambda: cgroup.attach(os.getpid()), tmp_path)
    assert "refused" not in {found["mem r"], found["kmsg r"], found["kmsg w"]}


def interpret(program: bytes, access: int, kind: int, major: int, minor: int) -> int:
    """Run an eBPF device program as the kernel would; its answer (register 0)."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers, at = [0] * 10, 0
    while True:
        code, pair, offset, constant = struct.unpack_from("<BBhi", program, 8 * at)
        target, source, at = pair & 15, pair >> 4, at + 1
        if code == devices.EXIT:
            return registers[0]
        if code == devices.LOAD_WORD:
            (registers[target],) = struct.unpack_from("=I", context, offset)
        elif code == devices.COPY:
            registers[target] = registers[source]
        elif code == devices.SET:
            registers[target] = constant
        elif code == devices.AND:
            registers[target] &= constant
        elif code == devices.SHIFT_RIGHT:
            registers[target] >>= constant
        elif code == devices.IF_NOT_CONSTANT:
            at += offset if registers[target] != constant else 0
        elif code == devices.IF_NOT_REGISTER:
            at += offset if registers[target] != registers[source] else 0
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def test_the_ebpf_program_decides_as_the_rules_say() -> None:
    rules = [*devices.DEFAULT, ("b", 8, 0, "r"), ("c", 1, 11, "rw"), ("b", 259, None, "rwm")]
    program = devices.program(rules)
    letters = {"m": 1, "r": 2, "w": 4}
    numbers = itertools.product((1, 5, 8, 10, 136, 259), (0, 1, 2, 3, 5, 9, 11, 200, 1000))
    for (major, minor), kind, access in itertools.product(numbers, "cb", ("m", "r", "w", "rw", "rwm")):
        allowed = any(
            rule_kind == kind
            and rule_major in (None, major)
            and rule_minor in (None, minor)
            and set(access) <= set(rule_access)
            for rule_kind, rule_major, rule_minor, rule_access in rules
        )
        bits = sum(letters[letter] for letter in access)
        assert interpret(program, bits, devices.TYPES[kind], major, minor) == allowed, (major, minor, access)


def test_device_options_become_rules(tmp_path: Path) -> None:
    assert devices.rules_for(["/dev/null"]) == [("c", 1, 3, "rwm")]
    assert devices.rules_for(["/dev/null:/dev/nothing"]) == [("c", 1, 3, "rwm")]
    assert devices.rules_for(["/dev/null:/dev/nothing:r"]) == [("c", 1, 3, "r")]
    assert devices.rules_for(["/dev/null:rw"]) == [("c", 1, 3, "rw")]
    os.mknod(tmp_path / "one", 0o60600, os.makedev(7, 3))
    (tmp_path / "plain").touch()
    assert devices.rules_for([f"{tmp_path}:/dev/several"]) == [("b", 7, 3, "rwm")]


@pytest.mark.parametrize(
    ("path", "why"), [("/dev/nope", "no such file"), ("/etc/passwd", "not a device node")]
)
def test_what_is_no_device_is_refused_in_dockers_words(path: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=f'error gathering device information .* "{path}": {why}'):
        devices.rules_for([path])


def test_rules_are_written_as_v1_reads_them() -> None:
    assert devices.entry(("c", 136, None, "rwm")) == "c 136:* rwm"
    assert devices.entry(("b", None, None, "m")) == "b *:* m"
