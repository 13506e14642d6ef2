"""The cgroup that belongs to a container: found by the container's id, made and cleared by its shim."""

from __future__ import annotations

import contextlib
from pathlib import Path

from minidock import files
from minidock.containers.spec import Spec
from minidock.kernel import cgroups


def create(root: Path, spec: Spec) -> cgroups.Cgroup:
    """Make the cgroup and set its limits and device rules, all before a process is in it."""
    cgroup = cgroups.Cgroup.create(spec.id, cgroups.parent_for(root))
    cgroup.apply(**files.fields_of(spec.limits))
    from minidock.kernel import devices

    security = spec.security
    devices.apply(cgroup, security.devices, security.privileged, security.device_rules)
    return cgroup


def find(root: Path, identifier: str) -> cgroups.Cgroup:
    """The cgroup of a container, as it is now (it may be gone)."""
    return cgroups.Cgroup.open(identifier, cgroups.parent_for(root))


def clear(root: Path, identifier: str) -> None:
    """Kill what is left in a container's cgroup and remove it; nothing happens when it is gone."""
    cgroup = find(root, identifier)
    # What cannot be removed now, doctor names later; a student's layer may raise anything.
    with contextlib.suppress(Exception):
        cgroup.kill()
        cgroup.remove()
