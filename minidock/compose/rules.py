"""What may stand in a compose file: every key, and the kinds of its value. checks.py applies it.

Source: Compose specification, 03-compose-file.md to 11-extension.md, and its JSON schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Is:
    """A single value: *kinds* of text, int, number, bool, none; one of *choices*; or matching *pattern*."""

    kinds: str
    choices: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Each:
    """A list whose items follow *item*."""

    item: Rule
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping with just these keys (and, unless *strict*, ``x-…``)."""

    keys: dict[str, Rule]
    required: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """A mapping from names of the user's choice, which match *pattern*."""

    value: Rule
    pattern: str = ".+"


@dataclass(frozen=True, slots=True)
class Or:
    """The one of *rules* that fits the value's shape: at most one mapping, one list, one single value."""

    rules: tuple[Rule, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Anything:
    """Not looked into."""


Rule = Any  # one of the classes above

TEXT, BOOL, INT, NUMBER = Is("text"), Is("bool text"), Is("int text"), Is("number text")
NAME = r"[a-zA-Z0-9._-]+"
TEXTS = Each(TEXT, unique=True)
TEXT_OR_LIST = Or((TEXT, TEXTS))
PAIRS = Or((Names(Is("text number bool none")), TEXTS))
COMMAND = Or((Is("none text"), Each(TEXT)))
HOSTS = Or((Names(Or((TEXT, Each(TEXT)))), TEXTS))
OPTIONS = Names(Is("text number"))
ULIMITS = Names(Or((INT, Keys({"hard": INT, "soft": INT}, ("soft", "hard")))), "[a-z]+")
GRANTS = Each(Or((TEXT, Keys({"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": NUMBER}))))
_GPU = {"capabilities": TEXTS, "count": INT, "device_ids": TEXTS, "driver": TEXT, "options": PAIRS}
_IO_LIMITS = Each(Keys({"path": TEXT, "rate": INT}, strict=True))
_IO_WEIGHTS = Each(Keys({"path": TEXT, "weight": INT}, strict=True))
_HOOKS = Each(
    Keys(
        {"command": COMMAND, "user": TEXT, "privileged": BOOL, "working_dir": TEXT, "environment": PAIRS},
        ("command",),
    )
)

BUILD = Keys(
    {
        **dict.fromkeys(
            ("context", "dockerfile", "dockerfile_inline", "network", "target", "isolation"), TEXT
        ),
        **dict.fromkeys(("args", "ssh", "labels", "additional_contexts"), PAIRS),
        **dict.fromkeys(("cache_from", "cache_to", "entitlements", "tags", "platforms"), Each(TEXT)),
        **dict.fromkeys(("no_cache", "pull", "privileged", "provenance", "sbom"), BOOL),
        "shm_size": INT,
        "extra_hosts": HOSTS,
        "secrets": GRANTS,
        "ulimits": ULIMITS,
    }
)
HEALTHCHECK = Keys(
    {
        "disable": BOOL,
        "test": Or((TEXT, Each(TEXT))),
        "retries": NUMBER,
        **dict.fromkeys(("interval", "timeout", "start_period", "start_interval"), TEXT),
    }
)
_DISCRETE = Keys({"discrete_resource_spec": Keys({"kind": TEXT, "value": NUMBER})})
_ROLL = Keys(
    {
        "parallelism": INT,
        "failure_action": TEXT,
        "max_failure_ratio": NUMBER,
        "order": Is("text", ("start-first", "stop-first")),
        **dict.fromkeys(("delay", "monitor"), TEXT),
    }
)
DEPLOY = Keys(
    {
        "mode": TEXT,
        "endpoint_mode": TEXT,
        "replicas": INT,
        "labels": PAIRS,
        "rollback_config": _ROLL,
        "update_config": _ROLL,
        "resources": Keys(
            {
                "limits": Keys({"cpus": NUMBER, "memory": TEXT, "pids": INT}),
                "reservations": Keys(
                    {
                        "cpus": NUMBER,
                        "memory": TEXT,
                        "generic_resources": Each(_DISCRETE),
                        "devices": Each(Keys(_GPU, ("capabilities",))),
                    }
                ),
            }
        ),
        "restart_policy": Keys({"condition": TEXT, "delay": TEXT, "max_attempts": INT, "window": TEXT}),
        "placement": Keys(
            {
                "constraints": Each(TEXT),
                "preferences": Each(Keys({"spread": TEXT})),
                "max_replicas_per_node": INT,
            }
        ),
    }
)
PORT = Keys(
    {
        **dict.fromkeys(("name", "mode", "host_ip", "protocol", "app_protocol"), TEXT),
        "target": INT,
        "published": INT,
    }
)
MOUNT = Keys(
    {
        "type": Is("text", ("bind", "volume", "tmpfs", "cluster", "npipe", "image")),
        **dict.fromkeys(("source", "target", "consistency"), TEXT),
        "read_only": BOOL,
        "bind": Keys(
            {
                "propagation": TEXT,
                "create_host_path": BOOL,
                "recursive": Is("text", ("enabled", "disabled", "writable", "readonly")),
                "selinux": Is("text", ("z", "Z")),
            }
        ),
        "volume": Keys({"labels": PAIRS, "nocopy": BOOL, "subpath": TEXT}),
        "tmpfs": Keys({"size": INT, "mode": NUMBER}),
        "image": Keys({"subpath": TEXT}),
    },
    ("type",),
)
ATTACHMENT = Keys(
    {
        **dict.fromkeys(("interface_name", "ipv4_address", "ipv6_address", "mac_address"), TEXT),
        **dict.fromkeys(("aliases", "link_local_ips"), TEXTS),
        **dict.fromkeys(("priority", "gw_priority"), Is("number")),
        "driver_opts": OPTIONS,
    }
)
DEPENDENCY = Keys(
    {
        "restart": BOOL,
        "required": BOOL,
        "condition": Is("text", ("service_started", "service_healthy", "service_completed_successfully")),
    },
    ("condition",),
)
ENV_FILE = Or(
    (TEXT, Each(Or((TEXT, Keys({"path": TEXT, "format": TEXT, "required": BOOL}, ("path",), strict=True)))))
)

SERVICE = Keys(
    {
        **dict.fromkeys(
            (
                *("cgroup_parent", "cpuset", "domainname", "hostname", "image", "ipc", "isolation"),
                *("mac_address", "network_mode", "platform", "pull_refresh_after", "restart", "runtime"),
                *("stop_grace_period", "stop_signal", "user", "userns_mode", "uts", "working_dir"),
            ),
            TEXT,
        ),
        **dict.fromkeys(
            (*("attach", "init", "oom_kill_disable", "privileged", "read_only", "stdin_open", "tty"),),
            BOOL,
        ),
        **dict.fromkeys(
            ("cpu_count", "cpu_percent", "mem_reservation", "mem_swappiness", "oom_score_adj", "scale"), INT
        ),
        **dict.fromkeys(
            (
                *("cpu_shares", "cpu_quota", "cpu_period", "cpu_rt_period", "cpu_rt_runtime", "cpus"),
                *("mem_limit", "memswap_limit", "pids_limit", "shm_size"),
            ),
            NUMBER,
        ),
        **dict.fromkeys(("annotations", "environment", "labels", "sysctls"), PAIRS),
        **dict.fromkeys(
            (
                *("cap_add", "cap_drop", "device_cgroup_rules", "dns_opt", "external_links", "links"),
                *("profiles", "security_opt", "volumes_from"),
            ),
            TEXTS,
        ),
        **dict.fromkeys(("dns", "dns_search", "tmpfs"), TEXT_OR_LIST),
        **dict.fromkeys(("expose", "group_add"), Each(Is("text number"), unique=True)),
        **dict.fromkeys(("command", "entrypoint"), COMMAND),
        **dict.fromkeys(("configs", "secrets"), GRANTS),
        **dict.fromkeys(("post_start", "pre_stop"), _HOOKS),
        "build": Or((TEXT, BUILD)),
        "blkio_config": Keys(
            {
                **dict.fromkeys(
                    ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"),
                    _IO_LIMITS,
                ),
                "weight": INT,
                "weight_device": _IO_WEIGHTS,
            },
            strict=True,
        ),
        "cgroup": Is("text", ("host", "private")),
        "container_name": Is("text", pattern=r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
        "credential_spec": Keys({"config": TEXT, "file": TEXT, "registry": TEXT}),
        "depends_on": Or((TEXTS, Names(DEPENDENCY, NAME))),
        "deploy": Or((DEPLOY, Is("none"))),
        "develop": Anything(),
        "devices": Each(Or((TEXT, Keys({"source": TEXT, "target": TEXT, "permissions": TEXT}, ("source",))))),
        "env_file": ENV_FILE,
        "extends": Or((TEXT, Keys({"service": TEXT, "file": TEXT}, ("service",), strict=True))),
        "extra_hosts": HOSTS,
        "gpus": Or((Is("text", ("all",)), Each(Keys(_GPU)))),
        "healthcheck": HEALTHCHECK,
        "label_file": Or((TEXT, Each(TEXT))),
        "logging": Keys({"driver": TEXT, "options": Names(Is("text number none"))}),
        "models": Or((TEXTS, Names(Keys({"endpoint_var": TEXT, "model_var": TEXT}), NAME))),
        "networks": Or((TEXTS, Names(Or((ATTACHMENT, Is("none"))), NAME))),
        "pid": Is("text none"),
        "ports": Each(Or((Is("text number"), PORT)), unique=True),
        "provider": Keys({"type": TEXT, "options": Anything()}, ("type",)),
        "pull_policy": Is(
            "text",
            pattern=r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+",
        ),
        "storage_opt": Anything(),
        "ulimits": ULIMITS,
        "use_api_socket": Is("bool"),
        "volumes": Each(Or((TEXT, MOUNT)), unique=True),
    }
)

EXTERNAL = Or((BOOL, Keys({"name": TEXT})))
_POOL = Keys(
    {
        **dict.fromkeys(("subnet", "ip_range", "gateway"), TEXT),
        "aux_addresses": Names(TEXT),
    }
)
NETWORK = Keys(
    {
        **dict.fromkeys(("name", "driver"), TEXT),
        **dict.fromkeys(("internal", "enable_ipv4", "enable_ipv6", "attachable"), BOOL),
        "driver_opts": OPTIONS,
        "ipam": Keys({"driver": TEXT, "config": Each(_POOL), "options": Names(TEXT)}),
        "external": EXTERNAL,
        "labels": PAIRS,
    }
)
VOLUME = Keys({"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": EXTERNAL, "labels": PAIRS})
_GIVEN = {
    **dict.fromkeys(("name", "environment", "file", "template_driver"), TEXT),
    "external": EXTERNAL,
    "labels": PAIRS,
}
SECRET = Keys({**_GIVEN, "driver": TEXT, "driver_opts": OPTIONS})
CONFIG = Keys({**_GIVEN, "content": TEXT})
INCLUDE = Or(
    (
        TEXT,
        Keys(
            {"path": TEXT_OR_LIST, "env_file": TEXT_OR_LIST, "project_directory": TEXT},
            strict=True,
        ),
    )
)
FILE = Keys(
    {
        "version": Is("text number"),  # compose takes and ignores it
        "name": TEXT,
        "include": Each(INCLUDE),
        "services": Names(SERVICE, NAME),
        "models": Anything(),
        "networks": Names(Or((NETWORK, Is("none"))), NAME),
        "volumes": Names(Or((VOLUME, Is("none"))), NAME),
        "secrets": Names(SECRET, NAME),
        "configs": Names(CONFIG, NAME),
    }
)
