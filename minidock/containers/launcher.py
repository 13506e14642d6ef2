"""The last step before the user's program: a 150-byte program in sealed memory, so that Python is never seen.

Between clone and exec a container's first process *is* the host's Python. Were it to exec the user's
program directly, an image whose entrypoint is a script starting with ``#!/proc/self/exe`` would make
the kernel run the host's Python inside the container, and could keep a descriptor of that file to
overwrite it later (CVE-2019-5736). So Python execs a tiny program of our own first: it lives in an
anonymous, sealed file (memfd), and *it* execs the user's program. ``/proc/self/exe`` then names the
memfd, which nobody can write to, and nothing of the host.

The program, the same for both machines::

    fcntl(3, F_SETFD, FD_CLOEXEC)      descriptor 3 leads to the shim; it must not survive the exec
    execve(argv[1], &argv[2], envp)    become the user's program: its path, then its argv
    write(3, &result, 8)               still here? tell the shim the (negative) errno
    exit_group(127)
"""

from __future__ import annotations

import os
import struct

from minidock.errors import MinidockError
from minidock.kernel import syscalls

REPORT = 3  # the descriptor on which the launcher reports; closed by the exec that succeeds

_AMD64 = bytes.fromhex(
    "bf03000000 be02000000 ba01000000 b848000000 0f05"  #  fcntl(3, F_SETFD, FD_CLOEXEC)
    "4885c0 781a"  #                                       test rax, rax; js report
    "488b7c2410 488d742418"  #                             rdi = argv[1]; rsi = &argv[2]
    "488b0424 488d54c410"  #                               rax = argc; rdx = envp
    "b83b000000 0f05"  #                                   execve
    "50 bf03000000 4889e6 ba08000000 b801000000 0f05"  #   report: write(3, &rax, 8)
    "bf7f000000 b8e7000000 0f05"  #                        exit_group(127)
)
_ARM64 = struct.pack(
    "<22I",
    *(0xD2800060, 0xD2800041, 0xD2800022, 0xD2800328, 0xD4000001),  # fcntl(3, F_SETFD, FD_CLOEXEC)
    0xB7F80100,  #                                                    tbnz x0, #63, report
    *(0xF9400BE0, 0x910063E1),  #                                     x0 = argv[1]; x1 = &argv[2]
    *(0xF94003E9, 0x8B090C22, 0xD1002042),  #                         x2 = envp
    *(0xD2801BA8, 0xD4000001),  #                                     execve
    *(0xF81F0FE0, 0xD2800060, 0x910003E1, 0xD2800102),  #             report: write(3, &x0, 8)
    *(0xD2800808, 0xD4000001),
    *(0xD2800FE0, 0xD2800BC8, 0xD4000001),  #                         exit_group(127)
)
_PROGRAMS = {"x86_64": (62, _AMD64), "aarch64": (183, _ARM64)}  # machine: (ELF's number for it, code)

_BASE = 0x400000
_HEADERS = 64 + 56  # the ELF header and one program header
_MFD_EXEC = 0x10  # since Linux 6.3; says that this memfd may be executed (sysctl vm.memfd_noexec)


def program(machine: str) -> bytes:
    """A static ELF executable for *machine* (``os.uname().machine``). Source: elf(5)."""
    if machine not in _PROGRAMS:
        raise MinidockError(f"containers cannot start on {machine}: known are {', '.join(_PROGRAMS)}")
    number, code = _PROGRAMS[machine]
    size = _HEADERS + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little endian
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", identity, 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    load, readable_and_executable = 1, 5
    segment = struct.pack("<IIQQQQQQ", load, readable_and_executable, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def sealed() -> int:
    """A descriptor of the launcher in sealed memory, closed on exec."""
    flags = syscalls.MFD_CLOEXEC | syscalls.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("minidock-launcher", flags | _MFD_EXEC)
    except OSError:  # EINVAL: a kernel before 6.3, where every memfd may be executed
        descriptor = syscalls.memfd_create("minidock-launcher", flags)
    os.write(descriptor, program(os.uname().machine))
    syscalls.memfd_seal(descriptor)
    return descriptor


def failure(report: bytes) -> int | None:
    """The errno in what the launcher wrote on descriptor 3, or None when it is another message."""
    if len(report) != 8:
        return None
    number = -int(struct.unpack("<q", report)[0])
    return number if 0 < number < 4096 else None
