"""The flags of ``run`` and ``create``, and what they mean to the engine."""

from __future__ import annotations

from typing import Any

from minidock import mount_notation, notation
from minidock.cli.flags import Flag, UsageError, Values, boolean, integer, repeated
from minidock.errors import InvalidInput, MinidockError

FLAGS = (
    repeated("add-host", help="Add a custom host-to-IP mapping (host:ip)"),
    repeated("annotation", help="Add an annotation to the container", kind="map"),
    repeated("attach", "a", "Attach to STDIN, STDOUT or STDERR"),
    repeated("cap-add", help="Add Linux capabilities"),
    repeated("cap-drop", help="Drop Linux capabilities"),
    Flag("cgroupns", help="Cgroup namespace to use (host|private)"),
    Flag("cidfile", help="Write the container ID to the file"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period", None, integer),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota", None, integer),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)", None, integer),
    Flag("cpus", "", "decimal", "Number of CPUs", None, notation.processors),
    Flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)"),
    Flag("detach-keys", help="Override the key sequence for detaching a container"),
    repeated("device", help="Add a host device to the container", convert=notation.device),
    repeated("device-cgroup-rule", help="Add a rule to the cgroup allowed devices list"),
    repeated("dns", help="Set custom DNS servers"),
    repeated("dns-option", help="Set DNS options"),
    repeated("dns-search", help="Set custom DNS search domains"),
    boolean("disable-content-trust", help="Skip image verification", default=True),
    Flag("domainname", help="Container NIS domain name"),
    Flag("entrypoint", help="Overwrite the default ENTRYPOINT of the image"),
    repeated("env", "e", "Set environment variables"),
    repeated("env-file", help="Read in a file of environment variables"),
    repeated("expose", help="Expose a port or a range of ports"),
    repeated("group-add", help="Add additional groups to join"),
    Flag("hostname", "h", help="Container host name"),
    boolean("init", help="Run an init inside the container that forwards signals and reaps processes"),
    boolean("interactive", "i", "Keep STDIN open even if not attached"),
    Flag("ip", help="IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", help="IPv6 address (e.g., 2001:db8::33)"),
    Flag("ipc", help="IPC mode to use"),
    Flag("isolation", help="Container isolation technology"),
    repeated("label", "l", "Set meta data on a container"),
    repeated("label-file", help="Read in a line delimited file of labels"),
    repeated("link", help="Add link to another container"),
    repeated("link-local-ip", help="Container IPv4/IPv6 link-local addresses"),
    Flag("log-driver", help="Logging driver for the container"),
    repeated("log-opt", help="Log driver options", convert=notation.assignment),
    Flag("mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("memory", "m", "bytes", "Memory limit", None, notation.size),
    Flag("memory-reservation", "", "bytes", "Memory soft limit", None, notation.size),
    Flag("memory-swap", "", "bytes", "Memory plus swap: '-1' for unlimited swap", None, notation.swap_size),
    Flag("memory-swappiness", "", "int", "Tune container memory swappiness (0 to 100)", None, integer),
    repeated(
        "mount", help="Attach a filesystem mount to the container", kind="mount", convert=mount_notation.mount
    ),
    Flag("name", help="Assign a name to the container"),
    Flag("health-cmd", help="Command to run to check health"),
    Flag(
        "health-interval",
        "",
        "duration",
        "Time between running the check (ms|s|m|h)",
        None,
        notation.duration,
    ),
    Flag("health-retries", "", "int", "Consecutive failures needed to report unhealthy", None, integer),
    Flag(
        "health-start-interval",
        "",
        "duration",
        "Time between checks in the start period",
        None,
        notation.duration,
    ),
    Flag(
        "health-start-period",
        "",
        "duration",
        "Time for the container to start before failures count",
        None,
        notation.duration,
    ),
    Flag("health-timeout", "", "duration", "Maximum time to allow one check to run", None, notation.duration),
    repeated("network", help="Connect a container to a network, none, host or container:ID", kind="network"),
    repeated("network-alias", help="Add network-scoped alias for the container"),
    boolean("no-healthcheck", help="Disable any container-specified HEALTHCHECK"),
    boolean("oom-kill-disable", help="Disable OOM Killer"),
    Flag("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)", None, integer),
    Flag("pid", help="PID namespace to use"),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)", None, integer),
    Flag("platform", help="Set platform if server is multi-platform capable"),
    boolean("privileged", help="Give extended privileges to this container"),
    repeated("publish", "p", "Publish a container's port(s) to the host"),
    boolean("publish-all", "P", "Publish all exposed ports to random ports"),
    Flag("pull", help='Pull image before running ("always", "missing", "never")', default="missing"),
    boolean("quiet", "q", "Suppress the pull output"),
    boolean("read-only", help="Mount the container's root filesystem as read only"),
    Flag("restart", help="Restart policy to apply when a container exits"),
    boolean("rm", help="Automatically remove the container when it exits"),
    Flag("runtime", help="Runtime to use for this container"),
    repeated("security-opt", help="Security Options"),
    Flag("shm-size", "", "bytes", "Size of /dev/shm", None, notation.size),
    Flag("stop-signal", help="Signal to stop the container", convert=notation.signal_name),
    Flag("stop-timeout", "", "int", "Timeout (in seconds) to stop a container", None, integer),
    repeated("sysctl", help="Sysctl options", kind="map", convert=notation.assignment),
    repeated("tmpfs", help="Mount a tmpfs directory", convert=mount_notation.tmpfs),
    boolean("tty", "t", "Allocate a pseudo-TTY"),
    repeated("ulimit", help="Ulimit options", kind="ulimit", convert=notation.ulimit),
    Flag("user", "u", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("userns", help="User namespace to use (host|private)"),
    Flag("uts", help="UTS namespace to use"),
    repeated("volume", "v", "Bind mount a volume", convert=mount_notation.volume),
    Flag("volume-driver", help="Optional volume driver for the container"),
    repeated("volumes-from", help="Mount volumes from the specified container(s)"),
    Flag("workdir", "w", help="Working directory inside the container"),
)

# Flags of Docker that minidock does not have: never ignored in silence.
_MISSING = (
    "blkio-weight blkio-weight-device cgroup-parent cpu-rt-period cpu-rt-runtime device-read-bps "
    "device-read-iops device-write-bps device-write-iops gpus kernel-memory storage-opt use-api-socket"
)


def _refuse(_: str) -> None:
    raise InvalidInput("minidock does not have it")


MISSING_FLAGS = tuple(Flag(name, help="(not in minidock)", convert=_refuse) for name in _MISSING.split())


def engine_options(values: Values) -> dict[str, Any]:
    """The keyword arguments of ``engine.create``: what was typed, under Docker's names with ``_`` for ``-``.

    Raises UsageError for flags that contradict each other or that minidock does not have.
    """
    _check(values)
    skipped = _HANDLED_HERE | {flag.name for flag in MISSING_FLAGS}
    options = {
        flag.name.replace("-", "_"): values[flag.name]
        for flag in FLAGS
        if flag.name not in skipped and values[flag.name] not in (None, []) and values[flag.name] is not False
    }
    environment = [entry for file in values["env-file"] for entry in notation.variables_file(file)]
    for text in values["env"]:
        entry = notation.variable(text)
        if entry is not None:
            environment.append(entry)
    labels = [line for file in values["label-file"] for line in notation.labels_file(file)] + values["label"]
    if environment:
        options["env"] = environment
    if labels:
        options["label"] = dict(map(notation.assignment, labels))
    return options


_HANDLED_HERE = {
    "annotation",
    "attach",
    "cidfile",
    "detach-keys",
    "disable-content-trust",
    "env",
    "env-file",
    "label",
    "label-file",
    "pull",
    "platform",
    "quiet",
}


def _check(values: Values) -> None:
    if values["restart"] not in (None, "no", "") and values["rm"]:
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if values["pull"] not in ("always", "missing", "never"):
        raise UsageError(
            f'invalid pull option: \'{values["pull"]}\': must be one of "always", "missing" or "never"'
        )
    if values["cpus"] and (values["cpu-quota"] or values["cpu-period"]):
        raise UsageError("Conflicting options: CPUs and CPU Period or Quota cannot both be set")
    for name in values["attach"]:
        if name.lower() not in ("stdin", "stdout", "stderr"):
            raise UsageError(
                f'invalid argument "{name}" for "-a, --attach" flag: '
                "valid streams are STDIN, STDOUT and STDERR"
            )
    for entry in values["security-opt"]:
        if entry.partition("=")[0] not in _SECURITY and entry.partition(":")[0] not in _SECURITY:
            raise MinidockError(f"invalid --security-opt: {entry!r}", hint=f"Known: {', '.join(_SECURITY)}.")


_SECURITY = ("apparmor", "label", "no-new-privileges", "seccomp", "systempaths")
