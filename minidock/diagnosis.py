"""`doctor`, first half: is this machine able to run containers?

Nothing is believed that can be tried. What a try would change in the caller (namespaces, mounts) is tried
in a process of its own: this file, run as a program, as the caller may be a Jupyter kernel with threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # started by path, with an empty environment: the library stands beside us
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minidock import files
from minidock.config import Config
from minidock.errors import MinidockError

SCRATCH = "minidock-doctor."  # how the names of directories for trials begin
OLDEST_KERNEL = (5, 12)  # mount_setattr(2); openat2(2) came with 5.6, pidfds with 5.3
WANTED_CAPABILITIES = {
    "SYS_ADMIN": "mounts and namespaces",
    "NET_ADMIN": "networks",
    "MKNOD": "device nodes of images",
    "CHOWN": "owners of files in images",
    "SETUID": "--user",
    "SYS_RESOURCE": "--ulimit above the present limits, and --oom-score-adj below 0",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of doctor: *level* is ok, warn or fail; *hint* says what to do (empty when all is well)."""

    level: str
    topic: str
    found: str
    hint: str = ""


def machine(config: Config) -> Iterator[Finding]:
    """Check the machine, from the ground up."""
    yield _user()
    yield _kernel()
    yield _tried(_cgroups, "cgroups")
    yield _tried(lambda: _limits(config.root), "limits")
    yield from _probes(config.root)
    yield _capabilities()
    yield _seccomp()
    yield _network_filter()
    yield _forwarding()
    yield _settings(config.root)
    yield _init()
    yield _disk(config.root)
    yield from _mirrors(config)


def _tried(check: Callable[[], Finding], topic: str) -> Finding:
    try:
        return check()
    except (MinidockError, OSError) as error:
        return Finding("fail", topic, str(error), getattr(error, "hint", None) or "")


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding("ok", "user", "root")
    return Finding("fail", "user", f"uid {os.geteuid()}", "Put sudo before the command.")


def _kernel() -> Finding:
    host = os.uname()
    numbers = tuple(int(part) for part in host.release.replace("-", ".").split(".")[:2] if part.isdigit())
    shown = f"{host.sysname} {host.release}, {host.machine}"
    if numbers < OLDEST_KERNEL:
        wanted = ".".join(map(str, OLDEST_KERNEL))
        return Finding("fail", "kernel", shown, f"Linux {wanted} or newer is needed.")
    if host.machine not in ("x86_64", "aarch64"):
        return Finding("fail", "kernel", shown, "minidock knows x86_64 and aarch64.")
    return Finding("ok", "kernel", shown)


def _cgroups() -> Finding:
    from minidock.kernel import cgroup_tree, cgroups

    version = cgroups.detect()
    have = set(cgroup_tree.hierarchies()[1])
    if version == "v2":
        have = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()) | {"freezer", "devices"}
    missing = {"cpu", "cpuset", "memory", "pids"} - have
    if missing:
        names = ", ".join(sorted(missing))
        return Finding("warn", "cgroups", f"{version}, without {names}", "Limits on these will be refused.")
    return Finding("ok", "cgroups", f"{version}: {', '.join(sorted(have))}")


def _limits(root: Path) -> Finding:
    """Make a cgroup, limit it, remove it."""
    from minidock.kernel import cgroups

    parent = cgroups.parent_for(root)
    trial = cgroups.Cgroup.create(f"doctor-{os.getpid()}", parent)
    try:
        trial.apply(memory=64 << 20, pids=16)
        return Finding("ok", "limits", "made a cgroup with limits on memory and processes, and removed it")
    finally:
        trial.remove()
        cgroups.remove_parent(parent)


# ---- tried in a process of its own ------------------------------------------------------------------

PROBES = ("namespaces", "user namespaces", "overlay")


def _probes(root: Path) -> Iterator[Finding]:
    import subprocess

    near = next(path for path in (root, *root.parents) if path.is_dir())
    for killed in files.abandoned(near, SCRATCH):
        files.remove_tree(killed)
    for probe in PROBES:
        with files.scratch(near, SCRATCH) as scratch:
            done = subprocess.run(
                [sys.executable, "-IS", __file__, probe, scratch],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        text, _, hint = done.stdout.strip().partition("\n")
        level = "ok" if done.returncode == 0 else "warn" if probe == "user namespaces" else "fail"
        yield Finding(level, probe, text, hint)


def probe_namespaces(scratch: Path) -> str:
    from minidock.kernel import namespaces

    kinds = [kind for kind in namespaces.KINDS if kind != "user"]
    namespaces.create(kinds)
    return f"can make {', '.join(sorted(kinds))}"


def probe_user_namespaces(scratch: Path) -> str:
    from minidock.kernel import namespaces

    namespaces.create(["user"])
    return "can make user namespaces"


def probe_overlay(scratch: Path) -> str:
    """Two layers and a writable one, where the engine keeps its state; then delete a file of a layer."""
    from minidock.kernel import namespaces, overlay, rootfs

    namespaces.create(["mnt"])
    rootfs.isolate_mounts()
    bottom, top, upper, work, merged = (scratch / name for name in ("a", "b", "upper", "work", "merged"))
    for directory in (bottom, top, upper, work, merged):
        directory.mkdir()
    (bottom / "file").write_text("bottom")
    (top / "file").write_text("top")
    overlay.mount_overlay([top, bottom], merged, upper, work)
    if (merged / "file").read_text() != "top":
        raise MinidockError("overlay shows the wrong layer")
    (merged / "file").unlink()
    if not overlay.is_whiteout(upper / "file"):
        raise MinidockError(
            "overlay made no whiteout for a deleted file", hint="Put the data-root on ext4, xfs or btrfs."
        )
    return f"works on the filesystem of {scratch.parent}"


# ---- looked up --------------------------------------------------------------------------------------


def _capabilities() -> Finding:
    from minidock.kernel import capabilities

    here = capabilities.available()
    missing = {name: use for name, use in WANTED_CAPABILITIES.items() if f"CAP_{name}" not in here}
    if not missing:
        return Finding("ok", "capabilities", "all that containers need")
    level = "warn" if set(missing) == {"SYS_RESOURCE"} else "fail"
    shown = ", ".join(f"CAP_{name}" for name in missing)
    return Finding(level, "capabilities", f"without {shown}", f"Will fail: {'; '.join(missing.values())}.")


def _seccomp() -> Finding:
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return Finding(
            "fail", "seccomp", "not in this kernel", "Start with --security-opt seccomp=unconfined."
        )
    return Finding("ok", "seccomp", f"filters can {', '.join(actions)}")


def _network_filter() -> Finding:
    import shutil

    if shutil.which("nft"):
        return Finding("ok", "nftables", "nft is installed")
    return Finding("warn", "nftables", "no nft command", "apt install nftables (bridge networks need it).")


def _forwarding() -> Finding:
    """A Docker or firewall on the same host may drop what our bridges forward."""
    import shutil
    import subprocess

    if shutil.which("iptables"):
        shown = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True)
        if "-P FORWARD DROP" in shown.stdout:
            return Finding(
                "warn",
                "forwarding",
                "iptables drops forwarded packets (a Docker on this host does that)",
                "Bridge networks open their own way there when they are made. If the other came later: "
                "minidock network rm, and create it again.",
            )
    return Finding("ok", "forwarding", "no rule drops forwarded packets")


def _settings(root: Path) -> Finding:
    """What minidock changed on the whole machine."""
    from minidock.containers import forwarding

    changed = forwarding.changed(root)
    if not changed:
        return Finding("ok", "settings", "none of the machine is changed")
    shown = ", ".join(f"{name} was {value}" for name, value in changed.items())
    return Finding(
        "ok",
        "settings",
        shown,
        "Containers need it to reach others. Nothing passes between the machine's own interfaces; "
        "`minidock reset` sets it back.",
    )


def _init() -> Finding:
    import shutil

    program = shutil.which("tini-static")
    if program:
        return Finding("ok", "init", program)
    return Finding("warn", "init", "no tini-static", "apt install tini (run --init needs it).")


def _disk(root: Path) -> Finding:
    near = next(path for path in (root, *root.parents) if path.is_dir())
    status = os.statvfs(near)
    free = status.f_bavail * status.f_frsize
    shown = f"{free / 2**30:.1f} GiB free at {near}"
    if free < 1 << 30:
        return Finding("warn", "disk", shown, "Images need room: minidock system prune, or move data-root.")
    return Finding("ok", "disk", shown)


def _mirrors(config: Config) -> Iterator[Finding]:
    """Ask every configured mirror whether it is a living registry."""
    from minidock.images import mirrors
    from minidock.images.registry import Registry
    from minidock.images.session import Session

    if not config.registry_mirrors:
        yield Finding("ok", "mirror", "none configured: images come from Docker Hub")
    for endpoint in mirrors.endpoints("docker.io", config):
        if not endpoint.mirror:
            continue
        try:
            Registry(Session(endpoint, connect_timeout=mirrors.MIRROR_TIMEOUT)).ping()
        except (MinidockError, OSError) as error:
            start = "Is it running? `sudo make setup` starts the course's registry."
            yield Finding("warn", "mirror", f"{endpoint.url}: {error}", start)
        else:
            yield Finding("ok", "mirror", f"{endpoint.url} answers")


if __name__ == "__main__":
    _, wanted, place = sys.argv
    try:
        print(globals()[f"probe_{wanted.replace(' ', '_')}"](Path(place)))
    except MinidockError as failure:
        print(failure.message.replace("\n", " "), failure.hint or "", sep="\n")
        sys.exit(1)
