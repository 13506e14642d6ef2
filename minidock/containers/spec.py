"""What a container is asked to be: the value that `create` writes to ``config.json``.

Everything that decides how the container starts stands here, so that `start` after a reboot makes
the same container again. What changes while it lives stands in ``state.json`` (see state.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minidock.containers.wiring import Wiring


@dataclass(slots=True)
class Mount:
    """One mount asked for with ``-v``, ``--mount`` or ``--tmpfs``.

    *kind* is ``bind``, ``volume`` or ``tmpfs``; *source* a host path (bind) or a volume's name, which an
    anonymous one gets when its container is made;
    *propagation* one of private, rprivate, slave, rslave, shared, rshared; *options* are extra
    mount options (tmpfs: ``size=64m``).
    """

    kind: str
    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"
    options: list[str] = field(default_factory=list)
    create_source: bool = False  # -v makes a missing source directory, --mount does not
    origin: str = "volume"  # the option that asked: volume, mount, tmpfs, image (VOLUME), volumes-from
    mode: str = ""  # what stood after the second colon of -v
    anonymous: bool = False  # a volume nobody has named: it goes with its container's --rm or `rm -v`
    no_copy: bool = False  # of a volume: leave it empty, whatever the image has there
    subpath: str = ""  # of a volume: only this part of it
    mapped: bool = False  # of a bind that minidock makes: its owners are who the container takes them for
    recursive: str = ""  # of a bind: disabled (only the one mount); read-only: writable, readonly (below it)
    driver: str = ""
    driver_options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Limits:
    """Resource limits. Memory in bytes, cpu times in microseconds; None means unlimited."""

    memory: int | None = None
    memory_swap: int | None = None  # memory + swap; -1 is unlimited swap
    memory_reservation: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_shares: int | None = None  # v1 scale, 2..262144, default 1024
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None
    oom_kill_disable: bool = False
    memory_swappiness: int | None = None  # 0..100; cgroup v2 has none


@dataclass(slots=True)
class Security:
    """What the container's processes may do; the defaults are Docker's."""

    privileged: bool = False
    cap_add: list[str] = field(default_factory=list)  # "NET_ADMIN", "ALL"
    cap_drop: list[str] = field(default_factory=list)
    seccomp: str = "default"  # default | unconfined | JSON text of a profile in Docker's format
    no_new_privileges: bool = False
    masked_paths: list[str] | None = None  # None: Docker's list
    readonly_paths: list[str] | None = None
    read_only_root: bool = False
    devices: list[str] = field(default_factory=list)  # "/dev/fuse:/dev/fuse:rwm"
    device_rules: list[str] = field(default_factory=list)  # "c 42:* rmw": no node is made for them
    options: list[str] = field(default_factory=list)  # --security-opt as typed, for inspect


@dataclass(slots=True)
class Namespaces:
    """Which namespaces are new and which are shared.

    Each is ``private``, ``host`` or ``container:ID`` (long id); *network* is ``none`` (a namespace
    with loopback only), ``host``, ``container:ID`` or a network's name (more in `wiring`); *ipc* may also
    be ``shareable`` or ``none``; *user* is ``host`` (no user namespace) or ``private``, then with the host's
    ids in *user_ids* and *group_ids*: ranges as (inside, outside, length), none for minidock's own.
    """

    network: str = "none"
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    user: str = "host"
    cgroup: str = "private"
    user_ids: list[tuple[int, int, int]] = field(default_factory=list)
    group_ids: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Spec:
    """One container, complete. Paths are absolute; *created* is RFC 3339 with nanoseconds, UTC."""

    id: str  # 64 hexadecimal digits
    name: str
    image: str  # as the user typed it
    image_id: str  # "sha256:…", the digest of the image's config
    layers: list[str]  # diff ids, bottom first; of a layer that a build just made, the path of its tree
    created: str
    arguments: list[str]  # entrypoint + command: what is executed
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    working_directory: str = "/"
    user: str = ""  # "name", "uid", "name:group", "uid:gid"
    hostname: str = ""  # empty: the short id
    domain_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10  # seconds
    auto_remove: bool = False
    init: bool = False
    group_add: list[str] = field(default_factory=list)
    ulimits: dict[str, tuple[int, int]] = field(default_factory=dict)  # {"nofile": (soft, hard)}
    sysctls: dict[str, str] = field(default_factory=dict)
    shm_size: int = 64 << 20  # bytes
    oom_score_adj: int = 0
    mounts: list[Mount] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    security: Security = field(default_factory=Security)
    namespaces: Namespaces = field(default_factory=Namespaces)
    wiring: Wiring = field(default_factory=Wiring)
    log_driver: str = "json-file"  # or "none"
    log_options: dict[str, str] = field(default_factory=dict)  # {"max-size": "10m", "max-file": "3"}
    restart_policy: str = "no"  # see restart.py
    restart_retries: int = 0  # of on-failure; 0 is without end
    shell: list[str] = field(default_factory=list)  # the image's SHELL, for health checks; empty: /bin/sh -c
    health_check: dict[str, Any] = field(default_factory=dict)  # as in an image's config; see health.py
    exposed_ports: list[str] = field(default_factory=list)  # "80/tcp"
    volumes: list[str] = field(default_factory=list)  # VOLUME paths of the image
    # Of a build's container: the directory whose lock the builder holds. It lives no longer than that.
    owner: str = ""
    volumes_from: list[str] = field(default_factory=list)  # as typed: "name" or "name:ro"
    # What was asked for and changes nothing here: inspect shows it again. {"Runtime": "runc"}
    only_shown: dict[str, str] = field(default_factory=dict)
    student_layers: str = ""  # absolute MINIDOCK_LAYERS, recorded because sudo strips the environment

    def trees(self, root: Path) -> list[Path]:
        """The extracted layers below the state *root*, topmost first, as overlayfs wants them.

        A layer may come twice in an image, for example an empty one. overlayfs refuses that with ELOOP,
        and the lower of the two shows nothing: whatever it has or hides, the upper one has or hides.
        """
        # An absolute path replaces what stands before it: a build's own layers are elsewhere.
        names = (name.removeprefix("sha256:") for name in reversed(self.layers))
        return list(dict.fromkeys(root / "layers" / name for name in names))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Spec:
        """Read ``config.json``; keys that a later version wrote are ignored."""
        known = {each.name for each in fields(cls)}
        spec = cls(**{key: item for key, item in value.items() if key in known})
        spec.mounts = [Mount(**item) for item in value.get("mounts", [])]
        spec.limits = Limits(**value.get("limits", {}))
        spec.security = Security(**value.get("security", {}))
        spec.namespaces = Namespaces(**value.get("namespaces", {}))
        spec.wiring = Wiring.from_json(value.get("wiring", {}))
        spec.ulimits = {key: (soft, hard) for key, (soft, hard) in value.get("ulimits", {}).items()}
        return spec
