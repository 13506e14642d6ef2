"""Why a program does not start or a port is taken, read from the live machine."""

from __future__ import annotations

import os
import re
import stat
import struct
from errno import EACCES, EADDRINUSE, ENOENT, ENOEXEC, ETXTBSY

from minidock.kernel.evidence import Answer, Question, cause, listed


@cause("execve", ENOENT)
def interpreter_missing(question: Question) -> Answer:
    """The program is there, but not what must load it: the kernel answers ENOENT for both."""
    path = _program(question)
    if not os.path.exists(path):
        return None
    needed, why = _interpreter(path)
    if needed.endswith("\r"):
        return (
            f"{question.text('path')} has Windows line ends: it asks for an interpreter {needed!r}",
            "Convert it: sed -i 's/\\r$//' FILE, in the image.",
        )
    if not needed or os.path.exists(needed):
        return None
    return (
        f"{question.text('path')} exists, but {why} {needed} does not, in the root of this process",
        "Install that interpreter (or the C library) in the image, or use a statically linked program.",
    )


def _program(question: Question) -> str:
    path = question.text("path")
    return f"/proc/self/fd/{path}" if path.isdigit() else path


def _interpreter(path: str) -> tuple[str, str]:
    """What must load the program at *path*, and what kind of thing that is; empty when nothing must."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith(b"#!"):
        words = os.fsdecode(start[2:].partition(b"\n")[0]).strip(" \t").split(" ")
        return words[0].split("\t")[0], "the interpreter of its first line"
    if not start.startswith(b"\x7fELF") or start[4:6] != b"\x02\x01":
        return "", ""
    table, size, count = struct.unpack_from("<Q", start, 32)[0], *struct.unpack_from("<HH", start, 54)
    for at in range(table, min(table + size * count, len(start) - 56), size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", start, at)
        if kind == 3:  # PT_INTERP
            with open(path, "rb") as file:
                file.seek(offset)
                return os.fsdecode(file.read(length).rstrip(b"\0")), "its loader"
    return "", ""


@cause("execve", EACCES)
def not_executable(question: Question) -> Answer:
    """A directory, a file without the x bit, or a mount that forbids programs."""
    path = _program(question)
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        return f"{question.text('path')} is a directory", "Name a program."
    if not found.st_mode & 0o111:
        return f"{question.text('path')} has no execute permission", "chmod +x it, in the image."
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        mount = question.mount_of(path)
        return f"the mount {mount.path if mount else ''} is noexec", "Run it from another mount."
    return None


MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64le", 22: "s390x"}


@cause("execve", ENOEXEC)
def wrong_format(question: Question) -> Answer:
    """A program for another processor, a script without its first line, an empty file."""
    with open(_program(question), "rb") as file:
        start = file.read(64)
    if not start:
        return f"{question.text('path')} is empty", "The image is damaged, or the build left it empty."
    if start.startswith(b"\x7fELF"):
        machine = MACHINES.get(struct.unpack_from("<H", start, 18)[0], "another processor")
        if machine == os.uname().machine:
            return None
        return (
            f"the program is for {machine}, this machine is {os.uname().machine}",
            "Pull the image for this platform: --platform, or another tag.",
        )
    if not start.startswith(b"#!"):
        return (
            f"{question.text('path')} is neither an ELF program nor a script with a #! line",
            "Begin a script with #!/bin/sh (a byte order mark before it also hides it).",
        )
    return None


@cause("execve", ETXTBSY)
def open_for_writing(question: Question) -> Answer:
    """A program that somebody has open for writing cannot run."""
    path, users = os.path.realpath(question.text("path")), []
    for pid, directory in question.processes():
        for name in _names(directory / "fd"):
            try:
                same = os.path.samefile(directory / "fd" / name, path)
                writing = re.search(
                    r"^flags:\s*\d*[12]$", question.read(f"{pid}/fdinfo/{name}"), re.MULTILINE
                )
            except OSError:
                continue
            if same and writing:
                users.append(question.name_of(pid))
    return (f"{path} is open for writing by {listed(users)}", "Close it there first.") if users else None


def _names(directory: os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


@cause("bind listen", EADDRINUSE)
def somebody_listens(question: Question) -> Answer:
    """Which process listens on the port? /proc/net/tcp has the socket's inode, /proc/PID/fd its owner."""
    port = question.text("port") or question.text("address").rpartition(":")[2]
    sockets = _listening(question, int(port))
    if not sockets:
        return None
    owners = []
    for pid, directory in question.processes():
        for name in _names(directory / "fd"):
            try:
                link = os.readlink(directory / "fd" / name)
            except OSError:
                continue
            if link in sockets:
                owners.append(question.name_of(pid))
                break
    who = listed(owners) if owners else "a process that cannot be seen from here"
    return f"port {port} is taken: {who} listens on it", "Choose another port, or stop that process."


def _listening(question: Question, port: int) -> set[str]:
    """``socket:[inode]`` of the TCP sockets that listen on *port*. Source: proc(5), /proc/net/tcp."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in question.read(f"net/{name}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
