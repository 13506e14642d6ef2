"""Which device nodes a container may open: `mknod /dev/vda` must not give it the host's disk.

Root in a container has CAP_MKNOD, so file permissions do not help: the kernel itself must refuse. In
cgroup v1 the devices controller keeps a list. In v2 there is no such controller; instead the kernel
asks a small eBPF program, attached to the cgroup, about every open and mknod of a device.

Source: Documentation/admin-guide/cgroup-v1/devices.rst, linux/bpf.h (struct bpf_cgroup_dev_ctx); the
default list is Docker's, as runc completes it.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterable

from minidock import trace
from minidock.errors import InvalidInput, KernelError
from minidock.kernel import cgroups, syscalls

Rule = tuple[str, int | None, int | None, str]  # "c" or "b", major, minor (None: all), of "rwm"
_RULE = r"([acb]) (\d{1,9}|\*):(\d{1,9}|\*) ([rwm]{1,3})"

DEFAULT: tuple[Rule, ...] = (
    ("c", None, None, "m"),  # any node may be made: without opening it, it is only a name
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),  # /dev/null
    ("c", 1, 5, "rwm"),  # /dev/zero
    ("c", 1, 7, "rwm"),  # /dev/full
    ("c", 1, 8, "rwm"),  # /dev/random
    ("c", 1, 9, "rwm"),  # /dev/urandom
    ("c", 5, 0, "rwm"),  # /dev/tty: whatever terminal the process has
    ("c", 5, 1, "rwm"),  # /dev/console
    ("c", 5, 2, "rwm"),  # /dev/ptmx: makes new terminals, …
    ("c", 136, None, "rwm"),  # /dev/pts/*: … which appear here
    ("c", 10, 200, "rwm"),  # /dev/net/tun
)


def rules_for(asked: Iterable[str]) -> list[Rule]:
    """The rules for ``--device`` entries ``HOST[:CONTAINER[:PERMISSIONS]]``; a directory means all in it.

    Raises InvalidInput, in Docker's words, for what is no device.
    """
    found: list[Rule] = []
    for text in asked:
        host, *rest = text.split(":")
        access = rest[-1] if rest and not rest[-1].startswith("/") else "rwm"
        paths = [host]
        if os.path.isdir(host):
            paths = [os.path.join(where, name) for where, _, names in os.walk(host) for name in names]
        rules = [rule for path in paths if (rule := _rule_of(path, host, access)) is not None]
        if not rules:
            raise _refused(host, "not a device node")
        found += rules
    return found


def _rule_of(path: str, asked: str, access: str) -> Rule | None:
    try:
        node = os.stat(path)
    except OSError as error:
        raise _refused(asked, os.strerror(error.errno or 0).lower()) from None
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    kind = kinds.get(stat.S_IFMT(node.st_mode))
    return None if kind is None else (kind, os.major(node.st_rdev), os.minor(node.st_rdev), access)


def rules_from(texts: Iterable[str]) -> list[Rule]:
    """The rules of ``--device-cgroup-rule "c 42:* rmw"``; ``a`` means both kinds. Raises InvalidInput."""
    found: list[Rule] = []
    for text in texts:
        parts = re.fullmatch(_RULE, text, re.ASCII)
        if not parts:
            raise InvalidInput(f"invalid device cgroup format '{text}'", hint='For example "c 42:* rmw".')
        major, minor = (None if number == "*" else int(number) for number in parts.group(2, 3))
        found += [(kind, major, minor, parts[4]) for kind in ("cb" if parts[1] == "a" else parts[1])]
    return found


def _refused(asked: str, why: str) -> InvalidInput:
    return InvalidInput(f'error gathering device information while adding custom device "{asked}": {why}')


@trace.mechanism(lesson=11)
def apply(
    cgroup: cgroups.Cgroup, extra: Iterable[str] = (), privileged: bool = False, rules: Iterable[str] = ()
) -> None:
    """Let the container open only harmless devices, before its first process enters the cgroup.

    *extra*: ``--device`` entries, *rules* those of ``--device-cgroup-rule``. *privileged* leaves every
    device open.
    """
    if privileged:
        return
    asked = [*rules_for(extra), *rules_from(rules)]
    directory = cgroup.path("devices")
    if directory is None:  # v1 without the controller: nothing can be enforced
        return
    if cgroups.detect() == "v2":
        _attach(str(directory), program([*DEFAULT, *asked]))
        return
    syscalls.write_file(f"{directory}/devices.deny", "a")
    for rule in [*DEFAULT, *asked]:
        try:
            syscalls.write_file(f"{directory}/devices.allow", entry(rule))
        except KernelError as error:
            # Inside another container we cannot hand on what we do not have ourselves.
            if error.errno_name != "EPERM" or rule in asked:
                raise


def entry(rule: Rule) -> str:
    """A rule as v1's devices.allow takes it: ``c 136:* rwm``."""
    kind, major, minor, access = rule
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor} {access}"


# --- v2: an eBPF program, assembled by hand --------------------------------------------------------

# The kernel calls the program with register 1 pointing to three 32-bit numbers:
#   access << 16 | type, major, minor        and refuses the access when register 0 is 0 at the end.
TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
# Instructions are 8 bytes: code, registers (source << 4 | target), offset (of a load or jump), constant.
LOAD_WORD, COPY, SET = 0x61, 0xBF, 0xB7
AND, SHIFT_RIGHT = 0x57, 0x77
IF_NOT_CONSTANT, IF_NOT_REGISTER, EXIT = 0x55, 0x5D, 0x95
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI = 15, 6, 2


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | target, offset, constant)


def program(rules: Iterable[Rule]) -> bytes:
    """The eBPF program that allows what one of *rules* allows, and nothing else."""
    code = [
        _instruction(LOAD_WORD, 2, 1, 0),  # r2 = access << 16 | type
        _instruction(COPY, 3, 2),  # r3 = r2
        _instruction(AND, 2, constant=0xFFFF),  # r2 = type
        _instruction(SHIFT_RIGHT, 3, constant=16),  # r3 = access that is wanted, as bits
        _instruction(LOAD_WORD, 4, 1, 4),  # r4 = major
        _instruction(LOAD_WORD, 5, 1, 8),  # r5 = minor
    ]
    for rule in rules:
        code += _block(rule)
    code += [_instruction(SET, 0, constant=0), _instruction(EXIT)]  # no rule matched: refuse
    return b"".join(code)


def _block(rule: Rule) -> list[bytes]:
    """One rule: each test that fails jumps behind the block, to the next rule."""
    kind, major, minor, access = rule
    allowed = sum(ACCESS[letter] for letter in set(access))
    tests = [(IF_NOT_CONSTANT, 2, 0, TYPES[kind])]  # another type of device?
    if major is not None:
        tests.append((IF_NOT_CONSTANT, 4, 0, major))
    if minor is not None:
        tests.append((IF_NOT_CONSTANT, 5, 0, minor))
    mask = []
    if allowed != 7:
        mask = [_instruction(COPY, 1, 3), _instruction(AND, 1, constant=allowed)]  # r1 = wanted & allowed
        tests.append((IF_NOT_REGISTER, 1, 3, 0))  # wanted more than that?
    verdict = [_instruction(SET, 0, constant=1), _instruction(EXIT)]  # allow
    length = len(mask) + len(tests) + len(verdict)
    block = mask
    for code, register, other, constant in tests:
        behind = length - len(block) - 1  # a jump counts from the instruction after it
        block = [*block, _instruction(code, register, other, behind, constant)]
    return block + verdict


def _attach(directory: str, instructions: bytes) -> None:
    """Hang the program on the cgroup; it stays there when our descriptors are closed, until rmdir."""
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = syscalls.bpf_load(BPF_PROG_TYPE_CGROUP_DEVICE, instructions)
        try:
            # MULTI: an ancestor (systemd) may have a program too; then both must allow.
            syscalls.bpf_attach(cgroup, loaded, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
        finally:
            os.close(loaded)
    finally:
        os.close(cgroup)
