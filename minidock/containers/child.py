"""A container's first process, from clone to exec: it builds the container around itself.

It starts as a copy of the shim, in new namespaces that are still full of the host: all mounts are there,
all powers, all descriptors. Step by step it takes them away, until only the image's program is left.
Whatever goes wrong is told to the shim over the channel.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from minidock import trace
from minidock.containers import checks, devpts, etc, mounts, terminal, user_namespace
from minidock.containers.channel import Channel, Messenger
from minidock.containers.program import Program, become
from minidock.containers.spec import Mount, Spec
from minidock.containers.state import Container
from minidock.containers.wiring import is_network
from minidock.errors import InvalidInput, MinidockError
from minidock.kernel import cgroups, namespaces, net, overlay, rootfs, syscalls
from minidock.kernel.cgroup_tree import Places

SIGKILL = 9
TINI = "/usr/bin/tini-static"
_INIT = "/sbin/docker-init"


@dataclass(slots=True)
class Birth:
    """What the shim hands to the new process."""

    container: Container
    cgroup: Places
    program: Program
    channel: Channel
    stdio: list[int | None]  # the container's ends of its pipes; all None with a terminal
    size: tuple[int, int] | None  # rows and columns of the terminal
    launch: int  # the sealed launcher
    shim: int  # a pidfd of the shim
    joins: list[tuple[str, int]] = field(default_factory=list)  # kind, descriptor of the namespace


@dataclass(slots=True)
class Joining:
    """What the shim hands to a process that starts in a running container (`exec`)."""

    init: int  # the pid of the container's first process, as the host counts
    cgroup: Places
    oom_score_adj: int
    program: Program
    channel: Channel
    stdio: list[int | None]
    tty: bool
    size: tuple[int, int] | None
    launch: int
    shim: int
    ids: user_namespace.Ids = field(default_factory=user_namespace.Ids)


def live(birth: Birth) -> NoReturn:
    """Become the container. Never returns: ends in the user's program, or in _exit."""
    code = 125
    try:
        syscalls.set_parent_death_signal(SIGKILL, birth.shim)
        os.setsid()
        with trace.recording(Messenger(birth.channel)):
            _build(birth)
            become(birth.program, birth.stdio, birth.channel, birth.launch, birth.shim)
    except BaseException as error:
        birth.channel.report(error)
        code = getattr(error, "exit_code", None) or code
    finally:
        os._exit(code)


def live_beside(joining: Joining) -> NoReturn:
    """Enter a running container and become a program there. Never returns.

    The container may be hostile: its processes see us as soon as we are in its pid namespace. They can
    neither trace us nor open our /proc entries, because Python here is not dumpable.
    """
    code = 125
    try:
        syscalls.set_parent_death_signal(SIGKILL, joining.shim)
        os.setsid()
        with trace.recording(Messenger(joining.channel)):
            _be_counted(joining.cgroup, joining.oom_score_adj)
            user = None
            if joining.ids.users:
                user = os.open(f"/proc/{joining.init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            enter_container(joining.init)
            if joining.tty:
                master, slave = devpts.open_pair()
                _use_terminal(joining, master, slave)
            if user is not None:
                _enter_user_namespace(user, joining.ids, joining)
            become(joining.program, joining.stdio, joining.channel, joining.launch, joining.shim)
    except BaseException as error:
        joining.channel.report(error)
        code = getattr(error, "exit_code", None) or code
    finally:
        os._exit(code)


@trace.mechanism(lesson=9)
def enter_container(init: int) -> None:
    """Join the namespaces of the container's first process: `exec` is this, and not a new container.

    By the files under /proc, since our own pid counts differently by now. Mounts last: with them the
    host's /proc goes out of sight.
    """
    syscalls.forbid_imports()
    for kind in ("ipc", "uts", "net", "cgroup", "mnt"):
        namespaces.join(Path(f"/proc/{init}/ns/{kind}"), {kind})


def _build(birth: Birth) -> None:
    container, spec = birth.container, birth.container.spec
    _be_counted(birth.cgroup, spec.oom_score_adj)
    shared_memory, user = [], None
    for kind, descriptor in birth.joins:
        if kind == "shm":
            shared_memory = [mounts.take_shared_memory(descriptor)]
        elif kind == "user":
            user = descriptor  # last of all: it gives up the power to mount
        else:
            namespaces.join(Path(f"/proc/self/fd/{descriptor}"), {kind})
    wanted = [*etc.mounts(container), *_init_mount(spec), *spec.mounts]
    taken = mounts.take(container.root, wanted, user)
    rootfs.isolate_mounts()
    merged = mount_root(container, user)
    own_cgroup = spec.namespaces.cgroup == "private" and cgroups.detect() == "v2"
    if own_cgroup:
        namespaces.create({"cgroup"})
    rootfs.mount_system(
        merged,
        shm_size=spec.shm_size,
        privileged=spec.security.privileged,
        own_ipc=spec.namespaces.ipc != "host",
        own_cgroup=own_cgroup,
        devices=[*rootfs.DEVICES, *extra_devices(spec.security.devices)],
    )
    mounts.place(merged, shared_memory + taken)
    rootfs.pivot_into(merged)
    if spec.namespaces.uts == "private":
        namespaces.set_hostname(etc.hostname(spec), spec.domain_name)
    if spec.namespaces.network == "none":
        net.loopback_up()
    elif is_network(spec.namespaces.network):
        birth.channel.wait_for_network()
    set_sysctls(spec)
    if spec.tty:
        _open_terminal(birth)
    _protect(spec)
    if user is not None:
        _enter_user_namespace(user, user_namespace.ids_of(spec), birth)


def _enter_user_namespace(descriptor: int, ids: user_namespace.Ids, newborn: Birth | Joining) -> None:
    """Become the container's root, who has power over the container only. Nothing is mounted after this."""
    directory = newborn.program.working_directory
    if newborn.program.make_directory and not os.path.exists(directory):
        os.makedirs(directory)
        user_namespace.give(Path(directory), ids)
    for each in newborn.stdio:
        if each is not None:
            user_namespace.give(each, ids)
    namespaces.join(Path(f"/proc/self/fd/{descriptor}"), {"user"})


def _be_counted(cgroup: Places, oom_score_adj: int) -> None:
    """Enter the cgroup while /sys/fs/cgroup and /proc are still the host's, and we its root."""
    cgroups.enter(cgroup)
    if oom_score_adj:
        syscalls.write_file("/proc/self/oom_score_adj", str(oom_score_adj))


def mount_root(container: Container, user: int | None = None) -> Path:
    """Stack the image's layers and the container's own; returns the directory of the result.

    *user* is the user namespace whose ids the files are to have.
    """
    root, directory = container.root, container.directory
    layers = container.spec.trees(root)
    if len(layers) < overlay.MOST_LAYERS:
        layers.insert(0, etc.init_layer(container))
    missing = next((layer for layer in layers if not layer.is_dir()), None)
    if missing is not None:
        raise MinidockError(
            f"the layer sha256:{missing.name[:12]}… of {container.spec.image} is not on disk",
            hint=f"minidock pull {container.spec.image}",
        )
    merged, upper, work = (directory / name for name in ("merged", "upper", "work"))
    if user is not None:
        layers = user_namespace.map_layers(layers, merged, user)
        merged = merged / "root"
        merged.mkdir()
        for directory in (upper, work):
            user_namespace.give(directory, user_namespace.ids_of(container.spec))
    overlay.mount_overlay(layers, merged, upper, work)
    return merged


def extra_devices(asked: list[str]) -> list[rootfs.Device]:
    """The nodes for ``--device HOST[:CONTAINER[:PERMISSIONS]]``; a directory stands for all in it."""
    found = []
    for text in asked:
        host, _, rest = text.partition(":")
        inside = rest.partition(":")[0] if rest.startswith("/") else host
        paths = [host]
        if os.path.isdir(host):
            paths = [os.path.join(where, name) for where, _, names in os.walk(host) for name in names]
        for path in paths:
            try:
                node = os.stat(path)
            except FileNotFoundError:
                raise InvalidInput(
                    f'error gathering device information while adding custom device "{host}": '
                    "no such file or directory"
                ) from None
            if not (stat.S_ISCHR(node.st_mode) or stat.S_ISBLK(node.st_mode)):
                if len(paths) > 1:
                    continue
                raise InvalidInput(
                    f'error gathering device information while adding custom device "{host}": '
                    "not a device node"
                )
            kind = "b" if stat.S_ISBLK(node.st_mode) else "c"
            number, mode = node.st_rdev, stat.S_IMODE(node.st_mode)
            found.append(
                rootfs.Device(
                    inside + path.removeprefix(host),
                    kind,
                    os.major(number),
                    os.minor(number),
                    mode,
                    node.st_uid,
                    node.st_gid,
                    path,
                )
            )
    return found


@trace.mechanism(lesson=9)
def set_sysctls(spec: Spec) -> None:
    """Set the kernel settings that belong to this container's own namespaces."""
    checks.sysctls(spec)
    for name, value in {**_own_network_sysctls(spec), **spec.sysctls}.items():
        path = name.replace(".", "/")
        if ".." in name or "/" in name:
            raise InvalidInput(f"sysctl '{name}': not a name")
        syscalls.write_file(f"/proc/sys/{path}", value)


def _own_network_sysctls(spec: Spec) -> dict[str, str]:
    """In a network of its own any user may take port 80 and send a ping: it harms nobody else (as Docker)."""
    if spec.namespaces.network == "host" or spec.namespaces.network.startswith("container:"):
        return {}
    settings = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if spec.namespaces.user == "host":  # elsewhere the highest group has no number on the host
        settings["net.ipv4.ping_group_range"] = "0 2147483647"
    return settings


def _init_mount(spec: Spec) -> list[Mount]:
    return [Mount("bind", TINI, _INIT, read_only=True)] if _has_tini(spec) else []


def _has_tini(spec: Spec) -> bool:
    """Whether ``--init`` is tini, a few kilobytes of C. Else, and for students, it is our Python."""
    return spec.init and not spec.student_layers and os.path.exists(TINI)


def _open_terminal(birth: Birth) -> None:
    master, slave = devpts.open_pair()
    devpts.show_as_console(master)
    _use_terminal(birth, master, slave)


def _use_terminal(newborn: Birth | Joining, master: int, slave: int) -> None:
    devpts.take_control(slave)
    if newborn.size is not None:
        terminal.set_size(master, *newborn.size)
    newborn.channel.send_terminal(master, slave)
    os.close(master)
    newborn.stdio = [slave, slave, slave]


def _protect(spec: Spec) -> None:
    """Hide and write-protect what the container must not see or change. Last of the mounts."""
    security = spec.security
    readonly = rootfs.READONLY_PATHS if security.readonly_paths is None else security.readonly_paths
    masked = rootfs.MASKED_PATHS if security.masked_paths is None else security.masked_paths
    if not security.privileged or security.readonly_paths is not None:
        rootfs.make_read_only(readonly)
    if not security.privileged or security.masked_paths is not None:
        rootfs.mask(masked)
    if security.read_only_root:
        rootfs.make_read_only(["/"])


def init_arguments(spec: Spec) -> list[str]:
    """What is executed: the program itself, or with ``--init`` an init that starts and reaps for it."""
    return [_INIT, "--", *spec.arguments] if _has_tini(spec) else spec.arguments


def is_supervised(spec: Spec) -> bool:
    """Whether a Python process stays behind as process 1 of the container."""
    return spec.init and not _has_tini(spec)
