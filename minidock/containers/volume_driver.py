"""The options of a managed volume: ``type``, ``device`` and ``o``, those of Docker's driver ``local``.

They say what is mounted where otherwise the volume's own directory would be: ``-o type=none -o o=bind
-o device=/srv`` a directory of the host, ``-o type=tmpfs -o device=tmpfs -o o=size=64m`` memory, ``-o
type=nfs -o device=:/export -o o=addr=10.0.0.1`` a file server. Docker mounts it once on the host; here
each container mounts it in its own mount namespace, so that nothing is left on the host. (A tmpfs is
therefore a fresh one in every container.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minidock.containers.volumes import Volume
from minidock.errors import KernelError, MinidockError
from minidock.kernel import syscalls

_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "sync": syscalls.MS_SYNCHRONOUS,
    "dirsync": syscalls.MS_DIRSYNC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
    "strictatime": syscalls.MS_STRICTATIME,
    "bind": syscalls.MS_BIND,
    "rbind": syscalls.MS_BIND | syscalls.MS_REC,
}
_NO_CHANGE = ("defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime")
_ATTRIBUTES = (  # of a bind: mount_setattr has its own numbers
    (syscalls.MS_RDONLY, syscalls.MOUNT_ATTR_RDONLY),
    (syscalls.MS_NOSUID, syscalls.MOUNT_ATTR_NOSUID),
    (syscalls.MS_NODEV, syscalls.MOUNT_ATTR_NODEV),
    (syscalls.MS_NOEXEC, syscalls.MOUNT_ATTR_NOEXEC),
)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The arguments of mount(2) for a volume."""

    device: str
    fstype: str
    flags: int
    data: str

    @property
    def is_bind(self) -> bool:
        return bool(self.flags & syscalls.MS_BIND)

    def attributes(self) -> int:
        """What a bind restricts, as flags of mount_setattr(2)."""
        return sum(attribute for flag, attribute in _ATTRIBUTES if self.flags & flag)


def filesystem(volume: Volume) -> Filesystem | None:
    """What to mount for *volume*; None for a volume that is a plain directory."""
    if not volume.options:
        return None
    flags, data = 0, []
    for word in volume.options.get("o", "").split(","):
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word and word not in _NO_CHANGE:
            data.append(word)
    return Filesystem(volume.options["device"], volume.options["type"], flags, ",".join(data))


def refused(volume: Volume, error: KernelError) -> MinidockError:
    """The error for a volume whose device cannot be mounted, in Docker's words."""
    options = volume.options
    return MinidockError(
        f"error while mounting volume '{volume.path}': failed to mount local volume: "
        f"mount {options.get('device')} as {options.get('type')}: {os.strerror(error.errno).lower()}",
        hint=error.hint or f"minidock volume inspect {volume.name} shows its options.",
    )
