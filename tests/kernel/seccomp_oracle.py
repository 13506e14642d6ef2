"""Two independent judges for the seccomp tests: a machine that runs a filter, and a reader of profiles.

The first executes classic BPF as the kernel does; the second answers from the profile's JSON what the
verdict on one call must be, without any of the compiler's code.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0
AUDIT = {
    "x86_64": 0xC000003E,
    "x32": 0xC000003E,
    "x86": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
ABIS = {"x86_64": ("x86_64", "x32", "x86"), "aarch64": ("aarch64", "arm")}
NARROW = ("x86", "x32", "arm")  # their arguments have 32 bits
GO_NAME = {"x86_64": "amd64", "aarch64": "arm64"}

# Debian's packages: golang-github-containers-common and golang-github-docker-docker-dev.
CONTAINERS_PROFILE = Path("/usr/share/containers/seccomp.json")
DOCKER_PROFILE = Path("/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json")


def run(program: bytes, number: int, architecture: int, arguments: Sequence[int] = ()) -> int:
    """The verdict of *program*, executed instruction by instruction on a ``struct seccomp_data``."""
    words = [argument % 2**64 for argument in [*arguments, *[0] * 6][:6]]
    data = struct.pack("<IIQ6Q", number % 2**32, architecture, 0, *words)
    register, at, steps = 0, 0, 0
    while True:
        code, true, false, constant = struct.unpack_from("<HBBI", program, 8 * at)
        at, steps = at + 1, steps + 1
        if code == 0x06:
            return int(constant)
        if code == 0x20:
            (register,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            register &= constant
        elif code == 0x05:
            at += constant
        elif code in (0x15, 0x25, 0x35):
            taken = {0x15: register == constant, 0x25: register > constant, 0x35: register >= constant}[code]
            at += true if taken else false
        elif code == 0x45:
            at += true if register & constant else false
        else:
            raise AssertionError(f"instruction {at}: {code:#x}: the kernel would refuse this program")


def count_steps(program: bytes, number: int, architecture: int) -> int:
    """How many instructions the judgement of one call takes."""
    at = steps = register = 0
    data = struct.pack("<IIQ6Q", number, architecture, 0, *[0] * 6)
    while True:
        code, true, false, constant = struct.unpack_from("<HBBI", program, 8 * at)
        at, steps = at + 1, steps + 1
        if code == 0x06:
            return steps
        if code == 0x20:
            (register,) = struct.unpack_from("<I", data, constant)
        elif code == 0x05:
            at += constant
        else:
            at += true if (register == constant if code == 0x15 else register >= constant) else false


def _action(name: str, errno: int | None) -> int:
    plain = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_KILL": KILL, "SCMP_ACT_LOG": 0x7FFC0000}
    return plain[name] if name in plain else ERRNO | (1 if errno is None else errno)


def default_of(profile: dict[str, Any]) -> int:
    """The verdict on what the profile does not name."""
    return _action(profile["defaultAction"], profile.get("defaultErrnoRet"))


def judge(
    profile: dict[str, Any],
    name: str,
    arguments: Sequence[int],
    *,
    abi: str,
    machine: str,
    capabilities: set[str],
    kernel: tuple[int, int] = (6, 1),
) -> int:
    """What *profile* says about the call *name*; unconditional rules come before conditional ones."""
    default = default_of(profile)
    bits = 2**32 if abi in NARROW else 2**64
    conditional = None
    for rule in profile["syscalls"]:
        if name not in rule["names"]:
            continue
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if GO_NAME[machine] not in includes.get("arches", [GO_NAME[machine]]):
            continue
        if GO_NAME[machine] in excludes.get("arches", []):
            continue
        if any(cap not in capabilities for cap in includes.get("caps", [])):
            continue
        if any(cap in capabilities for cap in excludes.get("caps", [])):
            continue
        if tuple(map(int, includes.get("minKernel", "0.0").split("."))) > kernel:
            continue
        verdict = _action(rule["action"], rule.get("errnoRet"))
        if verdict == default:
            continue
        if not rule.get("args"):
            return verdict
        if conditional is None and all(_holds(each, arguments, bits) for each in rule["args"]):
            conditional = verdict
    return default if conditional is None else conditional


def _holds(condition: dict[str, Any], arguments: Sequence[int], bits: int) -> bool:
    given = [*arguments, *[0] * 6][condition["index"]] % bits
    value, second = condition.get("value", 0) % bits, condition.get("valueTwo", 0) % bits
    match condition["op"].removeprefix("SCMP_CMP_"):
        case "EQ":
            return given == value
        case "NE":
            return given != value
        case "LT":
            return given < value
        case "LE":
            return given <= value
        case "GT":
            return given > value
        case "GE":
            return given >= value
        case "MASKED_EQ":
            return given & value == second
    raise AssertionError(condition)


# Argument lists that tell apart every condition of the profiles in use.
INTERESTING: dict[str, list[tuple[int, ...]]] = {
    "personality": [(v,) for v in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 4, 9, 2**32, 2**32 + 8, 2**64 - 1)],
    "clone": [
        (v,) for v in (0, 17, 0x1200011, 0x10000000, 0x20000, 0x7E020000, 0x2000000, 0x40000011, 2**33)
    ],
    "socket": [
        (1, 1, 0),
        (2, 1, 6),
        (16, 3, 9),
        (16, 3, 0),
        (40, 1, 0),
        (2, 1, 9),
        (2**32 + 40, 1, 0),
        (16, 3, 2**32 + 9),
    ],
}


def argument_lists(name: str) -> Iterator[tuple[int, ...]]:
    """What to try the call *name* with."""
    yield from INTERESTING.get(name, [(), (1, 2, 3, 4, 5, 6)])


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def libseccomp() -> ctypes.CDLL | None:
    """The C library that Docker's runc uses to make filters, where it is installed."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Compare),
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library


_TOKENS = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "x32": 0x4000003E,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


def number_in_libseccomp(library: ctypes.CDLL, name: str, abi: str) -> int:
    """The number of *name*; negative where libseccomp knows none."""
    return int(library.seccomp_syscall_resolve_name_arch(_TOKENS[abi], name.encode()))


def compile_with_libseccomp(
    library: ctypes.CDLL, profile: dict[str, Any], machine: str, capabilities: set[str]
) -> bytes:
    """The filter that runc would make of *profile* (without its additions for new calls)."""
    default = default_of(profile)
    context = library.seccomp_init(default)
    for abi in ABIS[machine]:
        library.seccomp_arch_add(context, _TOKENS[abi])
    if machine != os.uname().machine:
        for abi in ABIS[os.uname().machine]:
            library.seccomp_arch_remove(context, _TOKENS[abi])
    for rule in profile["syscalls"]:
        single = {**rule, "args": []}
        for name in rule["names"]:
            alone = {**profile, "syscalls": [{**single, "names": [name]}]}
            verdict = judge(alone, name, (), abi=ABIS[machine][0], machine=machine, capabilities=capabilities)
            resolved = library.seccomp_syscall_resolve_name(name.encode())
            if verdict == default or resolved == -1:
                continue
            args = rule.get("args") or []
            array = (_Compare * len(args))(
                *[
                    _Compare(
                        a["index"],
                        _OPERATORS[a["op"].removeprefix("SCMP_CMP_")],
                        a["value"],
                        a.get("valueTwo", 0),
                    )
                    for a in args
                ]
            )
            library.seccomp_rule_add_array(context, verdict, resolved, len(args), array)
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        library.seccomp_release(context)
        file.seek(0)
        return file.read()


def load(path: Path) -> dict[str, Any]:
    """A profile from disk."""
    profile: dict[str, Any] = json.loads(path.read_text())
    return profile
