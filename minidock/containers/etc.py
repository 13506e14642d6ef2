"""The files under /etc that every container has of its own: hostname, hosts, resolv.conf.

They lie in the container's directory and are bound into its root, so that they can differ between
containers of one image and are not part of an image that is committed from it.
"""

from __future__ import annotations

import os
from pathlib import Path

from minidock import files
from minidock.containers.spec import Mount, Spec
from minidock.containers.state import Container

NAMES = ("hostname", "hosts", "resolv.conf")
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hostname(spec: Spec) -> str:
    """The container's host name: the one asked for, the host's own where that is shared, or the short id."""
    if spec.namespaces.uts == "host":
        return os.uname().nodename
    return spec.hostname or (os.uname().nodename if spec.namespaces.network == "host" else spec.id[:12])


def write(container: Container) -> None:
    """Write the files anew, as at every start. Those of a shared network belong to its first owner."""
    spec = container.spec
    if spec.namespaces.network.startswith("container:"):
        return
    name = hostname(spec)
    full = f"{name}.{spec.domain_name}" if spec.domain_name else name
    texts = {"hostname": f"{full}\n", "hosts": _HOSTS, "resolv.conf": _read("/etc/resolv.conf")}
    if spec.namespaces.network == "host":
        texts["hosts"] = _read("/etc/hosts") or _HOSTS
    for file, text in texts.items():
        path = container.directory / file
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def mounts(container: Container) -> list[Mount]:
    """The binds that put them in place, except where the user mounts something else there."""
    spec = container.spec
    owner = container
    if spec.namespaces.network.startswith("container:"):
        owner = Container(container.root, spec.namespaces.network.partition(":")[2])
    taken = {os.path.normpath(mount.target) for mount in spec.mounts}
    return [
        Mount("bind", str(owner.directory / name), f"/etc/{name}", read_only=spec.security.read_only_root)
        for name in NAMES
        if f"/etc/{name}" not in taken
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def init_layer(owner: Container) -> Path:
    """The layer between image and container that has the mount points every container needs.

    Made once for a state root. With it, mounting /proc, /dev and the files of /etc changes nothing in
    the container's own layer, and `diff` shows only what its programs did. (Docker has the same.)
    """
    layer = owner.root / "containers" / ".init"
    if layer.is_dir():
        return layer
    making = owner.directory / ".init"  # of a start that is killed, nothing outlives the container
    files.remove_tree(making)
    for directory in ("dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc"):
        (making / directory).mkdir(parents=True)
    for name in NAMES:
        (making / "etc" / name).touch(mode=0o644)
    (making / "etc" / "mtab").symlink_to("/proc/mounts")
    for directory, _, _ in os.walk(making):
        os.chmod(directory, 0o755)
    try:
        os.rename(making, layer)
    except OSError:  # another start was quicker
        files.remove_tree(making)
    return layer
