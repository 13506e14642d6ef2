"""From a wish to a specification: what the user asked for, what the image says, what Docker would do.

The image gives defaults (command, environment, user, …), the user overrides them, Docker's rules fill the
rest. The result is a :class:`Spec`, complete: starting it needs neither the image's config nor the user.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidock import limits, network_options, notation, storage
from minidock.build import dockerfile
from minidock.containers import logs, names, restart, timestamps
from minidock.containers.spec import Namespaces, Security, Spec
from minidock.errors import InvalidInput
from minidock.images.image import Image

# What create and run understand, under Docker's long names with "_" for "-". Values may be text as on the
# command line ("64m") or what it stands for (67108864).
KNOWN = """
    add_host cap_add cap_drop cgroupns cpu_period cpu_quota cpu_shares cpus cpuset_cpus cpuset_mems device
    device_cgroup_rule dns dns_option dns_search domainname entrypoint env expose group_add health_cmd
    health_interval health_retries health_start_interval health_start_period health_timeout hostname init
    interactive ip ip6 ipc isolation label link link_local_ip log_driver log_opt mac_address memory
    memory_reservation memory_swap memory_swappiness mount name network network_alias no_healthcheck
    oom_kill_disable oom_score_adj pid pids_limit privileged publish publish_all read_only restart rm runtime
    security_opt shm_size stdin_once stop_signal stop_timeout sysctl tmpfs tty ulimit user userns uts volume
    volume_driver volumes_from workdir
"""

Options = dict[str, Any]
FindContainer = Callable[[str], str]  # name or id → long id (of a network: its name)


def specification(
    image: Image,
    reference: str,
    command: list[str] | None,
    options: Options,
    find_container: FindContainer,
    find_network: FindContainer,
    spec_of: storage.SpecOf,
    student_layers: str = "",
    userns_remap: str = "",
) -> Spec:
    """Everything that decides how a container starts.

    *reference* is the image as typed, *command* None for the image's own, *userns_remap* as in
    daemon.json. Raises InvalidInput for options that are unknown, malformed or contradict each other;
    NotFound for a container or network that they name.
    """
    check_known(options)
    settings = image.settings
    entrypoint, words = _what_to_run(settings, options.get("entrypoint"), command)
    policy, retries = restart.parse(options.get("restart") or "no")
    if policy != "no" and options.get("rm"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")
    wiring = network_options.wiring(options, find_container, find_network)
    directory = options.get("workdir") or settings.get("WorkingDir") or "/"
    if not directory.startswith("/"):
        raise InvalidInput(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    return Spec(
        id=os.urandom(32).hex(),
        name=names.check(options["name"]) if options.get("name") else "",
        image=reference,
        image_id=image.id,
        layers=image.diff_ids,
        created=timestamps.now(),
        arguments=entrypoint + words,
        entrypoint=entrypoint,
        command=words,
        environment=_environment(settings.get("Env") or [], options.get("env") or []),
        working_directory=directory,
        user=options.get("user") or settings.get("User") or "",
        hostname=_hostname(options),
        domain_name=options.get("domainname") or "",
        labels={**(settings.get("Labels") or {}), **_pairs(options.get("label"))},
        tty=bool(options.get("tty")),
        open_stdin=bool(options.get("interactive")),
        stdin_once=bool(options.get("stdin_once")),
        stop_signal=notation.signal_name(
            options.get("stop_signal") or settings.get("StopSignal") or "SIGTERM"
        ),
        stop_timeout=_given(options, "stop_timeout", 10),
        auto_remove=bool(options.get("rm")),
        init=bool(options.get("init")),
        group_add=list(map(str, options.get("group_add") or [])),
        ulimits=_ulimits(options.get("ulimit")),
        sysctls=_pairs(options.get("sysctl")),
        shm_size=notation.parsed(options.get("shm_size"), notation.size) or 64 << 20,
        oom_score_adj=_oom_score(options.get("oom_score_adj") or 0),
        mounts=storage.mounts(options, settings.get("Volumes") or {}, spec_of),
        limits=limits.wanted(options),
        security=_security(options),
        namespaces=_namespaces(options, find_container, find_network, userns_remap),
        wiring=wiring,
        log_driver=_log_driver(options),
        log_options=logs.check_options(_pairs(options.get("log_opt"))),
        restart_policy=policy,
        restart_retries=retries,
        shell=settings.get("Shell") or [],
        health_check=_health_check(settings.get("Healthcheck") or {}, options),
        exposed_ports=sorted(
            {
                *_exposed_ports(settings, options),
                *(f"{each.port}/{each.protocol}" for each in wiring.publish),
            }
        ),
        volumes=sorted(settings.get("Volumes") or {}),
        volumes_from=list(options.get("volumes_from") or []),
        only_shown=_only_shown(options),
        student_layers=student_layers,
    )


def check_known(options: Options) -> None:
    """Raise InvalidInput for an option that create does not know, naming the nearest."""
    known = KNOWN.split()
    for name in options:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."
            raise InvalidInput(f"create: unknown option {name!r}", hint=hint)


def _what_to_run(
    settings: dict[str, Any], entrypoint: str | list[str] | None, command: list[str] | None
) -> tuple[list[str], list[str]]:
    """A new entrypoint drops the image's command: that was meant for the image's entrypoint."""
    if isinstance(entrypoint, str):
        entrypoint = [entrypoint] if entrypoint else []
    entry, words = dockerfile.what_runs(
        settings.get("Entrypoint") or [], settings.get("Cmd") or [], command or [], entrypoint
    )
    if not entry and not words:
        raise InvalidInput("no command specified", hint="The image has none either: give one after its name.")
    return entry, words


def _environment(of_image: list[str], of_user: list[str] | dict[str, str]) -> list[str]:
    """The user's variables, then those of the image that they do not replace. The last word wins."""
    if isinstance(of_user, dict):
        of_user = [f"{name}={value}" for name, value in of_user.items()]
    merged = {entry.partition("=")[0]: entry for entry in of_user}
    for entry in of_image:
        merged.setdefault(entry.partition("=")[0], entry)
    return list(merged.values())


def _hostname(options: Options) -> str:
    name: str = options.get("hostname") or ""
    if name and options.get("uts") == "host":
        raise InvalidInput("conflicting options: hostname and the UTS mode")
    if not name and (options.get("uts") == "host" or options.get("network") in ("host", ["host"])):
        return os.uname().nodename
    return name


def _security(options: Options) -> Security:
    security = Security(
        privileged=bool(options.get("privileged")),
        cap_add=list(options.get("cap_add") or []),
        cap_drop=list(options.get("cap_drop") or []),
        read_only_root=bool(options.get("read_only")),
        devices=[notation.device(text) for text in options.get("device") or []],
        device_rules=_device_rules(options),
        options=list(options.get("security_opt") or []),
    )
    for text in security.options:
        key, value = _security_option(text)
        if key == "no-new-privileges":
            security.no_new_privileges = value in ("", "true", "1")
        elif key == "seccomp":
            security.seccomp = _seccomp(value)
        elif key == "systempaths" and value == "unconfined":
            security.masked_paths, security.readonly_paths = [], []
        elif key == "apparmor" and value != "unconfined":
            raise InvalidInput(
                f"minidock has no AppArmor profile {value!r}", hint="Only apparmor=unconfined is known."
            )
        elif key not in ("apparmor", "label"):  # no SELinux either: its labels change nothing
            raise InvalidInput(f'invalid --security-opt 2: "{text}"')
    return security


def _security_option(text: str) -> tuple[str, str]:
    """``"seccomp=x"`` or, the older spelling, ``"seccomp:x"``."""
    separator = "=" if "=" in text else ":"
    key, _, value = text.partition(separator)
    return key, value


def _seccomp(value: str) -> str:
    if value in ("unconfined", "default", "builtin"):
        return "default" if value == "builtin" else value
    if value.lstrip().startswith("{"):
        return value
    try:
        return Path(value).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text file"
        raise InvalidInput(f"opening seccomp profile ({value}) failed: {why.lower()}") from None


def _namespaces(
    options: Options, find_container: FindContainer, find_network: FindContainer, userns_remap: str
) -> Namespaces:
    def chosen(option: str, default: str, *allowed: str) -> str:
        value: str = options.get(option) or default
        if value in (default, *allowed):
            return value
        kind, colon, name = value.partition(":")
        if kind == "container" and colon and option not in ("uts", "userns", "cgroupns"):
            return f"container:{find_container(name)}"
        raise InvalidInput(
            f"--{option}: invalid {option} mode: {value}",
            hint=f"Modes: {', '.join(dict.fromkeys((default, *allowed)))}.",
        )

    spaces = Namespaces(
        network=network_options.mode(options, find_container, find_network),
        pid=chosen("pid", "private", "host"),
        ipc=chosen("ipc", "private", "host", "shareable", "none"),
        uts=chosen("uts", "private", "host"),
        user=chosen("userns", "private" if userns_remap else "host", "host", "private"),
        cgroup=chosen("cgroupns", "private", "host"),
    )
    if spaces.user == "private":
        from minidock.containers import subordinate

        what = subordinate.why_not(spaces, bool(options.get("privileged")))
        if what:
            raise InvalidInput(what, hint="--userns host gives this container none.")
        if userns_remap:
            spaces.user_ids, spaces.group_ids = subordinate.ranges(userns_remap)
    return spaces


def _device_rules(options: Options) -> list[str]:
    rules = list(options.get("device_cgroup_rule") or [])
    if rules:
        from minidock.kernel import devices

        devices.rules_from(rules)
    return rules


def _only_shown(options: Options) -> dict[str, str]:
    """There is one runtime here, one kind of isolation, and no volume driver but ours."""
    runtime, isolation = options.get("runtime") or "", options.get("isolation") or ""
    if runtime not in ("", "runc", "minidock"):
        raise InvalidInput(f"unknown or invalid runtime name: {runtime}", hint="minidock is its own runtime.")
    if isolation not in ("", "default"):
        raise InvalidInput(
            f"invalid isolation {isolation!r} on linux", hint="On Linux there is only default."
        )
    wanted = {"Runtime": runtime, "Isolation": isolation, "VolumeDriver": options.get("volume_driver") or ""}
    return {key: value for key, value in wanted.items() if value}


def _log_driver(options: Options) -> str:
    driver: str = options.get("log_driver") or "json-file"
    if driver not in ("json-file", "none"):
        raise InvalidInput(
            f"logger: no log driver named '{driver}' is registered", hint="minidock has json-file and none."
        )
    return driver


_HEALTH_TIMES = {
    "health_interval": "Interval",
    "health_timeout": "Timeout",
    "health_start_period": "StartPeriod",
    "health_start_interval": "StartInterval",
}


def _health_check(of_image: dict[str, Any], options: Options) -> dict[str, Any]:
    """The image's health check, changed by the user's flags; as in an image's config."""
    if options.get("no_healthcheck"):
        if any(options.get(key) for key in ("health_cmd", "health_retries", *_HEALTH_TIMES)):
            raise InvalidInput("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    check = dict(of_image)
    if options.get("health_cmd"):
        command = options["health_cmd"]
        check["Test"] = ["CMD-SHELL", command] if isinstance(command, str) else ["CMD", *command]
    for option, key in _HEALTH_TIMES.items():
        if options.get(option) is not None:
            seconds = notation.parsed(options[option], notation.duration)
            if seconds < 0 or 0 < seconds < 0.001:
                raise InvalidInput(f"{key} in Healthcheck cannot be less than 1ms")
            check[key] = round(seconds * 1e9)
    if options.get("health_retries") is not None:
        if int(options["health_retries"]) < 0:
            raise InvalidInput("--health-retries cannot be negative")
        check["Retries"] = int(options["health_retries"])
    return check


def _ulimits(value: Any) -> dict[str, tuple[int, int]]:
    items = value.items() if isinstance(value, dict) else value or []
    return dict(notation.ulimit(item) if isinstance(item, str) else item for item in items)


def _pairs(value: Any) -> dict[str, str]:
    """Options such as --label: a dictionary, or ``["a=b"]``, or ``[("a", "b")]``."""
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    return dict(notation.assignment(item) if isinstance(item, str) else item for item in value or [])


def _exposed_ports(settings: dict[str, Any], options: Options) -> list[str]:
    more = (port for text in options.get("expose") or [] for port in notation.exposed_ports(str(text)))
    return sorted({*(settings.get("ExposedPorts") or {}), *more})


def _oom_score(value: int) -> int:
    if not -1000 <= value <= 1000:
        raise InvalidInput(f"Invalid value {value}, range for oom score adj is [-1000, 1000]")
    return value


def _given(options: Options, name: str, default: int) -> int:
    value = options.get(name)
    return default if value is None else int(value)
