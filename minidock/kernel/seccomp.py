"""seccomp: a small program inside the kernel that judges every system call of the container.

A *profile* (Docker's JSON format; our default is in seccomp_profile.py) is compiled to classic BPF: an
array of ``struct sock_filter``, which the kernel runs on (number, architecture, arguments) of each call
before anything else happens. The program can only jump forwards, so it always ends, with a verdict:
allow, fail with an errno, kill, …

Ours finds the call by binary search (seccomp_bpf.py): the numbers fall into some hundred stretches with
one verdict each, and seven comparisons find the right one, where a plain list would need hundreds.

Source: seccomp(2), Documentation/userspace-api/seccomp_filter.rst; for the profile's meaning
libseccomp's seccomp_rule_add(3), and runc for calls newer than the profile (see _stretches).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from minidock import trace
from minidock.errors import InvalidInput
from minidock.kernel import syscalls
from minidock.kernel.seccomp_bpf import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    TRACE,
    TRAP,
    Condition,
    Judgement,
    Stretch,
    assemble,
)

EPERM, ENOSYS = 1, 38
ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_KILL_PROCESS": KILL_PROCESS, "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_TRACE": TRACE, "SCMP_ACT_LOG": LOG,
}  # fmt: skip

AMD64, X32_BIT = 0xC000003E, 0x40000000
# Per machine: Go's name, libseccomp's names of what it runs → (our table, the kernel's AUDIT_ARCH).
MACHINES: dict[str, tuple[str, dict[str, tuple[str, int]]]] = {
    "x86_64": (
        "amd64",
        {
            "SCMP_ARCH_X86_64": ("x86_64", AMD64),
            "SCMP_ARCH_X86": ("x86", 0x40000003),
            "SCMP_ARCH_X32": ("x32", AMD64),  # the same, with a bit set in the number
        },
    ),
    "aarch64": (
        "arm64",
        {"SCMP_ARCH_AARCH64": ("aarch64", 0xC00000B7), "SCMP_ARCH_ARM": ("arm", 0x40000028)},
    ),
}


@trace.mechanism(lesson=11)
def install(program: bytes) -> None:
    """Refuse the system calls that a container has no business with: they are the kernel's attack surface."""
    syscalls.seccomp_install(program)


def program(setting: str, capabilities: Collection[str], cache: Path | None = None) -> bytes | None:
    """The filter for *setting*: ``default``, ``unconfined`` (None), or a profile as JSON text.

    Compiling takes milliseconds: the default's result is kept in the directory *cache*, by the
    capabilities that it depends on. Raises InvalidInput for a profile that makes no sense.
    """
    if setting == "unconfined":
        return None
    if setting != "default":
        return compile_profile(parse(setting), capabilities)
    if cache is None:
        return _compile_default(capabilities)
    file = cache / _cache_name(capabilities)
    try:
        return file.read_bytes()
    except OSError:
        compiled = _compile_default(capabilities)
    from minidock import files

    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write_bytes(file, compiled, sync=False)
    return compiled


def _compile_default(capabilities: Collection[str]) -> bytes:
    from minidock.kernel import seccomp_profile

    return compile_profile(seccomp_profile.default(), capabilities)


def _cache_name(capabilities: Collection[str]) -> str:
    """Names every input: machine, kernel, capabilities, and the age of the code that compiles."""
    from minidock.kernel import capabilities as bits

    system = os.uname()
    here = os.path.dirname(__file__)
    sources = ("seccomp.py", "seccomp_profile.py", "seccomp_numbers.py")
    stamp = max(os.stat(f"{here}/{name}").st_mtime_ns for name in sources)
    return f"seccomp-{system.machine}-{system.release}-{bits.mask(capabilities):x}-{stamp:x}.bpf"


def parse(text: str) -> dict[str, Any]:
    """A profile from JSON *text*. Raises InvalidInput, in Docker's words, when it is none."""
    import json

    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise InvalidInput("Decoding seccomp profile failed: it has no defaultAction")
    if profile.get("archMap") and profile.get("architectures"):
        raise InvalidInput("both 'architectures' and 'archMap' are specified in the seccomp profile, use one")
    return profile


def compile_profile(
    profile: dict[str, Any],
    capabilities: Collection[str],
    *,
    machine: str | None = None,
    kernel: str | None = None,
) -> bytes:
    """Compile a profile to a filter for :func:`install`.

    *capabilities* are those of the container: rules may depend on them. *machine* (``x86_64`` or
    ``aarch64``) and *kernel* (its release) default to this one's. Raises InvalidInput for an unknown
    action or operator; a system call that does not exist here is skipped, as Docker does.
    """
    machine = machine or os.uname().machine
    if machine not in MACHINES:
        raise InvalidInput(
            f"seccomp: no filter for the machine {machine}", hint="--security-opt seccomp=unconfined"
        )
    rules = _rules_in_force(profile, MACHINES[machine][0], capabilities, kernel or os.uname().release)
    default = _verdict(profile["defaultAction"], profile.get("defaultErrnoRet"))
    sections: dict[int, list[Stretch]] = {}
    abis = _abis(profile, machine)
    for abi, architecture in sorted(abis, key=lambda each: each[0] == "x32"):  # its numbers are the highest
        sections.setdefault(architecture, []).extend(_stretches(rules, default, abi))
    if machine == "x86_64" and ("x32", AMD64) not in abis:
        sections[AMD64].append((X32_BIT, KILL_THREAD))
    return assemble(sections, default)


# --- from the profile to verdicts ----------------------------------------------------------------


def _abis(profile: dict[str, Any], machine: str) -> list[tuple[str, int]]:
    """The kinds of programs that the profile covers here; the machine's own kind always is."""
    known = MACHINES[machine][1]
    own = next(iter(known))
    wanted = [own, *profile.get("architectures", [])]
    for entry in profile.get("archMap") or []:
        if entry["architecture"] == own:
            wanted += entry.get("subArchitectures") or []
    return [known[name] for name in dict.fromkeys(wanted) if name in known]


Rule = tuple[list[str], tuple[Condition, ...], int]  # names, conditions, verdict


def _rules_in_force(
    profile: dict[str, Any], arch: str, capabilities: Collection[str], kernel: str
) -> list[Rule]:
    """The rules whose ``includes`` all hold and whose ``excludes`` do not."""
    found = []
    for rule in profile.get("syscalls") or []:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("arches") and arch not in includes["arches"]:
            continue
        if arch in excludes.get("arches", ()) or set(excludes.get("caps", ())) & set(capabilities):
            continue
        if not set(includes.get("caps", ())) <= set(capabilities):
            continue
        if _release(includes.get("minKernel", "0")) > _release(kernel):
            continue
        if "minKernel" in excludes and _release(excludes["minKernel"]) <= _release(kernel):
            continue
        names = rule.get("names") or [rule.get("name", "")]
        conditions = tuple(_condition(each) for each in rule.get("args") or [])
        found.append((names, conditions, _verdict(rule.get("action"), rule.get("errnoRet"))))
    return found


def _release(text: str) -> tuple[int, ...]:
    """``6.1.0-18-amd64`` → (6, 1): what minKernel compares."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split("-")[0].split(".")[:2])


def _verdict(action: object, errno: int | None) -> int:
    if action not in ACTIONS:
        raise InvalidInput(f"seccomp: unknown action {action!r}", hint=f"Known: {', '.join(ACTIONS)}.")
    verdict = ACTIONS[str(action)]
    if verdict in (ERRNO, TRACE):
        verdict |= (EPERM if errno is None else int(errno)) & 0xFFFF
    return verdict


OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


def _condition(given: dict[str, Any]) -> Condition:
    operator = str(given.get("op", "")).removeprefix("SCMP_CMP_")
    index = int(given.get("index", 0))
    if operator not in OPERATORS or not 0 <= index <= 5:
        raise InvalidInput(f"seccomp: impossible condition {given!r}", hint=f"Operators: {OPERATORS}.")
    return index, operator, int(given.get("value", 0)), int(given.get("valueTwo", 0))


def _stretches(rules: list[Rule], default: int, abi: str) -> list[Stretch]:
    """The numbers of one kind of program, cut into stretches with one judgement each.

    The first rule without conditions wins over all others for its call, as in libseccomp; among rules
    with conditions the first that holds counts. Numbers above the newest call of the profile answer
    ENOSYS, as with runc: a libc that tries a new call then falls back to the old one, while EPERM
    would make it give up.
    """
    from minidock.kernel import seccomp_numbers

    chains: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}
    for names, conditions, verdict in rules:
        if verdict == default:
            continue  # as runc: such a rule says nothing
        for name in names:
            for number, extra in seccomp_numbers.ways_to_call(name, abi):
                if conditions and extra:
                    continue  # there the real arguments lie in memory, out of a filter's sight
                chains.setdefault(number, []).append((conditions + extra, verdict))
    word = 32 if abi in ("x86", "arm", "x32") else 64
    found: dict[int, Judgement] = {X32_BIT if abi == "x32" else 0: default}
    for number, chain in sorted(chains.items()):
        always = [verdict for conditions, verdict in chain if not conditions]
        found[number] = always[0] if always else (tuple(chain), word)
        found[number + 1] = default
    if default & 0xFFFF0000 in (ERRNO, TRAP, KILL_PROCESS, KILL_THREAD) and chains:
        private = seccomp_numbers.ARM_PRIVATE if abi == "arm" else 1 << 31
        newest = max(number for number in chains if number < private)
        found[newest + 1] = ERRNO | ENOSYS
        if abi == "arm":
            found.setdefault(private, default)
    return sorted(found.items(), key=lambda item: item[0])
