"""The verbs: which module of the command line knows each, and which group spells it how."""

from __future__ import annotations

from minidock.cli import flags
from minidock.cli.flags import Command, Flag
from minidock.errors import MinidockError

# verb -> the module of minidock.cli that defines it
VERBS = {
    "attach": "streams",
    "build": "build",
    "commit": "build",
    "compose": "compose",
    "cp": "cp",
    "create": "run",
    "df": "disk",
    "diff": "inspecting",
    "doctor": "health",
    "events": "events",
    "exec": "streams",
    "explain": "explain",
    "export": "archives",
    "history": "images",
    "images": "images",
    "import": "archives",
    "info": "system",
    "inspect": "inspecting",
    "kill": "lifecycle",
    "load": "archives",
    "login": "registry",
    "logout": "registry",
    "logs": "streams",
    "pause": "lifecycle",
    "prune": "system",
    "port": "network",
    "ps": "ps",
    "pull": "registry",
    "push": "registry",
    "rename": "lifecycle",
    "reset": "health",
    "restart": "lifecycle",
    "resume": "lifecycle",
    "rm": "lifecycle",
    "rmi": "images",
    "run": "run",
    "save": "archives",
    "search": "registry",
    "serve": "serve",
    "start": "lifecycle",
    "stats": "stats",
    "stop": "lifecycle",
    "tag": "images",
    "top": "inspecting",
    "unpause": "lifecycle",
    "update": "lifecycle",
    "version": "system",
    "wait": "lifecycle",
}
_OF_CONTAINERS = (
    "attach commit cp create diff export exec kill logs pause port rename restart rm run start stats stop "
    "top unpause update wait"
)
_OF_LABS = "board check hint list reset start"
_OF_NETWORKS = "connect create disconnect inspect ls prune rm show"
_OF_IMAGES = "build history import load pull push save tag"
# "container ls" -> the verb that does it
GROUPS: dict[str, dict[str, str]] = {
    "container": {
        **{name: name for name in _OF_CONTAINERS.split()},
        "ls": "ps",
        "list": "ps",
        "ps": "ps",
        "inspect": "container inspect",
        "prune": "container prune",
    },
    "image": {
        **{name: name for name in _OF_IMAGES.split()},
        "ls": "images",
        "list": "images",
        "rm": "rmi",
        "remove": "rmi",
        "inspect": "image inspect",
        "prune": "image prune",
        "tree": "image tree",
    },
    "lab": {name: f"lab {name}" for name in _OF_LABS.split()},
    "network": {
        **{name: f"network {name}" for name in _OF_NETWORKS.split()},
        "list": "network ls",
        "remove": "network rm",
    },
    "builder": {"build": "build", "prune": "builder prune"},
    "system": {"df": "df", "events": "events", "info": "info", "prune": "prune"},
    "volume": {
        "create": "volume create",
        "inspect": "volume inspect",
        "list": "volume ls",
        "ls": "volume ls",
        "prune": "volume prune",
        "remove": "volume rm",
        "rm": "volume rm",
    },
}
GROUP_VERBS = {
    "container inspect": "inspecting",
    "image inspect": "inspecting",
    "builder prune": "build",
    "container prune": "system",
    "image prune": "system",
    **{f"lab {name}": "lab" for name in _OF_LABS.split()},
    **{f"network {name}": "network" for name in _OF_NETWORKS.split()},
    "network show": "network_show",
    "image tree": "image_tree",
    "volume create": "volumes",
    "volume inspect": "volumes",
    "volume ls": "volumes",
    "volume prune": "volumes",
    "volume rm": "volumes",
}
GROUP_SUMMARIES = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "lab": "Build the engine's layers yourself: the course's labs",
    "network": "Manage networks",
    "system": "Manage minidock",
    "volume": "Manage volumes",
}
GLOBAL_FLAGS = (
    Flag("root", help="Directory of images and containers (default /var/lib/minidock; MINIDOCK_ROOT)"),
    Flag("config", help="Configuration file (default /etc/minidock/daemon.json; MINIDOCK_CONFIG)"),
    Flag("layers", help="Directory of your own layers of the engine (MINIDOCK_LAYERS)"),
    flags.boolean("debug", "D", "Show where an error comes from"),
    flags.boolean("version", "v", "Print version information and quit"),
)


def find(verb: str, *words: str) -> tuple[Command, list[str]]:
    """The command behind ``images -q`` or ``image ls -q``, and the words that follow it.

    Only the one module that defines it is imported. Raises MinidockError for an unknown verb.
    """
    typed = key = verb
    rest = list(words)
    if verb in GROUPS and rest:
        typed, key, rest = f"{verb} {rest[0]}", GROUPS[verb].get(rest[0], ""), rest[1:]
    if key not in VERBS and key not in GROUP_VERBS:
        raise _unknown(typed)
    command = load(key)
    placeholders = command.usage.removeprefix(flags.verb_of(command))
    command.usage = typed + placeholders  # as it was typed: `image ls`, not `images`
    return command, rest


def load(key: str) -> Command:
    """Import the module of ``images`` or ``image prune`` and return its command."""
    module = VERBS.get(key) or GROUP_VERBS[key]
    command: Command = __import__(f"minidock.cli.{module}", fromlist=["COMMANDS"]).COMMANDS[key]
    return command


def _unknown(typed: str) -> MinidockError:
    import difflib

    group, _, name = typed.rpartition(" ")
    close = difflib.get_close_matches(name, list(GROUPS[group] if group else [*VERBS, *GROUPS]), n=1)
    hint = f"See 'minidock {group + ' ' if group else ''}--help'."
    if close:
        hint = f"Did you mean '{close[0]}'? {hint}"
    return MinidockError(f"'{typed}' is not a minidock command.", hint=hint, exit_code=1)
