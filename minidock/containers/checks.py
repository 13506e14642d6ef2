"""What can be said to be wrong with a specification before anything is started, in Docker's words."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, which cost time
import os

from minidock.containers import names
from minidock.containers.spec import Limits, Mount, Spec
from minidock.errors import InvalidInput

MINIMUM_MEMORY = 6 << 20  # bytes; Docker's, below which nothing starts
_LARGEST_QUOTA = (1 << 44) - 1  # microseconds; the kernel's MAX_BW
_MOST_PIDS = 1 << 22  # the kernel's PID_MAX_LIMIT
_PROPAGATIONS = {f"{recursive}{kind}" for recursive in ("", "r") for kind in ("private", "slave", "shared")}
# Settings that each container has of its own; every other sysctl belongs to the whole machine.
_IPC_SYSCTLS = {
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
}


def check(spec: Spec) -> None:
    """Raise InvalidInput for a container that could never start; gives its name the proper form."""
    if spec.name:
        spec.name = names.check(spec.name)
    if not spec.arguments:
        raise InvalidInput("no command specified", hint="Name one after the image, or set CMD in the image.")
    for each in spec.mounts:
        mount(each)
    targets = [os.path.normpath(each.target) for each in spec.mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidInput(f"Duplicate mount point: {target}")
    sysctls(spec)
    if spec.stop_signal != "SIGTERM":
        signal_number(spec.stop_signal)


def mount(mount: Mount) -> None:
    """Raise InvalidInput for a mount that Docker refuses."""
    target = os.path.normpath(mount.target)
    if not mount.target.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{mount.target}' mount path must be absolute")
    if target == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    if target == "/proc" or target.startswith("/proc/"):
        raise InvalidInput(f'"{target}" cannot be mounted because it is inside /proc')
    if mount.propagation not in _PROPAGATIONS:
        raise InvalidInput(f"invalid propagation mode: {mount.propagation}")
    if mount.kind == "bind" and not mount.create_source and not os.path.exists(mount.source):
        raise InvalidInput(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}',
            hint="-v would create the directory; --mount wants it to exist.",
        )


def sysctls(spec: Spec) -> None:
    """Raise InvalidInput for a setting that would reach the host, in Docker's words."""
    for name in spec.sysctls:
        if name.startswith("net."):
            if spec.namespaces.network == "host":
                raise InvalidInput(f"sysctl '{name}' is not allowed when network mode is host")
        elif name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            if spec.namespaces.ipc == "host":
                raise InvalidInput(f"sysctl '{name}' is not allowed when ipc mode is host")
        else:
            raise InvalidInput(
                f"sysctl '{name}' is not in a separate kernel namespace",
                hint="It would change the whole machine. Possible: net.*, fs.mqueue.*, kernel.shm*/msg*/sem.",
            )


def limits(limits: Limits) -> None:
    """Raise InvalidInput for limits that contradict each other, in the words of Docker's daemon."""
    memory, swap, reservation = limits.memory, limits.memory_swap, limits.memory_reservation
    if memory and memory < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if swap and not memory and swap != -1:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap and memory and swap != -1 and swap < memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if reservation and reservation != -1 and reservation < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory reservation allowed is 6MB")
    if reservation and memory and reservation > memory:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidInput(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if limits.cpu_quota and (0 < limits.cpu_quota < 1000 or limits.cpu_quota > _LARGEST_QUOTA):
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000), nor more than 200 days")
    if limits.cpu_shares and limits.cpu_shares < 0:
        raise InvalidInput(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.pids and limits.pids > _MOST_PIDS:
        raise InvalidInput(f"invalid pids limit ({limits.pids}): the kernel counts up to {_MOST_PIDS}")


def signal_number(text: str) -> int:
    """``SIGTERM``, ``term`` or ``15`` → 15. Raises InvalidInput."""
    if text.isdigit() and 0 < int(text) < _signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name.startswith("SIGRTMIN+") and name[9:].isdigit():
        return int(_signal.SIGRTMIN) + int(name[9:])
    number = getattr(_signal, name, None)
    if isinstance(number, int) and not name.startswith("SIG_"):  # SIG_BLOCK is none
        return number
    raise InvalidInput(f"invalid signal: {text}")
