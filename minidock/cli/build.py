"""``minidock build``, ``commit``, ``builder prune``: images made here."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from minidock import human, notation
from minidock.cli.context import Context, confirmed, say
from minidock.cli.flags import Command, Flag, UsageError, Values, boolean, integer, repeated
from minidock.errors import InvalidInput

_LIMITS = (
    Flag("memory", "m", "bytes", "Memory limit", None, notation.size),
    Flag("memory-swap", "", "bytes", "Memory plus swap: '-1' for unlimited swap", None, notation.swap_size),
    Flag("cpu-period", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) period", None, integer),
    Flag("cpu-quota", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota", None, integer),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)", None, integer),
    Flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)"),
)


def build(context: Context, values: Values, arguments: list[str]) -> int:
    """Build an image from a Dockerfile."""
    from minidock import build_page

    if values["progress"] not in ("auto", "plain", "tty", "quiet"):
        raise UsageError(f"invalid progress mode {values['progress']}", hint="auto, plain, tty or quiet")
    quiet = values["quiet"] or values["progress"] == "quiet"
    page = build_page.Page(
        _write,
        say,
        quiet=quiet,
        explain=values["explain"],
        colours=values["progress"] == "tty" or (values["progress"] == "auto" and sys.stdout.isatty()),
    )
    limits = {flag.name.replace("-", "_"): values[flag.name] for flag in _LIMITS if values[flag.name]}
    pulls = _Pulls(quiet)

    def show(event: Any) -> None:
        pulls.end()
        page.show(event)

    try:
        built = context.engine.build(
            arguments[0],
            dockerfile=values["file"],
            stdin=sys.stdin.buffer,
            tags=values["tag"],
            target=values["target"] or "",
            build_args=_build_args(values["build-arg"]),
            labels=dict(map(notation.assignment, values["label"])),
            use_cache=not values["no-cache"],
            cache_from=_listed(values["cache-from"]),
            pull=values["pull"],
            platform=values["platform"] or "",
            network=values["network"] or "",
            add_host=values["add-host"],
            secrets=values["secret"],
            squash=values["squash"],
            explain=values["explain"],
            shm_size=values["shm-size"],
            ulimits=dict(values["ulimit"]),
            on_event=show,
            progress=pulls.show,
            **limits,
        )
    except BaseException as error:
        pulls.end()
        page.failed()
        if isinstance(error, KeyboardInterrupt):
            say("minidock: the build was stopped; what was finished is in the cache")
        raise
    if values["iidfile"]:
        with open(values["iidfile"], "w") as file:
            file.write(built.id)
    if quiet:
        print(built.id)
    return 0


class _Pulls:
    """Shows the pulls of base images, which come before all steps. Mostly there are none."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._stack = quiet, ExitStack()
        self._show: Any = None

    def show(self, event: Any) -> None:
        if self._show is None:
            from minidock.cli import progress

            self._show = self._stack.enter_context(progress.showing(self._quiet))
        self._show(event)

    def end(self) -> None:
        self._stack.close()
        self._show = None


def _write(text: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _build_args(texts: list[str]) -> dict[str, str]:
    """``A=1``; ``A`` alone takes the value that our own environment has, if it has one."""
    entries = (notation.variable(text) for text in texts)
    return dict(entry.partition("=")[::2] for entry in entries if entry is not None)


def _listed(texts: list[str]) -> list[str]:
    return [name for text in texts for name in text.split(",") if name]


def commit(context: Context, values: Values, arguments: list[str]) -> int:
    """Make an image of a container; prints its id."""
    image = context.engine.commit(
        arguments[0],
        "".join(arguments[1:]),
        message=values["message"] or "",
        author=values["author"] or "",
        changes=values["change"],
        pause=values["pause"],
    )
    print(image.id)
    return 0


_BUILDS = "WARNING! This will remove all build cache."


def builder_prune(context: Context, values: Values, arguments: list[str]) -> int:
    """Forget what builds remember."""
    if not confirmed(_BUILDS, values["force"]):
        return 0
    _, freed = context.engine.prune_builds()
    print(f"Total reclaimed space: {human.size(freed)}")
    return 0


def _refuse(why: str) -> Any:
    def convert(_: str) -> None:
        raise InvalidInput(why)

    return convert


COMMANDS = {
    "build": Command(
        "build [OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        build,
        (
            *_LIMITS,
            repeated("add-host", help="Add a custom host-to-IP mapping (host:ip)"),
            repeated("build-arg", help="Set build-time variables"),
            repeated("cache-from", help="Images to consider as cache sources", kind="strings"),
            Flag("cgroup-parent", convert=_refuse("minidock does not have it"), help="(not in minidock)"),
            boolean("compress", help="(accepted: nothing is sent anywhere)"),
            boolean("disable-content-trust", help="Skip image verification", default=True),
            boolean("explain", help="Show each instruction as container, change and commit"),
            Flag("file", "f", help="Name of the Dockerfile (default is 'PATH/Dockerfile')"),
            boolean("force-rm", help="Always remove intermediate containers (they are)"),
            Flag("iidfile", help="Write the image ID to the file"),
            repeated("label", help="Set metadata for an image"),
            Flag("network", help="Set the networking mode for the RUN instructions during build"),
            boolean("no-cache", help="Do not use cache when building the image"),
            Flag("platform", help="Set platform if server is multi-platform capable"),
            Flag("progress", help="Set type of progress output (auto, plain, tty, quiet)", default="auto"),
            boolean("pull", help="Always attempt to pull a newer version of the image"),
            boolean("quiet", "q", "Suppress the build output and print image ID on success"),
            boolean("rm", help="Remove intermediate containers (they are)", default=True),
            repeated("secret", help="Secret file to expose to the build: id=mysecret,src=/local/secret"),
            Flag("shm-size", "", "bytes", "Size of /dev/shm", None, notation.size),
            boolean("squash", help="Squash newly built layers into a single new layer"),
            repeated("tag", "t", "Name and optionally a tag in the 'name:tag' format"),
            Flag("target", help="Set the target build stage to build"),
            repeated("ulimit", help="Ulimit options", kind="ulimit", convert=notation.ulimit),
        ),
        least=1,
        most=1,
    ),
    "commit": Command(
        "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        commit,
        (
            Flag("author", "a", help='Author (e.g., "Ada <ada@example.org>")'),
            repeated("change", "c", "Apply Dockerfile instruction to the created image"),
            Flag("message", "m", help="Commit message"),
            boolean("pause", "p", "Pause container during commit", default=True),
        ),
        least=1,
        most=2,
    ),
    "builder prune": Command(
        "builder prune [OPTIONS]",
        "Remove build cache",
        builder_prune,
        (boolean("all", "a", "(all of it goes in any case)"), boolean("force", "f", "Do not prompt")),
        most=0,
    ),
}
