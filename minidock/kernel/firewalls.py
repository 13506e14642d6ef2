"""Other firewalls on this machine: a Docker or firewalld beside us must not drop what we let through.

The kernel asks every table at a hook, and a packet passes only if *all* of them accept it. Docker sets
iptables' FORWARD policy to drop, firewalld rejects what comes from interfaces that it does not know. So our
bridges are made known there; who may talk to whom is still decided in our own table (nat.py), which drops
what it does not want. Where there is no such firewall nothing is changed.
"""

from __future__ import annotations

import os

from minidock import trace
from minidock.kernel.door import request

_DIRECTIONS = ("-i", "-o")


@trace.mechanism(lesson=11)
def open_for(bridge: str) -> None:
    """Let another firewall on this machine pass on what comes from and goes to our bridge."""
    for program in ("iptables", "ip6tables"):
        chain = _chain(program)
        if chain is None:
            continue
        for direction in _DIRECTIONS:
            if _run(program, "-w", "-C", chain, direction, bridge, "-j", "ACCEPT")[0]:
                with request(program, chain=chain, rule=f"{direction} {bridge} -j ACCEPT"):
                    _run(program, "-w", "-I", chain, direction, bridge, "-j", "ACCEPT")
    if _firewalld():
        with request("firewall-cmd", zone="trusted", interface=bridge):
            _trust("add", bridge)


def close_for(bridge: str) -> None:
    """Take back what :func:`open_for` did."""
    for program in ("iptables", "ip6tables"):
        for chain in ("DOCKER-USER", "FORWARD"):
            rules = _run(program, "-S", chain)[1] if _path(program) else ""
            for direction in _DIRECTIONS:
                if f"-A {chain} {direction} {bridge} -j ACCEPT" in rules:
                    _run(program, "-w", "-D", chain, direction, bridge, "-j", "ACCEPT")
    if _firewalld():
        _trust("remove", bridge)


def drops_forwarded() -> str | None:
    """The iptables chain in which our bridges must be made known; None when nothing there drops packets."""
    return _chain("iptables")


def _chain(program: str) -> str | None:
    """Where a rule of ours has to stand: Docker asks DOCKER-USER first, and leaves what is in it alone."""
    if not _path(program):
        return None
    rules = _run(program, "-S")[1].splitlines()
    if "-N DOCKER-USER" in rules and any(rule.startswith("-A FORWARD -j DOCKER-USER") for rule in rules):
        return "DOCKER-USER"
    return "FORWARD" if "-P FORWARD DROP" in rules else None


def _firewalld() -> bool:
    bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket")
    return os.path.exists(bus.removeprefix("unix:path=")) and _run("firewall-cmd", "--state")[0] == 0


def _trust(change: str, bridge: str) -> None:
    """In what firewalld does now, and in what it reads at a reload, which forgets all else."""
    for when in ([], ["--permanent"]):
        _run("firewall-cmd", *when, "--zone=trusted", f"--{change}-interface={bridge}")


def _path(program: str) -> str | None:
    for directory in [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/bin"]:
        if directory and os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    return None


def _run(program: str, *words: str) -> tuple[int, str]:
    """(exit code, output); 127 when there is no such program."""
    import subprocess

    path = _path(program)
    if path is None:
        return 127, ""
    done = subprocess.run(
        [path, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout
