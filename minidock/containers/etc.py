"""The files under /etc that every container has of its own: hostname, hosts, resolv.conf.

They lie in the container's directory and are bound into its root, so that they can differ between
containers of one image and are not part of an image that is committed from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from minidock import files
from minidock.containers.spec import Mount, Spec
from minidock.containers.state import Container
from minidock.containers.wiring import DEFAULT
from minidock.errors import MinidockError

if TYPE_CHECKING:
    from minidock.containers.networks import Endpoint, Network

    Place = tuple[Network, Endpoint]  # where a container is: a network, and its end there

_PUBLIC = ["8.8.8.8", "8.8.4.4"]  # Docker's last resort
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
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


def write(container: Container, places: list[Place], linked: list[tuple[str, str]] | None = None) -> None:
    """Write the files anew, as at every start. Those of a shared network belong to its first owner.

    *places* is where the container is in its networks, *linked* more lines of hosts: (address, names).
    """
    spec = container.spec
    if spec.namespaces.network.startswith("container:"):
        return
    name = hostname(spec)
    full = f"{name}.{spec.domain_name}" if spec.domain_name else name
    texts = {
        "hostname": f"{full}\n",
        "hosts": _hosts(container, places, linked or []),
        "resolv.conf": _resolver(spec, places),
    }
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


def _hosts(container: Container, places: list[Place], linked: list[tuple[str, str]]) -> str:
    spec, name = container.spec, hostname(container.spec)
    text = _HOSTS
    if spec.namespaces.network == "host":
        text = _read("/etc/hosts") or _HOSTS
    for entry in spec.wiring.extra_hosts:
        other, _, address = entry.partition(":")
        text += f"{_host_gateway(container.root) if address == 'host-gateway' else address}\t{other}\n"
    text += "".join(f"{address}\t{names}\n" for address, names in linked)
    names = f"{name}.{spec.domain_name} {name}" if spec.domain_name else name
    for _, endpoint in places:
        text += "".join(f"{address}\t{names}\n" for address in (endpoint.ip, endpoint.ip6) if address)
    return text


def _host_gateway(root: Path) -> str:
    """The address of the host as containers see it: the gateway of the default network."""
    from minidock.containers import networks

    known = networks.load(root)
    if DEFAULT not in known:
        raise MinidockError("host-gateway: there is no default network yet", hint="minidock network ls")
    return known[DEFAULT].blocks[0].gateway


def _resolver(spec: Spec, places: list[Place]) -> str:
    """resolv.conf: the host's, as far as it makes sense elsewhere; our own server where names work."""
    wiring = spec.wiring
    of_host = _read(_resolver_file())
    if not places and not (wiring.dns or wiring.dns_search or wiring.dns_options):
        return of_host
    search, options = wiring.dns_search or _words(of_host, "search"), wiring.dns_options
    options = options or _words(of_host, "options")
    listed = servers(spec)
    if any(network.resolves_names for network, _ in places):
        listed = ["127.0.0.11"]
        # A name without a dot is a container's: ask for it as it is, before "search" adds to it.
        options = [*options, *([] if any(each.startswith("ndots:") for each in options) else ["ndots:0"])]
    elif not wiring.dns and places:
        # Its own loopback is not the host's. Without any other server, as Docker: a public one.
        listed = [each for each in listed if not each.startswith("127.") and each != "::1"] or _PUBLIC
    lines = [f"nameserver {each}" for each in listed]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*lines, ""])


def servers(spec: Spec) -> list[str]:
    """The name servers to ask: those of --dns, or the host's."""
    return spec.wiring.dns or _words(_read(_resolver_file()), "nameserver")


def _resolver_file() -> str:
    """systemd-resolved's own list, where the usual file names only its stub on the loopback."""
    if "127.0.0.53" in _read("/etc/resolv.conf") and os.path.exists(_BEHIND_STUB):
        return _BEHIND_STUB
    return "/etc/resolv.conf"


def _words(text: str, key: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [word for line in lines if line[:1] == [key] for word in line[1:]]


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
